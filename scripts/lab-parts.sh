#!/bin/bash
# Unpacks the parts of the lab's guest that this machine lacks into target/lab/parts: a Linux kernel with its modules,
# and the guest agent. Neither is ever installed: a host would start that kernel next time, and answer to that agent.
#
#   lab-parts.sh [--dry-run]
#
# apt fetches the packages with the machine's own lists; dpkg-deb unpacks them. Needs no root.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
# shellcheck source=scripts/lab-kernel.sh
. "$root/scripts/lab-kernel.sh"

say() { printf 'lab-parts: %s\n' "$*"; }
die() {
	say "$*" >&2
	exit 1
}

# The packages that hold the newest kernel for virtual machines: the package named here only depends on them.
kernel_packages() {
	local image
	for package in linux-image-cloud-amd64 linux-image-virtual; do
		image=$(apt-cache depends "$package" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n1 || true)
		if [[ -z $image ]]; then continue; fi
		echo "$image"
		# Ubuntu has the modules apart.
		apt-cache depends "$image" | sed -n 's/^ *Depends: \(linux-modules-[0-9].*\)/\1/p' | head -n1
		return
	done
	die "no package of a kernel for virtual machines is known here (linux-image-cloud-amd64, linux-image-virtual)"
}

unpack() {
	local packages=("$@") download=$PARTS/download package
	say "unpacking into $PARTS, without installing: ${packages[*]}"
	rm -rf "$download"
	mkdir -p "$download"
	(cd "$download" && apt-get -q -o APT::Sandbox::User= download "${packages[@]}" >log 2>&1) ||
		die "Cannot fetch ${packages[*]}: $(tail -n2 "$download/log")"
	for package in "$download"/*.deb; do dpkg-deb -x "$package" "$PARTS"; done
	rm -rf "$download"
}

missing_kernel='' missing_agent=''
kernel_version >/dev/null || missing_kernel=yes
agent_program >/dev/null || missing_agent=yes
if [[ -z $missing_kernel && -z $missing_agent ]]; then exit 0; fi
if [[ ${1-} == --dry-run ]]; then
	say "would unpack into $PARTS, without installing:${missing_kernel:+ a kernel}${missing_agent:+ qemu-guest-agent}"
	exit 0
fi
mkdir -p "$PARTS"
exec 9>"$PARTS/lock"
flock 9
if [[ -n $missing_agent ]]; then unpack qemu-guest-agent; fi
if [[ -n $missing_kernel ]]; then
	mapfile -t packages < <(kernel_packages)
	unpack "${packages[@]}"
	# Newer packages have the modules below usr/lib; modprobe looks below lib.
	if [[ ! -e $PARTS/lib && -d $PARTS/usr/lib/modules ]]; then ln -s usr/lib "$PARTS/lib"; fi
	for modules in "$PARTS"/lib/modules/*; do depmod -b "$PARTS" "$(basename "$modules")"; done
	kernel_version >/dev/null || die "${packages[*]} brought no kernel that boots the lab's guest"
fi
agent_program >/dev/null || die "qemu-guest-agent brought no qemu-ga"
