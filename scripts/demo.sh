#!/bin/bash
# Shows the whole way of a backup on three throw-away VMs: back up, change, back up again, verify, restore, compare.
#
# Wants the release build and what `scripts/install-deps.sh demo` installs: `make demo` sees to both. Touches no VM
# but its own (vmbackup-demo-…), and removes them, also when it fails or is stopped. The backups and the restored
# images stay, to look at.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
step='getting ready'

die() {
	printf 'demo: %s\n' "$*" >&2
	exit 1
}
# shellcheck source=scripts/lab-host.sh
. "$root/scripts/lab-host.sh"
readonly target=${CARGO_TARGET_DIR:-$root/target}
# The lab's folder belongs to whoever builds, also where the guest in it is made by root.
mkdir -p "$target/lab"
become_root "$@"

readonly LINUX=vmbackup-demo-linux PLAIN=vmbackup-demo-plain OFF=vmbackup-demo-off
readonly VMS=("$LINUX" "$PLAIN" "$OFF")
readonly bin=$target/release
# What stays, and what goes; QEMU's user must be able to read the latter.
readonly out=$target/demo
readonly work=$IMAGES/vmbackup-demo
readonly backups=$out/backups
readonly restored=$out/restored

bold='' plain=''
if [[ -t 1 ]]; then bold=$'\e[1m' plain=$'\e[0m'; fi
heading() {
	step=$1
	printf '\n%s== %s ==%s\n' "$bold" "$1" "$plain"
}
say() { printf '   %s\n' "$*"; }

# Shows a command as a person would type it, and runs it.
shown() {
	printf '   $ %s\n' "${*//$bin\//}"
	# Ctrl-C reaches the command too, which then undoes what it began: its last words must get through.
	"$@" 2>&1 | (trap '' INT && exec sed 's/^/   | /')
}

cleanup() {
	local status=$?
	trap '' INT TERM HUP
	set +e
	if [[ $status -ne 0 ]]; then printf '\ndemo: ended early, at "%s" (exit %s)\n' "$step" "$status" >&2; fi
	local vm
	for vm in "${VMS[@]}"; do (remove_vm "$vm"); done
	rm -rf "$work"
	if [[ -n ${SUDO_UID-} ]]; then chown -R "$SUDO_UID:${SUDO_GID-}" "$out"; fi
	forbid_socket
	end_daemons
	"$root/scripts/install-deps.sh" --removal
	exit "$status"
}

# --- the guests' side -----------------------------------------------------------------------------------------

agent() { host_virsh qemu-agent-command "$LINUX" --timeout 20 "$1"; }

# Runs a shell command in the Linux guest and waits for its end. No double quotes or backslashes in it.
in_guest() {
	local pid answer
	answer=$(agent '{"execute":"guest-exec","arguments":{"path":"/bin/sh","arg":["-ec","'"$1"'"],"capture-output":true}}')
	pid=${answer//[!0-9]/} # {"return":{"pid":7}}
	for _ in {1..300}; do
		answer=$(agent '{"execute":"guest-exec-status","arguments":{"pid":'"$pid"'}}')
		if [[ $answer == *'"exited":true'* ]]; then
			[[ $answer == *'"exitcode":0'* ]] || die "the guest could not run: $1 ($answer)"
			return
		fi
		sleep 0.1
	done
	die "the guest does not end: $1"
}

wait_for_agent() {
	for _ in {1..600}; do
		if agent '{"execute":"guest-ping"}' >/dev/null 2>&1; then return; fi
		sleep 0.2
	done
	tail -n 20 "$work/console.log" >&2
	die "the guest's agent does not answer within 2 minutes; its console is above"
}

# Lets the VM without an agent write to a disk: these requests pass QEMU's block layer as a guest's do.
write_disk() {
	local disk=$1 number command
	case $disk in vda) number=0 ;; *) number=1 ;; esac
	shift
	for command in "$@" flush; do
		host_virsh qemu-monitor-command "$PLAIN" --hmp \
			"qemu-io -d /machine/peripheral/virtio-disk$number/virtio-backend \"$command\"" >/dev/null
	done
}

# Keeps what the guest's disk holds now. Arguments: name of the moment, VM, disk. Nothing may write to it meanwhile.
keep_truth() {
	local file=$work/truth/$2.$3.$1.raw
	qemu-img convert -U -f qcow2 -O raw "$work/$2-$3.qcow2" "$file"
	say "$(printf '%-20s %s  SHA-256 %.16s…' "$2" "$3" "$(sha256sum <"$file")")"
}

keep_all() {
	keep_truth "$1" "$LINUX" vda
	keep_truth "$1" "$PLAIN" vda
	keep_truth "$1" "$PLAIN" vdb
	keep_truth "$1" "$OFF" vda
}

