#!/bin/bash
# Installs what building or testing needs and this machine lacks. Says before what that is and how large, and afterwards
# how to remove it.
#
#   install-deps.sh [build|demo|lab] [--dry-run] [--assume-missing]
#   install-deps.sh --removal
#
#   build             compiler and libraries (the default)
#   demo              the same, and what the demo runs: libvirt, QEMU, virtnbdrestore, a small guest's parts
#   lab               the same, and what else the tests and the benchmark run
#   --dry-run         print what would be installed, touch nothing
#   --assume-missing  treat everything as missing: shows the whole list for this release
#   --removal         print the commands that remove what earlier runs installed
#
# What this host boots, serves and allows stays as it is: no kernel and no guest agent is installed (lab-parts.sh unpacks
# them), no unit of a new package is enabled or started, no network of libvirt's starts by itself.
#
# Knows Debian 12 (with or without backports), Debian 13 and Ubuntu 24.04. Run as root or as a user with sudo.
# OS_RELEASE_FILE names another file than /etc/os-release, to see the lists of another release.
set -euo pipefail

readonly RUST_AT_LEAST=1.85
readonly BACKPORTS_FILE=/etc/apt/sources.list.d/vmbackup-backports.sources
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
readonly here root
# What was installed for this, so that it can be removed: a line for each package, and for each file of our own making.
readonly RECORD=${CARGO_TARGET_DIR:-$root/target}/lab/installed
if [[ $EUID -eq 0 ]]; then readonly SUDO_PREFIX=''; else readonly SUDO_PREFIX='sudo '; fi

mode=build dry_run='' assume_missing=''
missing=()       # packages of the machine's own release
missing_virt=()  # QEMU and libvirt packages: all from one suite
rust_note=''     # what to tell when no package brings a compiler that is new enough
rustup_missing='' # rustup brought the compiler, so it brings its tools too
updated=''

say() { printf 'install-deps: %s\n' "$*"; }
die() {
	say "$*" >&2
	exit 1
}

# --- what is there ------------------------------------------------------------------------------------------

has_command() { [[ -z $assume_missing ]] && PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }
has_file() { [[ -z $assume_missing && -e $1 ]]; }
has_module() { [[ -z $assume_missing ]] && pkg-config --exists "$1" 2>/dev/null; }
has_package() {
	[[ -z $assume_missing ]] && [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null) == ii* ]]
}
has_python() { [[ -z $assume_missing ]] && /usr/bin/python3 -c "import $1" 2>/dev/null; }

need() { missing+=("$1"); }
need_virt() { missing_virt+=("$1"); }

collect_build() {
	has_command pkg-config || need pkg-config
	has_command gcc || need gcc
	has_file /usr/include/stdio.h || need libc6-dev
	has_module libnbd || need libnbd-dev
	has_module libvirt || need_virt libvirt-dev
	collect_rust
}

collect_demo() {
	has_command libvirtd || has_command virtqemud || need_virt libvirt-daemon-system
	has_command virsh || need_virt libvirt-clients
	has_command qemu-system-x86_64 || need_virt qemu-system-x86
	{ has_command qemu-img && has_command qemu-nbd; } || need_virt qemu-utils
	has_command setpriv || need util-linux
	has_command virtnbdrestore || need virtnbdbackup
	has_package busybox-static || need busybox-static
	has_command cpio || need cpio
	has_command modinfo || need kmod
	has_command mkfs.ext4 || need e2fsprogs
	has_command xz || need xz-utils
	has_command zstd || need zstd
}

collect_lab() {
	collect_lint
	has_command g++ || need g++ # of libFuzzer
	has_command nbdinfo || need libnbd-bin
	has_command tmux || need tmux
	has_python colorlog || need python3-colorlog # of the newest virtnbdbackup
	has_python jsonschema || need python3-jsonschema # docs/schemas
	has_python yaml || need python3-yaml # format-spec/check_grammar.py
	has_file /usr/share/keyrings/debian-archive-keyring.gpg || need debian-archive-keyring
	has_file /usr/bin/time || need time
	has_command strace || need strace # tests/syncs.rs
	has_command swtpm || need swtpm
	has_command swtpm_setup || need swtpm-tools
	has_file /usr/share/OVMF || need ovmf
}

