#!/bin/bash
# Measures vmbackup and vmstream beside the distribution's virtnbdbackup, and prints a Markdown table with limits.
#
#   BENCH_GIB=5.9    size of the file-system data on the VM's disk
#   BENCH_RUNS=5     runs of each measurement, those of different programs in turns; the median counts
#   BENCH_SLOW=3     the same for what takes a minute each: level 4
#   BENCH_IDLE=15    incremental backups with nothing to copy; the median counts
#   BENCH_DIR        where the image and the backups go, about four times BENCH_GIB (default: libvirt's images folder)
#
# The data are the files of this machine's /usr and /opt, on an ext4 file system in a qcow2 image. The VM runs no
# guest code while fulls are measured. Times are those of the whole program, ours with all data synced to the disk.
# Exit code 1 when a limit is not kept. Wants the release build and `scripts/install-deps.sh lab`: `make bench` sees
# to both.
# shellcheck disable=SC2016,SC2317 # backquotes are Markdown; cleanup is a trap
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
keep_environment+=(BENCH_GIB BENCH_RUNS BENCH_SLOW BENCH_IDLE BENCH_DIR)
become_root "$@"

readonly gib=${BENCH_GIB:-5.9} runs=${BENCH_RUNS:-5} idle_runs=${BENCH_IDLE:-15}
readonly slow_runs=${BENCH_SLOW:-$((runs < 3 ? runs : 3))}
readonly bin=${CARGO_TARGET_DIR:-$root/target}/release
readonly newest=${CARGO_TARGET_DIR:-$root/target}/lab/virtnbdrestore-sid
readonly VM=vmbackup-bench
readonly work=${BENCH_DIR:-$IMAGES}/vmbackup-bench
readonly image=$work/vda.qcow2

cleanup() {
	local status=$?
	trap '' INT TERM HUP
	set +e
	(remove_vm "$VM")
	(remove_vm "$VM-large")
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
	disk=$((want * 5 / 4 / 1048576 * 1048576))
	if ((disk < 1024 * 1024 * 1024)); then disk=$((1024 * 1024 * 1024)); fi
	say "copying $gib GiB of files from /usr and /opt"
	collect_files "$work/files" "$want"
	say "making a $((disk / 1048576)) MiB disk of them"
	truncate -s "$disk" "$work/ext4.raw"
	mkfs.ext4 -q -F -d "$work/files" "$work/ext4.raw"
	rm -rf "$work/files"
	qemu-img convert -f raw -O qcow2 "$work/ext4.raw" "$image"
	allocated=$(qemu-img info --output=json "$image" | sed -n 's/^ *"actual-size": \([0-9]*\).*/\1/p' | tail -n 1)
}

# --- fulls ----------------------------------------------------------------------------------------------------

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

# Writes the configuration. Arguments: COMPRESSION, COMPRESSION_LEVEL.
configure() {
	printf '%s="%s"\n' BACKUP_PATH "$work/ours/" VIRTNBD_SCRATCH_DIR "$work" TARGET_RESERVE_PERCENT 1 \
		TARGET_RESERVE_GIB 1 COMPRESSION "$1" COMPRESSION_LEVEL "${2-}" >"$work/config/default/vmbackup.conf"
}

export VMBACKUP_LIB_DIR="$work/lib"
vmbackup() { measure "$bin/vmbackup" --config-dir "$work/config" --run --vm "${1:-$VM}"; }

# One full of ours. Arguments: name of the measurement, COMPRESSION, COMPRESSION_LEVEL.
ours() {
	fresh
	configure "$2" "${3-}"
	vmbackup
	note "$1" "$seconds"
	echo "$peak_kib" >>"$work/$1.kib"
	find "$work/ours/$VM" \( -name vda.full.data -o -name vda.full.zstd \) -printf '%s\n' >"$work/$1.bytes"
	say "$1: $seconds s, $((peak_kib / 1024)) MiB of memory; $(sed -n 's/.*\(bottleneck.*\)/\1/p' "$work/said" | head -n 1)"
}

# One full of theirs. Arguments: name of the measurement, options.
theirs() {
	local name=$1
	shift
	fresh
	measure virtnbdbackup -d "$VM" -l full "$@" --noprogress -S "$work" -o "$work/theirs"
	note "$name" "$seconds"
	echo "$peak_kib" >>"$work/$name.kib"
	stat -c %s "$work/theirs/vda.full.data" >"$work/$name.bytes"
	say "$name: $seconds s, $((peak_kib / 1024)) MiB of memory"
}

