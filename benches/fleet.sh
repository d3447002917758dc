#!/bin/bash
# Measures what a large host asks of vmbackup: a session of many idle VMs, and a look at a large backup tree.
#
#   FLEET_VMS=20        VMs of a session, paused, with nothing changed since their full
#   FLEET_FOLDERS=1000  VM folders of the tree, FLEET_PERIODS=100 periods in each
#   FLEET_RUNS=5        runs of each measurement; the median counts
#
# Exit code 1 when a limit is not kept. Wants the release build with the feature test-doors: `make bench-fleet` sees to it.
# shellcheck disable=SC2016 # backquotes are Markdown
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root

die() {
	printf 'bench: %s\n' "$*" >&2
	exit 1
}
say() { printf 'bench: %s\n' "$*" >&2; }
# shellcheck source=scripts/lab-host.sh
. "$root/scripts/lab-host.sh"
# shellcheck source=benches/measure.sh
. "$root/benches/measure.sh"
keep_environment+=(FLEET_VMS FLEET_FOLDERS FLEET_PERIODS FLEET_RUNS)
become_root "$@"

readonly vms=${FLEET_VMS:-20} folders=${FLEET_FOLDERS:-1000} periods=${FLEET_PERIODS:-100} runs=${FLEET_RUNS:-5}
readonly bin=${CARGO_TARGET_DIR:-$root/target}/release
readonly work=$IMAGES/vmbackup-bench-fleet

name_of() { echo "vmbackup-bench-$1"; }
name_in_tree() { echo "vmbackup-bench-tree-$1"; }

cleanup() {
	local status=$? number
	trap '' INT TERM HUP
	set +e
	for ((number = 1; number <= vms; number++)); do (remove_vm "$(name_of "$number")") >/dev/null 2>&1; done
	[[ ! -d $work/host ]] || remove_host >/dev/null 2>&1
	rm -rf "$work"
	forbid_socket
	end_daemons
	exit "$status"
}

start_vms() {
	local number image
	for ((number = 1; number <= vms; number++)); do
		image=$work/images/$number.qcow2
		qemu-img create -q -f qcow2 "$image" 64M
		qemu-io -f qcow2 -c 'write -q -P 7 0 1M' "$image" >/dev/null
		define_vm "$(name_of "$number")" 16 '' "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
			<source file='$image'/><target dev='vda' bus='virtio'/></disk>" >/dev/null
		host_virsh start --paused "$(name_of "$number")" >/dev/null
	done
}

configure() {
	printf '%s="%s"\n' BACKUP_PATH "$1/" VIRTNBD_SCRATCH_DIR "$work" TARGET_RESERVE_PERCENT 1 TARGET_RESERVE_GIB 1 \
		PARALLEL_VMS "${2:-2}" PROCESS_PRIORITY 0 LOG_LEVEL WARN >"$work/config/default/vmbackup.conf"
}

vmbackup() { measure "$bin/vmbackup" --config-dir "$work/config" "$@"; }

measure_sessions() {
	local names run parallel
	names=$(seq "$vms" | sed 's/^/vmbackup-bench-/' | paste -sd,)
	mkdir "$work/backups"
	configure "$work/backups"
	vmbackup --run --vm "$names"
	for ((run = 1; run <= runs; run++)); do
		for parallel in 2 1; do
			configure "$work/backups" "$parallel"
			vmbackup --run --vm "$names"
			note "session-$parallel" "$seconds"
			echo "$peak_kib" >>"$work/session.kib"
			say "session, $parallel at once: $seconds s, $((peak_kib / 1024)) MiB"
		done
	done
	row "session of $vms idle VMs, 2 at once" "$(time_of session-2) s" "under 3 s" "$(time_of session-2) < 3"
	row "the same, one after another" "$(time_of session-1) s" "at most 5 s" "$(time_of session-1) <= 5"
}

