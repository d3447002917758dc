# shellcheck shell=bash disable=SC2034,SC2154 # some names come from, or go to, the script that sources this
# Where the lab's guest takes its kernel and its agent from: this machine's own, or target/lab/parts.
#
# To be sourced, with $root set.

readonly PARTS=${CARGO_TARGET_DIR:-$root/target}/lab/parts
readonly GUEST_MODULES=(virtio_pci virtio_blk virtio_console virtio_scsi sd_mod ext4 evdev button)
# A checksum that ext4 asks the kernel for; which module has it differs from version to version.
readonly OPTIONAL_MODULES=(crc32c_intel crc32c_generic libcrc32c)
PATH=$PATH:/usr/sbin:/sbin

# Prints what a guest of this kernel needs, in the order of loading: "insmod FILE" or "builtin NAME".
modules_of() {
	local base=$1 version=$2
	shift 2
	modprobe -d "$base" -S "$version" --show-depends -a "$@" 2>/dev/null
}

# Prints "BASE VERSION" of the newest kernel that has all the guest needs: BASE/boot/vmlinuz-VERSION. This machine's come first.
kernel_version() {
	local base version kernel
	for base in / "$PARTS"; do
		for kernel in "${base%/}"/boot/vmlinuz-*; do
			version=${kernel##*/vmlinuz-}
			[[ -e $kernel && -e ${base%/}/lib/modules/$version/modules.dep ]] || continue
			if modules_of "$base" "$version" "${GUEST_MODULES[@]}" >/dev/null; then echo "$version"; fi
		done | sort -V | tail -n1 | sed "s|^|$base |" | grep . && return
	done
	return 1
}

agent_program() {
	command -v qemu-ga || { [[ -x $PARTS/usr/sbin/qemu-ga ]] && echo "$PARTS/usr/sbin/qemu-ga"; }
}