measure_fulls() {
	local run
	for ((run = 1; run <= runs; run++)); do
		theirs their-plain
		theirs their-1 -z 1
		ours our-plain none
		ours our-zstd zstd 1
		ours our-auto auto
		ours our-1 lz4 1
	done
	for ((run = 1; run <= slow_runs; run++)); do
		theirs their-4 -z 4
		ours our-4 lz4 4
	done
}

# What LZ4 level 1 cannot be faster than: the CPU seconds of reading and of compressing, on all cores.
measure_limit() {
	local reading
	measure nbdcopy -- [ qemu-nbd -r -f qcow2 --shared=8 "$image" ] null:
	reading=$cpu
	# Without the holes, which nobody reads.
	tar -S -C "$work" -cf "$work/dense" ext4.raw
	measure lz4 -1 -q -f "$work/dense" /dev/null
	rm "$work/dense"
	limit=$(calc "($reading + $cpu) / $(nproc)")
	say "limit: reading $reading and lz4 $cpu CPU seconds on $(nproc) cores are $limit s"
}

full_rows() {
	row_faster 'full, LZ4 level 1, against `virtnbdbackup -z 1`' their-1 our-1 3.5
	row_larger 'its size' their-1 our-1 3
	row_faster 'full, uncompressed' their-plain our-plain 4
	row_faster 'full, LZ4 level 4, against `virtnbdbackup -z 4`' their-4 our-4 2.2
	row_faster 'full, zstd level 1, against `virtnbdbackup -z 1`' their-1 our-zstd 2.5
	row_larger 'its size' their-1 our-zstd -20
	row 'full, LZ4 level 1, against the CPU seconds of reading and `lz4 -1`, divided by the cores' \
		"$(calc "$(time_of our-1) / $limit") times ($(time_of our-1) s against $limit s)" 'at most 1.3 times' \
		"$(time_of our-1) <= 1.3 * $limit"
	row_faster 'full, `auto`, against `virtnbdbackup -z 4`' their-4 our-auto 6
	row_larger 'its size' their-4 our-auto 20
}

# --- restoring and verifying ----------------------------------------------------------------------------------