# A host of as many VMs as the tree has, all shut off. Their disks are on a network, so that the images of this machine, of
# which there are none, are not part of it.
write_host() {
	local number
	mkdir "$work/host"
	for ((number = 1; number <= folders; number++)); do
		printf "<domain type='qemu'><name>%s</name><memory>16384</memory><os><type>hvm</type></os><devices>
			<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='nbd' name='x'>
			<host name='h'/></source><target dev='vda' bus='virtio'/></disk></devices></domain>\n" \
			"$(name_in_tree "$number")" >"$work/host/$number.xml"
		echo "define $work/host/$number.xml"
	done >"$work/define"
	host_virsh <"$work/define" >/dev/null
	printf '%s="%s"\n' DEFAULT_ROTATION_POLICY daily RETENTION_DAYS "$periods" >>"$work/config/default/vmbackup.conf"
}

remove_host() {
	local number
	for ((number = 1; number <= folders; number++)); do echo "undefine $(name_in_tree "$number")"; done | host_virsh
}

measure_plan() {
	local run
	write_host
	for ((run = 0; run <= runs; run++)); do
		VMBACKUP_TEST_NOW=$(date -d "2026-01-01 + $((periods - 1)) days" +%Y-%m-%dT12:00:00Z) vmbackup --run --dry-run
		((run > 0)) || continue
		note plan "$seconds"
		echo "$peak_kib" >>"$work/plan.kib"
	done
	row "planning $folders VMs with $periods periods each" "$(time_of plan) s" "under 2 s" "$(time_of plan) < 2"
	row "its peak memory" "$(($(sort -n "$work/plan.kib" | tail -n 1) / 1024)) MiB" "under 100 MiB" \
		"$(sort -n "$work/plan.kib" | tail -n 1) < 102400"
}

# A real set in each folder, and in its periods by hard links (a file system has a limit on those of one file): the
# folders cost inodes and little data.
make_tree() {
	local from folder period days=() dirs
	from=$(find "$work/backups/vmbackup-bench-1" -mindepth 1 -maxdepth 1 -type d | head -n 1)
	say "making a tree of $folders VMs with $periods periods each"
	for ((period = 0; period < periods; period++)); do days+=("$(date -d "2026-01-01 + $period days" +%Y%m%d)"); done
	for ((folder = 1; folder <= folders; folder++)); do
		dirs=("${days[@]/#/$work/tree/$(name_in_tree "$folder")/}")
		mkdir -p "${dirs[@]}"
		cp -a "$from/vda.full.data" "$from/vda.full.data.chksum" "${dirs[0]}/"
		for period in "${dirs[@]:1}"; do ln "${dirs[0]}"/* "$period/"; done
	done
	configure "$work/tree"
}

measure_tree() {
	local run peak
	for ((run = 0; run <= runs; run++)); do
		vmbackup --prune list
		((run > 0)) || continue # the first one reads the folders from the disk
		note list "$seconds"
		echo "$peak_kib" >>"$work/tree.kib"
	done
	peak=$(sort -n "$work/tree.kib" | tail -n 1)
	row '`--prune list` of that tree' "$(time_of list) s" "under 2 s" "$(time_of list) < 2"
	row "its peak memory" "$((peak / 1024)) MiB" "under 100 MiB" "$peak < 102400"
	row "peak memory of a session" "$(($(sort -n "$work/session.kib" | tail -n 1) / 1024)) MiB" "256 MiB" \
		"$(sort -n "$work/session.kib" | tail -n 1) < 262144"
}

trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
[[ -x $bin/vmbackup ]] || die "no release build: cargo build --release --features test-doors"
rm -rf "$work"
mkdir -p "$work/images" "$work/config/default"
begin_daemons
allow_socket
start_vms
measure_sessions
make_tree
measure_tree
measure_plan
printf '\n%s\n%s' "$(machine)" "$rows"
if ((failed_rows > 0)); then die "$failed_rows limits are not kept"; fi