# --- our side -------------------------------------------------------------------------------------------------

run_vmbackup() {
	local vms
	vms=$(IFS=, && echo "${VMS[*]}")
	# What this host knows of its backup paths stays with the demo.
	export VMBACKUP_LIB_DIR="$out/lib"
	shown "$bin/vmbackup" --config-dir "$out/config" --run --vm "$vms" "$@"
}

set_of() { echo "$backups/$1"/*/; }

# Restores a disk at a point and compares it with what the guest had then. Arguments: moment, VM, disk, point.
restore() {
	local moment=$1 vm=$2 disk=$3 point=$4 image truth until=()
	image=$restored/$vm.$disk.$moment.raw truth=$work/truth/$vm.$disk.$moment.raw
	if [[ -n $point ]]; then until=(--until "$point"); fi
	"$bin/vmstream" extract "$(set_of "$vm")" --disk "$disk" "${until[@]}" -o "$image" >/dev/null
	cmp "$truth" "$image" || die "$image differs from the disk that the guest had"
	say "$(printf '%-20s %s at %-16s %10s bytes, every one equal' "$vm" "$disk" "${point:-copy}" "$(stat -c %s "$image")")"
}

# The same with virtnbdrestore, a program that is not ours.
restore_with_peer() {
	local moment=$1 point=$2 to=$work/peer-$1
	mkdir "$to"
	virtnbdrestore --noprogress --input "$(set_of "$LINUX")" --output "$to" --until "$point" \
		--socketfile "$to/nbd.sock" --logfile "$to/log" >"$to/said" 2>&1 || die "virtnbdrestore: $(tail -n 3 "$to/said")"
	qemu-img compare -q -f qcow2 -F raw "$to/$LINUX-vda.qcow2" "$work/truth/$LINUX.vda.$moment.raw" ||
		die "virtnbdrestore restored another disk than the guest had at $point"
	say "$LINUX vda at $point: equal as well"
}

# --- the steps ------------------------------------------------------------------------------------------------

prepare() {
	[[ -x $bin/vmbackup && -x $bin/vmstream ]] || die "no release build in $bin: run make demo"
	exec 8>/run/vmbackup-demo.lock
	flock -n 8 || die "another demo is running"
	trap cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	# A daemon must not inherit the lock.
	begin_daemons 8>&-
	allow_socket
	for vm in "${VMS[@]}"; do remove_vm "$vm"; done
	rm -rf "$work" "$out"
	mkdir -p "$work/truth" "$work/files" "$work/tmp" "$backups" "$restored" "$out/config/default"
	# virtnbdrestore leaves a log in the temporary folder for each program that it runs.
	export TMPDIR=$work/tmp
	chmod 755 "$work"
	# A demo may use what little room there is; the defaults keep more of it free.
	cat >"$out/config/default/vmbackup.conf" <<-END
		BACKUP_PATH="$backups/"
		VIRTNBD_COMPRESS_LEVEL="1"
		PARALLEL_VMS="2"
		TARGET_RESERVE_PERCENT="1"
		TARGET_RESERVE_GIB="1"
		# The demo does not wait until an image counts as settled.
		OFFLINE_CHANGE_DETECTION_THRESHOLD="0"
		# A trim before the backup would change the disk after its SHA-256 was taken.
		ENABLE_FSTRIM="false"
		# What the demo leaves is to be looked at; this machine's passwords are no part of it.
		HOST_CONFIG_BACKUP="no"
	END
}

make_vms() {
	heading 'Three VMs'
	local size
	cp -r "$root/src" "$root/scripts" "$work/files"
	# An ext4 file system with the project's own sources, for two of them.
	for vm in "$LINUX" "$OFF"; do
		size=256M
		if [[ $vm == "$OFF" ]]; then size=128M; fi
		truncate -s "$size" "$work/ext4.raw"
		mkfs.ext4 -q -F -d "$work/files" "$work/ext4.raw"
		qemu-img convert -f raw -O qcow2 "$work/ext4.raw" "$work/$vm-vda.qcow2"
		rm "$work/ext4.raw"
	done
	qemu-img create -q -f qcow2 "$work/$PLAIN-vda.qcow2" 1G
	qemu-img create -q -f qcow2 "$work/$PLAIN-vdb.qcow2" $((200 * 1024 * 1024 + 512))

	"$root/scripts/lab-guest.sh"
	install -m 644 "$target/lab/guest/vmlinuz" "$target/lab/guest/initramfs" "$work"
	define_vm "$LINUX" 256 \
		"<kernel>$work/vmlinuz</kernel><initrd>$work/initramfs</initrd><cmdline>console=ttyS0 quiet panic=-1</cmdline>" \
		"$(disk_xml vda "$work/$LINUX-vda.qcow2")<serial type='file'><source path='$work/console.log'/></serial>
		<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
	define_vm "$PLAIN" 64 '' "$(disk_xml vda "$work/$PLAIN-vda.qcow2")$(disk_xml vdb "$work/$PLAIN-vdb.qcow2")"
	define_vm "$OFF" 64 '' "$(disk_xml vda "$work/$OFF-vda.qcow2")"
	host_virsh start "$LINUX"
	host_virsh start "$PLAIN"
	wait_for_agent
	say "$LINUX   booted Linux with its guest agent, files on ext4"
	say "$PLAIN   running, two disks (one of an odd size), no agent"
	say "$OFF     shut off"
}

first_run() {
	heading 'The guests write'
	in_guest 'echo first version >/data/notes.txt; dd if=/dev/urandom of=/data/random bs=1M count=16 2>/dev/null'
	say "$LINUX writes notes.txt (\"first version\") and 16 MiB of noise"
	write_disk vda 'write -P 0x11 0 96M' 'write -P 0x22 512M 32M'
	write_disk vdb 'write -P 0x33 1M 64M' 'write -P 0x34 209715200 512'
	say "$PLAIN writes to both disks, to the very last sector of vdb"
	say 'Now they hold still, so that there is something to compare with; their disks are:'
	in_guest 'mount -o remount,ro /data'
	keep_all first
	[[ $(tail -c 1 "$work/truth/$PLAIN.vdb.first.raw") == 4 ]] || die "the last sector of vdb was not written"

	heading 'What would a run do?'
	run_vmbackup --dry-run
	heading 'First run: a full of each running VM, a copy of the one that is off'
	run_vmbackup
}

second_run() {
	heading 'The guests change their disks'
	in_guest 'mount -o remount,rw /data; echo second version >/data/notes.txt; rm /data/random'
	in_guest 'mkdir /data/new; cp -r /data/src /data/new; fstrim /data; mount -o remount,ro /data'
	say "$LINUX writes \"second version\", deletes the noise, copies a folder, trims"
	write_disk vda 'write -P 0x44 8M 4M' 'write -z 32M 8M' 'write -z -u 64M 8M' 'discard 512M 16M'
	write_disk vdb 'write -P 0x55 128M 1M'
	say "$PLAIN overwrites some, zeroes some with and without unmap, discards some"
	keep_all second
	local disk
	for disk in "$LINUX.vda" "$PLAIN.vda" "$PLAIN.vdb"; do
		if cmp -s "$work/truth/$disk".{first,second}.raw; then die "the guest changed nothing on $disk"; fi
	done

	local copied_at
	copied_at=$(stat -c %Y "$(set_of "$OFF")vda.copy.data")
	heading 'Second run: increments of what changed; the VM that is off is skipped'
	run_vmbackup
	[[ -e $(set_of "$LINUX")vda.inc.virtnbdbackup.1.data && -e $(set_of "$PLAIN")vdb.inc.virtnbdbackup.1.data ]] ||
		die "the second run made no increments"
	[[ $(stat -c %Y "$(set_of "$OFF")vda.copy.data") == "$copied_at" ]] || die "the VM that is off was not skipped"
}

verify() {
	heading 'Is every byte of the backups sound?'
	for vm in "${VMS[@]}"; do shown "$bin/vmstream" verify "$(set_of "$vm")"; done
}

restore_all() {
	heading 'Restore to new images, and compare with the disks the guests had'
	local moment=first disk
	for point in virtnbdbackup.0 virtnbdbackup.1; do
		restore "$moment" "$LINUX" vda "$point"
		for disk in vda vdb; do restore "$moment" "$PLAIN" "$disk" "$point"; done
		moment=second
	done
	restore second "$OFF" vda ''
	say ''
	say 'notes.txt in the two restored images of the Linux guest:'
	for moment in first second; do
		say "  $moment run: $(debugfs -R 'cat notes.txt' "$restored/$LINUX.vda.$moment.raw" 2>/dev/null)"
	done

	heading "The same with $(virtnbdrestore --version 2>&1 | tail -n 1 | sed 's/^[^0-9]*/virtnbdrestore /'), which is not ours"
	restore_with_peer first virtnbdbackup.0
	restore_with_peer second virtnbdbackup.1
}

prepare
make_vms
first_run
second_run
verify
restore_all
heading "Done in $SECONDS s"
say "The VMs are removed. To look at:"
say "  backups          $backups"
say "  restored images  $restored"
say "  configuration    $out/config/default/vmbackup.conf"
say "for example with:  $bin/vmstream info $(set_of "$PLAIN")"