# The last of $work/ours and of a full of theirs stay for this.
measure_restores() {
	local run set
	theirs their-1 -z 1
	mv "$work/theirs" "$work/set-theirs"
	ours our-1 lz4 1
	set=$(echo "$work/ours/$VM"/*)
	for ((run = 1; run <= slow_runs; run++)); do
		rm -rf "$work/restored" "$work/out.raw"
		measure virtnbdrestore --noprogress -i "$work/set-theirs" -o "$work/restored"
		note their-restore "$seconds"
		rm -rf "$work/restored"
		measure "$bin/vmstream" extract "$set" --disk vda -o "$work/out.raw"
		note our-extract "$seconds"
		cmp -s "$work/out.raw" "$work/ext4.raw" || die "the extracted disk is not the guest's"
		rm "$work/out.raw"
		measure "$bin/vmstream" verify "$set"
		note our-verify "$seconds"
		measure "$bin/vmstream" verify --deep "$set"
		note our-deep "$seconds"
		# The distribution's release has no such mode, and writes no checksum files.
		measure "$newest" --noprogress -i "$set" -o verify
		note their-verify "$seconds"
	done
	rm -rf "$work/set-theirs"
	row_faster 'extract a full to raw, against `virtnbdrestore`' their-restore our-extract 4
	row '`verify`, against `virtnbdrestore -o verify`' "$(time_of our-verify) s against $(time_of their-verify) s" \
		'at most its time' "$(time_of our-verify) <= $(time_of their-verify)"
	row '`verify --deep`, against `verify`' "$(time_of our-deep) s against $(time_of our-verify) s" \
		'at most 2.5 times' "$(time_of our-deep) <= 2.5 * $(time_of our-verify)"
}

# A chain that writes the same GiB again and again, each stream through our writer; and one of its full alone.
measure_chain() {
	local run make=$bin/examples/make_chain gib_raw=$work/gib.raw
	head -c 1073741824 "$work/ext4.raw" >"$gib_raw"
	"$make" "$gib_raw" "$work/chain" 30 1
	"$make" "$gib_raw" "$work/alone" 0 1
	for ((run = 1; run <= runs; run++)); do
		measure "$bin/vmstream" extract "$work/alone" --disk vda -o "$work/out.raw"
		note alone "$seconds"
		rm "$work/out.raw"
		measure "$bin/vmstream" extract "$work/chain" --disk vda -o "$work/out.raw"
		note chain "$seconds"
		rm "$work/out.raw"
	done
	row 'extract the last of 30 increments that rewrite the same 1 GiB, against the full alone' \
		"$(time_of chain) s against $(time_of alone) s" 'at most 1.3 times' "$(time_of chain) <= 1.3 * $(time_of alone)"
	rm -rf "$work/chain" "$work/alone"
	# A thousand streams of 1 MiB.
	head -c 1048576 "$gib_raw" >"$work/mib.raw"
	"$make" "$work/mib.raw" "$work/many" 999 1
	for ((run = 1; run <= runs; run++)); do
		measure "$bin/vmstream" verify --quick "$work/many"
		note quick "$seconds"
	done
	row '`verify --quick` of 1000 streams' "$(time_of quick) s" 'under 1 s' "$(time_of quick) < 1"
	rm -rf "$work/many" "$gib_raw"
}

# --- memory ---------------------------------------------------------------------------------------------------

# Four disks of 2 TiB, each with 125000 extents of data and as many of zeros between them.
measure_memory() {
	local disk devices='' file
	for disk in vda vdb vdc vdd; do
		file=$work/large-$disk.qcow2
		qemu-img create -q -f qcow2 -o cluster_size=4k "$file" 2T
		awk 'BEGIN { for (i = 0; i < 125000; i++) printf "aio_write -q -P %d %.0f 4096\n", i % 250 + 1, i * 16777216 - i % 4 * 4096; print "aio_flush" }' |
			qemu-io -t unsafe "$file" >/dev/null &
		devices+=$(disk_xml "$disk" "$file")
	done
	wait
	define_vm "$VM-large" 64 '' "$devices"
	host_virsh start --paused "$VM-large"
	rm -rf "$work/ours"
	mkdir -p "$work/ours"
	configure auto
	vmbackup "$VM-large"
	row 'peak memory, 4 disks of 2 TiB virtual size, 1,000,000 extents' "$((peak_kib / 1024)) MiB in $seconds s" 'at most 256 MiB' "$peak_kib <= 262144"
	remove_vm "$VM-large"
	rm -rf "$work"/large-*.qcow2 "$work/ours"
}

# --- an idle VM -----------------------------------------------------------------------------------------------

# A VM that runs and writes nothing. GNU time is too coarse here, so the clock is ours.
measure_idle() {
	local run begin end
	fresh
	configure auto
	host_virsh resume "$VM"
	vmbackup
	for ((run = 1; run <= idle_runs; run++)); do
		begin=$(date +%s%N)
		vmbackup
		end=$(date +%s%N)
		note idle "$(calc "($end - $begin) / 1000000000")"
	done
	[[ -e $(echo "$work/ours/$VM"/*)/vda.inc.virtnbdbackup.$idle_runs.data ]] || die "the idle runs made no increments"
	row 'incremental of an idle VM' "$(time_of idle) s" 'under 0.5 s' "$(time_of idle) < 0.5"
}

print_table() {
	cat <<-END
		$rows
		Medians of $runs runs, of level 4 and of restores of $slow_runs, of different programs in turns, with all times in brackets; virtnbdbackup $(virtnbdbackup --version 2>&1 | tail -n 1).
		Data: $(mib "$allocated") of files of /usr and /opt$( ((passes == 1)) || echo ", taken $passes times") on ext4 in a qcow2 image of a paused VM. Peak memory of the fulls: $(($(sort -n "$work"/our-*.kib | tail -n 1) / 1024)) MiB, virtnbdbackup's $(($(sort -n "$work"/their-*.kib | tail -n 1) / 1024)) MiB.
		$(machine)
	END
}

[[ -x $bin/vmbackup && -x $bin/examples/make_chain ]] || die "no release build in $bin: run make bench"
exec 8>/run/vmbackup-bench.lock
flock -n 8 || die "another benchmark is running"
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
# A daemon must not inherit the lock.
begin_daemons 8>&-
"$root/scripts/lab-virtnbdbackup.sh" >&2
allow_socket
remove_vm "$VM"
remove_vm "$VM-large"
rm -rf "$work"
mkdir -p "$work/config/default"
chmod 755 "$work"
make_image
# Before the VM has the image.
measure_limit
define_vm "$VM" 64 '' "$(disk_xml vda "$image")"
host_virsh start --paused "$VM"
measure_fulls
full_rows
measure_restores
measure_chain
measure_idle
measure_memory
print_table
exit $((failed_rows > 0))
