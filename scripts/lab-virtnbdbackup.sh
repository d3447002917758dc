#!/bin/bash
# Unpacks the virtnbdbackup of a Debian suite into target/lab, without installing it.
#
#   lab-virtnbdbackup.sh [--refresh] [--dry-run] [SUITE]
#
# SUITE is sid, the newest one, unless another is named. Makes target/lab/virtnbdbackup-SUITE and
# target/lab/virtnbdrestore-SUITE, which run it with the Python libraries of this machine. apt fetches it with its own lists and cache, so the machine's sources stay as they are.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
readonly lab=${CARGO_TARGET_DIR:-$root/target}/lab
readonly keyring=/usr/share/keyrings/debian-archive-keyring.gpg

say() { printf 'lab-virtnbdbackup: %s\n' "$*"; }
die() {
	say "$*" >&2
	exit 1
}

works() { "$lab/virtnbdrestore-$suite" --version >/dev/null 2>&1 && "$lab/virtnbdbackup-$suite" --version >/dev/null 2>&1; }

# A mirror that lags behind is good enough here: the signature is still checked.
isolated() {
	local command=$1
	shift
	"$command" \
		-o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=- \
		-o Dir::Etc::PreferencesParts=- -o Dir::State="$state/state" -o Dir::State::Lists="$state/lists" \
		-o Dir::State::status="$state/status" -o Dir::Cache="$state/cache" \
		-o Acquire::Check-Valid-Until=false -o APT::Architecture=amd64 -o APT::Sandbox::User= -o Acquire::Languages=none \
		-o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "$@"
}

fetch() {
	local package
	rm -rf "$state"
	mkdir -p "$state"/{lists/partial,cache/archives/partial,state,download}
	: >"$state/status"
	echo "deb [signed-by=$keyring] http://deb.debian.org/debian $suite main" >"$state/sources.list"
	isolated apt-get -q update >"$state/log" 2>&1 || die "Cannot read the package list of $suite: $(tail -n3 "$state/log")"
	(cd "$state/download" && isolated apt-get -q download virtnbdbackup) >>"$state/log" 2>&1 ||
		die "Cannot fetch virtnbdbackup of $suite: $(tail -n3 "$state/log")"
	package=$(echo "$state"/download/virtnbdbackup_*.deb)
	rm -rf "$unpacked"
	dpkg-deb -x "$package" "$unpacked"
	say "unpacked $(basename "$package") into $unpacked"
	rm -rf "$state"
}

write_wrapper() {
	local tool=$1
	cat >"$lab/$tool-$suite.new" <<-END
		#!/bin/sh
		# Runs the $tool that lies unpacked beside this file.
		PYTHONPATH='$unpacked/usr/lib/python3/dist-packages' PYTHONDONTWRITEBYTECODE=1 \\
		exec /usr/bin/python3 '$unpacked/usr/bin/$tool' "\$@"
	END
	chmod +x "$lab/$tool-$suite.new"
	mv "$lab/$tool-$suite.new" "$lab/$tool-$suite"
}

how=''
if [[ ${1-} == --* ]]; then
	how=$1
	shift
fi
readonly suite=${1:-sid}
readonly unpacked=$lab/virtnbdbackup-$suite.d state=$lab/apt-$suite
[[ $# -le 1 && $suite =~ ^[a-z]+$ ]] || how=--help
case $how in
'') if works; then exit 0; fi ;;
--dry-run)
	works || say "would unpack the virtnbdbackup of $suite into $unpacked"
	exit 0
	;;
--refresh) ;;
*) die "usage: lab-virtnbdbackup.sh [--refresh] [--dry-run] [SUITE]" ;;
esac

[[ -r $keyring ]] || die "$keyring is missing; install-deps.sh lab installs it"
mkdir -p "$lab"
exec 9>"$lab/virtnbdbackup-$suite.lock"
flock 9
fetch
write_wrapper virtnbdbackup
write_wrapper virtnbdrestore
works || die "It does not run: $("$lab/virtnbdrestore-$suite" --version 2>&1 | tail -n2)"
say "$("$lab/virtnbdrestore-$suite" --version 2>&1)"
