#!/bin/bash
# Measures vmbackup beside the distribution's virtnbdbackup on one throw-away VM, and prints a Markdown table.
#
#   BENCH_GIB=5.9    size of the file-system data on the VM's disk; the disk is twice as large, at least 1 GiB
#   BENCH_RUNS=3     full backups of each program, taken in turns; the median counts
#   BENCH_IDLE=15    incremental backups with nothing to copy; the median counts
#   BENCH_DIR        where the image and the backups go, about four times BENCH_GIB (default: libvirt's images folder)
#
# The data are the files of this machine's /usr and /opt, on an ext4 file system in a qcow2 image. The VM runs no
# guest code while fulls are measured. Both programs use LZ4 level 1 and one checkpoint; their times are those of the
# whole program, ours with all data synced to the disk. Peak memory is that of the process (VmHWM, by /usr/bin/time).
# Wants the release build and `scripts/install-deps.sh lab`: `make bench` sees to both.
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
keep_environment+=(BENCH_GIB BENCH_RUNS BENCH_IDLE BENCH_DIR)
become_root "$@"

readonly gib=${BENCH_GIB:-5.9} runs=${BENCH_RUNS:-3} idle_runs=${BENCH_IDLE:-15}
readonly bin=${CARGO_TARGET_DIR:-$root/target}/release
readonly VM=vmbackup-bench
readonly work=${BENCH_DIR:-$IMAGES}/vmbackup-bench
readonly image=$work/vda.qcow2

cleanup() {
	local status=$?
	trap '' INT TERM HUP
	set +e
	(remove_vm "$VM")
	rm -rf "$work"
	forbid_socket
	end_daemons
	exit "$status"
}

# --- the data -------------------------------------------------------------------------------------------------

bytes_of_gib() { awk -v gib="$1" 'BEGIN { printf "%.0f", gib * 1024 * 1024 * 1024 }'; }

# Copies files of this machine into a folder until the size is reached; starts over when there are too few.
collect_files() {
	local to=$1 want=$2 have=0 pass=0 before
	while ((have < want)); do
		pass=$((pass + 1)) before=$have
		mkdir -p "$to/$pass"
		find /usr /opt -xdev -type f -size -256M -printf '%s\t%p\0' 2>/dev/null |
			awk -v RS='\0' -v left="$((want - have))" -F '\t' \
				'left <= 0 { exit } { left -= 4096 * int(($1 + 4095) / 4096); sub(/^[0-9]+\t/, ""); printf "%s%c", $0, 0 }' |
			cpio --null --quiet -pdm "$to/$pass" 2>/dev/null || true
		have=$(du -s --block-size=1 "$to" | cut -f1)
		((have > before)) || die "cannot copy files from /usr"
	done
	passes=$pass
}

make_image() {
	local want disk
	want=$(bytes_of_gib "$gib")
	disk=$((want * 2 / 1048576 * 1048576))
	if ((disk < 1024 * 1024 * 1024)); then disk=$((1024 * 1024 * 1024)); fi
	say "copying $gib GiB of files from /usr and /opt"
	collect_files "$work/files" "$want"
	say "making a $((disk / 1048576)) MiB disk of them"
	truncate -s "$disk" "$work/ext4.raw"
	mkfs.ext4 -q -F -d "$work/files" "$work/ext4.raw"
	rm -rf "$work/files"
	qemu-img convert -f raw -O qcow2 "$work/ext4.raw" "$image"
	rm "$work/ext4.raw"
	allocated=$(qemu-img info --output=json "$image" | sed -n 's/^ *"actual-size": \([0-9]*\).*/\1/p' | tail -n 1)
}

# --- measuring ------------------------------------------------------------------------------------------------

# Runs a command. Leaves its wall seconds in $seconds and its peak memory in $peak_kib.
measure() {
	local said=$work/said
	/usr/bin/time -f '%e %M' -o "$work/time" "$@" >"$said" 2>&1 || die "failed: $* -- $(tail -n 3 "$said")"
	read -r seconds peak_kib <"$work/time"
}

median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
highest() { sort -n | tail -n 1; }

# Both programs begin without checkpoints, with an empty target, a warm cache and nothing left to write back.
fresh() {
	local checkpoint
	for checkpoint in $(host_virsh checkpoint-list "$VM" --name); do
		host_virsh checkpoint-delete "$VM" "$checkpoint" >/dev/null
	done
	rm -rf "$work/ours" "$work/theirs"
	mkdir -p "$work/ours"
	cat "$image" >/dev/null
	sync
}