rust_version() {
	local cargo
	for cargo in cargo "$HOME/.cargo/bin/cargo" "${SUDO_USER:+/home/$SUDO_USER/.cargo/bin/cargo}"; do
		[[ -n $cargo ]] && "$cargo" --version 2>/dev/null | cut -d' ' -f2 && return
	done
	return 1
}

# A tool of the compiler's: cargo finds it whatever package brought it.
has_cargo_tool() { [[ -z $assume_missing ]] && cargo "$1" --version >/dev/null 2>&1; }

collect_lint() {
	if has_cargo_tool fmt && has_cargo_tool clippy; then return; fi
	if [[ -z $assume_missing ]] && command -v rustup >/dev/null; then
		rustup_missing=yes
		return
	fi
	case $RELEASE in
	debian-12) missing+=(rustfmt-web rust-web-clippy) ;;
	debian-13) missing+=(rustfmt rust-clippy) ;;
	ubuntu-*) need lint-newest ;;
	esac
}

at_least() { [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1) == "$1" ]]; }

collect_rust() {
	local found=''
	if [[ -z $assume_missing ]] && found=$(rust_version) && at_least "$RUST_AT_LEAST" "$found"; then return; fi
	case $RELEASE in
	debian-12) missing+=(cargo-web rustc-web) ;;
	debian-13) missing+=(cargo rustc) ;;
	ubuntu-*) need cargo-newest ;; # resolved once the package lists are fresh
	esac
}

# --- which release ------------------------------------------------------------------------------------------

read_release() {
	local file=${OS_RELEASE_FILE:-/etc/os-release} id version
	[[ -r $file ]] || die "Cannot read $file, so the package names are unknown"
	# shellcheck disable=SC1090
	id=$(. "$file" && echo "${ID-}") version=$(. "$file" && echo "${VERSION_ID-}")
	# shellcheck disable=SC1090
	CODENAME=$(. "$file" && echo "${VERSION_CODENAME-}")
	RELEASE=$id-$version
	BACKPORT_MARK="~bpo${version%%.*}+"
	case $RELEASE in
	debian-12 | debian-13 | ubuntu-24.04 | ubuntu-24.10 | ubuntu-25.* | ubuntu-26.*) ;;
	*) die "No package names for $RELEASE; this script knows Debian 12 and 13 and Ubuntu 24.04" ;;
	esac
}

# QEMU's and libvirt's packages need each other in equal versions: one that came from backports fixes the suite.
virt_suite() {
	local package version
	for package in qemu-utils libvirt0 qemu-system-common; do
		version=$(dpkg-query -W -f '${Version}' "$package" 2>/dev/null || true)
		if [[ $RELEASE == debian-* && $version == *"$BACKPORT_MARK"* ]]; then
			echo "$CODENAME-backports"
			return
		fi
	done
}

# --- installing ---------------------------------------------------------------------------------------------

as_root() {
	if [[ $EUID -eq 0 ]]; then
		env DEBIAN_FRONTEND=noninteractive "$@"
	elif command -v sudo >/dev/null; then
		sudo env DEBIAN_FRONTEND=noninteractive "$@"
	else
		die "Needs root or sudo for: $*"
	fi
}

update_lists() {
	[[ -n $updated || -n $dry_run ]] && return
	say "refreshing the package lists"
	as_root apt-get -q update >/dev/null || die "apt-get update failed; run it to see why"
	updated=yes
}

