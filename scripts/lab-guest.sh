#!/bin/bash
# Builds the small Linux guest the lab boots: a kernel and an initramfs in target/lab/guest.
#
# The guest mounts the ext4 file system of its first virtio disk on /data (further ones on /mnt/DISK), runs the
# real qemu-ga, and says READY on its serial console. It powers off by ACPI or by the agent's guest-shutdown.
# Does nothing when what lies there was made from the same kernel, agent and script.
set -euo pipefail
umask 022

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
readonly out=${CARGO_TARGET_DIR:-$root/target}/lab/guest
# shellcheck source=scripts/lab-kernel.sh
. "$root/scripts/lab-kernel.sh"

die() {
	printf 'lab-guest: %s\n' "$*" >&2
	exit 1
}

# Copies one module, unpacked: the guest's insmod knows no compression.
copy_module() {
	local from=$1 to=$2
	case $from in
	*.xz) xz -dc "$from" >"$to" ;;
	*.zst) zstd -qdc "$from" >"$to" ;;
	*.gz) gzip -dc "$from" >"$to" ;;
	*) cp "$from" "$to" ;;
	esac
}

# Puts each module behind the ones it needs; modprobe knows the order.
copy_modules() {
	local tree=$1 module action path name
	mkdir -p "$tree/modules"
	: >"$tree/modules/order"
	for module in "${OPTIONAL_MODULES[@]}" "${GUEST_MODULES[@]}"; do
		while read -r action path _; do
			[[ $action == insmod ]] || continue
			name=$(basename "$path")
			name=${name%%.ko*}.ko
			if grep -qx "$name" "$tree/modules/order"; then continue; fi
			copy_module "$path" "$tree/modules/$name"
			echo "$name" >>"$tree/modules/order"
		done < <(modules_of "$base" "$version" "$module")
	done
}

copy_agent() {
	local tree=$1 library
	install -D "$agent" "$tree/usr/sbin/qemu-ga"
	while read -r library; do
		install -D "$library" "$tree$library"
	done < <(ldd "$agent" | grep -o '/[^ ]*')
}

write_init() {
	local tree=$1
	cat >"$tree/init" <<-'END'
		#!/bin/sh
		export PATH=/bin:/sbin:/usr/bin:/usr/sbin
		mount -t proc proc /proc
		mount -t sysfs sysfs /sys
		mount -t devtmpfs devtmpfs /dev
		mount -t tmpfs tmpfs /run
		mount -t tmpfs tmpfs /tmp
		while read -r module; do insmod "/modules/$module"; done </modules/order
		hostname labguest

		# Drivers find their devices a moment after they are loaded.
		port=''
		for try in $(seq 200); do
			for name in /sys/class/virtio-ports/*/name; do
				if grep -q org.qemu.guest_agent.0 "$name" 2>/dev/null; then
					port=/dev/$(basename "$(dirname "$name")")
				fi
			done
			if [ -b /dev/vda ] && [ -n "$port" ]; then break; fi
			usleep 50000
		done
		mount -t ext4 /dev/vda /data || echo "labguest: /dev/vda does not mount"
		for disk in /dev/vd[b-z] /dev/sd[a-z]; do
			[ -b "$disk" ] || continue
			mkdir -p "/mnt/$(basename "$disk")"
			mount -t ext4 "$disk" "/mnt/$(basename "$disk")" 2>/dev/null
		done

		# ACPI: the power button is an input device; its first event asks to switch off.
		for name in /sys/class/input/event*/device/name; do
			if grep -q 'Power Button' "$name" 2>/dev/null; then
				event=/dev/input/$(basename "$(dirname "$(dirname "$name")")")
				(dd if="$event" bs=24 count=1 >/dev/null 2>&1 && shutdown) &
			fi
		done

		echo "labguest: READY"
		while true; do
			qemu-ga -m virtio-serial -p "$port" -t /run -f /run/qemu-ga.pid
			sleep 1
		done
	END
	cat >"$tree/sbin/shutdown" <<-'END'
		#!/bin/sh
		# What the agent and the power button run, whatever the arguments.
		sync
		umount -a -r -t ext4
		poweroff -f
	END
	chmod 755 "$tree/init" "$tree/sbin/shutdown"
}

build_tree() {
	local tree=$1 applet
	mkdir -p "$tree"/{bin,sbin,usr/bin,usr/sbin,proc,sys,dev,run,tmp,data,mnt,etc,var,root}
	cp "$(command -v busybox)" "$tree/bin/busybox"
	for applet in $(busybox --list); do
		[[ $applet == busybox ]] || ln -s busybox "$tree/bin/$applet"
	done
	ln -s ../run "$tree/var/run"
	echo 'root:x:0:0:root:/root:/bin/sh' >"$tree/etc/passwd"
	echo 'root:x:0:' >"$tree/etc/group"
	printf 'ID=labguest\nNAME="Lab guest"\nPRETTY_NAME="Lab guest 1"\nVERSION_ID="1"\n' >"$tree/etc/os-release"
	copy_modules "$tree"
	copy_agent "$tree"
	write_init "$tree"
}

read -r base version < <(kernel_version) || die "no kernel with a guest's modules; scripts/install-deps.sh lab unpacks one"
readonly kernel=${base%/}/boot/vmlinuz-$version
[[ -r $kernel ]] || die "cannot read $kernel: run as root"
agent=$(agent_program) || die "qemu-ga is missing; scripts/install-deps.sh lab unpacks it"
for tool in busybox cpio modprobe gzip; do
	command -v "$tool" >/dev/null || die "$tool is missing; scripts/install-deps.sh lab installs it"
done
# Before the stamp: two test processes must not build at once.
mkdir -p "$out"
exec 9>"$out/lock"
flock 9
stamp=$(sha256sum "${BASH_SOURCE[0]}" "$root/scripts/lab-kernel.sh" "$kernel" "$agent" "$(command -v busybox)")
if [[ $(cat "$out/stamp" 2>/dev/null) == "$stamp" ]]; then exit 0; fi

tree=$(mktemp -d "$out/tree.XXXXXX")
trap 'rm -rf "$tree"' EXIT
build_tree "$tree"
(cd "$tree" && find . -print0 | cpio --null --quiet -o -H newc -R 0:0 | gzip -1) >"$out/initramfs"
cp "$kernel" "$out/vmlinuz"
chmod 644 "$out/vmlinuz" "$out/initramfs"
echo "$stamp" >"$out/stamp"
printf 'lab-guest: built a guest with kernel %s\n' "$version"