vmbackup() { measure "$bin/vmbackup" --config-dir "$work/config" --run --vm "$VM"; }

measure_fulls() {
	local run
	for ((run = 1; run <= runs; run++)); do
		fresh
		vmbackup
		echo "$seconds" >>"$work/ours.s"
		echo "$peak_kib" >>"$work/ours.kib"
		ours_bytes=$(stat -c %s "$work/ours/$VM"/*/vda.full.data)
		say "full $run: vmbackup $seconds s, $((peak_kib / 1024)) MiB"
		fresh
		measure virtnbdbackup -d "$VM" -l full -z 1 --noprogress -S "$work" -o "$work/theirs"
		echo "$seconds" >>"$work/theirs.s"
		echo "$peak_kib" >>"$work/theirs.kib"
		theirs_bytes=$(stat -c %s "$work/theirs"/vda.full.data)
		say "full $run: virtnbdbackup -z 1 $seconds s, $((peak_kib / 1024)) MiB"
	done
}

# A VM that runs and writes nothing. GNU time is too coarse here, so the clock is ours.
measure_idle() {
	local run begin end
	fresh
	host_virsh resume "$VM"
	vmbackup
	for ((run = 1; run <= idle_runs; run++)); do
		begin=$(date +%s%N)
		vmbackup
		end=$(date +%s%N)
		echo $(((end - begin) / 1000000)) >>"$work/idle.ms"
		echo "$peak_kib" >>"$work/idle.kib"
	done
	[[ -e $(echo "$work/ours/$VM"/*)/vda.inc.virtnbdbackup.$idle_runs.data ]] || die "the idle runs made no increments"
	say "idle incremental: $(median <"$work/idle.ms") ms"
}

# --- the table ------------------------------------------------------------------------------------------------

mib() { awk -v bytes="$1" 'BEGIN { printf "%.0f MiB", bytes / 1048576 }'; }
from_kib() { awk -v kib="$1" 'BEGIN { printf "%.0f MiB", kib / 1024 }'; }
rate() { awk -v bytes="$allocated" -v s="$1" 'BEGIN { printf "%.0f MiB/s", bytes / 1048576 / s }'; }
all() { sort -n "$1" | tr '\n' ' ' | sed 's/ $//'; }
package() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null || echo unknown; }

print_table() {
	local ours theirs
	ours=$(median <"$work/ours.s") theirs=$(median <"$work/theirs.s")
	cat <<-END
		| what | vmbackup | virtnbdbackup $(virtnbdbackup --version 2>&1 | tail -n 1) | |
		|---|---|---|---|
		| full, $(mib "$allocated") allocated, LZ4 level 1 | $ours s ($(rate "$ours")) | $theirs s ($(rate "$theirs")) | $(awk -v a="$theirs" -v b="$ours" 'BEGIN { printf "%.1f", a / b }') times as fast |
		| its size | $(mib "$ours_bytes") | $(mib "$theirs_bytes") | |
		| peak memory of the full | $(from_kib "$(highest <"$work/ours.kib")") | $(from_kib "$(highest <"$work/theirs.kib")") | |
		| incremental of an idle VM | $(median <"$work/idle.ms") ms | | |

		Medians of $runs fulls of each program in turns ($(all "$work/ours.s") s against $(all "$work/theirs.s") s) and of $idle_runs incrementals ($(all "$work/idle.ms") ms), each the time of the whole program.
		Data: files of /usr and /opt$( ((passes == 1)) || echo ", taken $passes times") on ext4 in a qcow2 image.
		Machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, $(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo) memory, Linux $(uname -r), QEMU $(package qemu-system-x86), libvirt $(package libvirt0), $(date -u +%Y-%m-%d).
	END
}

[[ -x $bin/vmbackup ]] || die "no release build in $bin: run make bench"
exec 8>/run/vmbackup-bench.lock
flock -n 8 || die "another benchmark is running"
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
# A daemon must not inherit the lock.
begin_daemons 8>&-
allow_socket
remove_vm "$VM"
rm -rf "$work"
mkdir -p "$work/config/default"
chmod 755 "$work"
printf '%s="%s"\n' BACKUP_PATH "$work/ours/" VIRTNBD_COMPRESS_LEVEL 1 VIRTNBD_SCRATCH_DIR "$work" \
	TARGET_RESERVE_PERCENT 1 TARGET_RESERVE_GIB 1 >"$work/config/default/vmbackup.conf"
make_image
define_vm "$VM" 64 '' "$(disk_xml vda "$image")"
host_virsh start --paused "$VM"
measure_fulls
measure_idle
print_table