add_backports() {
	local suite=$1
	apt-cache policy 2>/dev/null | grep -q "n=$suite" && return
	say "adding $BACKPORTS_FILE: QEMU or libvirt of this machine came from $suite"
	if [[ -n $dry_run ]]; then return; fi
	as_root tee "$BACKPORTS_FILE" >/dev/null <<-END
		Types: deb
		URIs: http://deb.debian.org/debian
		Suites: $suite
		Components: main
		Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
	END
	echo "$BACKPORTS_FILE" >>"$RECORD/files"
	updated=''
	update_lists
}

# Ubuntu has Rust in packages named after the version; the newest one is as good as any.
resolve_newest_rust() {
	local newest index packages=()
	newest=$(apt-cache search --names-only '^cargo-1\.[0-9]+$' | cut -d' ' -f1 | sed 's/cargo-//' | sort -V | tail -n1)
	if [[ -z $newest ]] || ! at_least "$RUST_AT_LEAST" "$newest"; then
		rust_note="no package brings Rust $RUST_AT_LEAST: see https://rustup.rs"
		newest=''
		if [[ -n $dry_run ]]; then newest=1.NN; fi
	fi
	for index in "${!missing[@]}"; do
		case ${missing[index]} in
		cargo-newest) packages+=("cargo-$newest" "rustc-$newest") ;;
		lint-newest) packages+=("rustfmt-$newest" "rust-$newest-clippy") ;;
		*) continue ;;
		esac
		unset 'missing[index]'
	done
	if [[ -n $newest ]]; then missing+=("${packages[@]}"); fi
}

# Versioned Rust packages put no plain "cargo" on the path.
link_versioned_rust() {
	local package version tool
	for package in "${missing[@]}"; do
		[[ $package =~ ^(cargo|rustfmt)-(1\..*) ]] || continue
		version=${BASH_REMATCH[2]}
		for tool in cargo rustc rustdoc cargo-fmt rustfmt cargo-clippy clippy-driver; do
			if [[ -e /usr/local/bin/$tool || ! -e /usr/lib/rust-$version/bin/$tool ]]; then continue; fi
			say "linking /usr/local/bin/$tool to Rust $version"
			as_root ln -s "/usr/lib/rust-$version/bin/$tool" "/usr/local/bin/$tool"
			echo "/usr/local/bin/$tool" >>"$RECORD/files"
		done
	done
}

# Shows what apt would do, with sizes, and notes the packages that are new to this host.
announce() {
	local plan
	plan=$(LC_ALL=C as_root apt-get -q --no-install-recommends --assume-no "$@" 2>/dev/null || true)
	say "new packages: $(new_packages "$plan" | wc -w), by name: $*"
	sed -n 's/^\(Need to get\|After this operation\)/install-deps: &/p' <<<"$plan"
	new_packages "$plan" | tr ' ' '\n' | sed '/^$/d' >>"$RECORD/packages"
}

# The names below "The following NEW packages will be installed:".
new_packages() { sed -n '/^The following NEW packages/,/^[^ ]/{/^ /p}' <<<"$1" | tr -s ' \n' ' '; }

# Runs apt without letting a package start anything.
apt_quietly() {
	local policy=/usr/sbin/policy-rc.d status=0
	if [[ -e $policy ]]; then policy=''; else printf '#!/bin/sh\nexit 101\n' | as_root install -m 755 /dev/stdin "$policy"; fi
	as_root apt-get -q -y --no-install-recommends "$@" || status=$?
	if [[ -n $policy ]]; then as_root rm -f "$policy"; fi
	return "$status"
}

# Units that a new package has enabled would be served from the next boot on.
disable_units() {
	local package path unit
	while read -r package; do
		[[ " $before " == *" $package "* ]] && continue
		while read -r path; do
			unit=$(basename "$path")
			[[ $(systemctl is-enabled "$unit" 2>/dev/null) == enabled ]] || continue
			as_root systemctl --quiet disable "$unit" 2>/dev/null || true
			say "$unit of $package stays off (systemctl enable $unit)"
		done < <(dpkg -L "$package" 2>/dev/null | grep -E '/systemd/system/[^/]+\.(service|socket|timer|path)$')
	done <"$RECORD/packages"
}

install() {
	local from=$1 before network=/etc/libvirt/qemu/networks/autostart/default.xml had_network=''
	shift
	if [[ $# -eq 0 ]]; then return; fi
	if [[ -n $dry_run ]]; then
		say "would install${from:+ from $from}: $*"
		return
	fi
	before=$(tr '\n' ' ' <"$RECORD/packages")
	if [[ -e $network ]]; then had_network=yes; fi
	announce ${from:+-t "$from"} install "$@"
	apt_quietly ${from:+-t "$from"} install "$@"
	disable_units
	if [[ -z $had_network ]] && as_root test -e "$network"; then as_root rm -f "$network"; fi
}

# What of all this can be taken back, and how.
removal() {
	local packages link
	packages=$(sort -u "$RECORD/packages" 2>/dev/null | while read -r package; do
		if has_package "$package"; then printf '%s ' "$package"; fi
	done)
	if [[ -n $packages ]]; then
		say "to remove the $(wc -w <<<"$packages") packages that were installed for this, where nothing else needs them:"
		say "    ${SUDO_PREFIX}apt-get purge \$(cat $RECORD/packages)"
	fi
	while read -r link; do
		if [[ -e $link || -L $link ]]; then say "    ${SUDO_PREFIX}rm $link"; fi
	done < <(sort -u "$RECORD/files" 2>/dev/null)
}

install_missing() {
	local suite
	if [[ -n $rustup_missing && -n $dry_run ]]; then
		say "would add rustfmt and clippy with rustup"
	elif [[ -n $rustup_missing ]]; then
		say "adding rustfmt and clippy with rustup"
		rustup component add rustfmt clippy
	fi
	if [[ ${#missing[@]} -eq 0 && ${#missing_virt[@]} -eq 0 ]]; then
		say "nothing to install for $mode"
		return
	fi
	update_lists
	if [[ " ${missing[*]} " == *-newest\ * ]]; then resolve_newest_rust; fi
	suite=$(virt_suite)
	if [[ -n $suite && ${#missing_virt[@]} -gt 0 ]]; then add_backports "$suite"; fi
	# First the suite that must be one; the rest takes what is there.
	install "$suite" "${missing_virt[@]}"
	install '' "${missing[@]}"
	if [[ -z $dry_run ]]; then link_versioned_rust; fi
}

check_again() {
	local asked=("${missing[@]}" "${missing_virt[@]}")
	if [[ ${#asked[@]} -eq 0 || -n $dry_run ]]; then return; fi
	missing=() missing_virt=()
	collect
	if [[ ${#missing[@]} -gt 0 || ${#missing_virt[@]} -gt 0 ]]; then
		die "Still missing after the installation: ${missing[*]} ${missing_virt[*]} ${rust_note:+($rust_note)}"
	fi
}

collect() {
	collect_build
	if [[ $mode != build ]]; then collect_demo; fi
	if [[ $mode == lab ]]; then collect_lab; fi
}

for argument; do
	case $argument in
	build | demo | lab) mode=$argument ;;
	--dry-run) dry_run=yes ;;
	--assume-missing) assume_missing=yes dry_run=yes ;;
	--removal) mode=removal ;;
	-h | --help)
		sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
		exit 0
		;;
	*) die "Unknown argument $argument; see --help" ;;
	esac
done

if [[ $mode == removal ]]; then
	removal
	exit 0
fi
mkdir -p "$RECORD"
touch "$RECORD/packages" "$RECORD/files"
read_release
collect
install_missing
check_again
if [[ $mode != build ]]; then "$here/lab-parts.sh" ${dry_run:+--dry-run}; fi
if [[ $mode == lab ]]; then "$here/lab-virtnbdbackup.sh" ${dry_run:+--dry-run}; fi
