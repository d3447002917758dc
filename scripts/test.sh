#!/bin/bash
# Everything that CI runs: format, lints, a build of all programs, every test. A missing tool is a failure, not a skip.
#
#   test.sh          all of it
#   test.sh --soak   in the release build: thousands of random flipped bytes (DAMAGE_FLIPS, DAMAGE_SEED), then the model
#                    test, for long (MODEL_STEPS, MODEL_SEED), kills at random moments (CRASH_KILLS, LAB_SEED), and everything
#                    that can hang at every stage of a run
#
# The tests make and remove VMs of their own (vmbt-…) on this machine's libvirt, so they need root: when this is not
# root, the test programs run through sudo. RUST_TEST_THREADS says how many tests run at once (default: two for each
# core, at most 8: mostly they wait, for libvirt, for disks, for a time to pass).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
cd "$root"

die() {
	printf 'test: %s\n' "$*" >&2
	exit 1
}
# shellcheck source=scripts/lab-host.sh
. "$root/scripts/lab-host.sh"

run() {
	printf '\n== %s ==\n' "$*"
	"$@"
}

cleanup() {
	local status=$?
	trap '' INT TERM HUP
	set +e
	if [[ -n $beside ]]; then kill -- "-$beside" 2>/dev/null && wait "$beside"; fi
	forbid_socket
	end_daemons
	as_root rm -rf "$TMPDIR"
	scripts/install-deps.sh --removal
	if [[ $status -eq 0 ]]; then
		printf '\ntest: all passed, in %s s\n' "$SECONDS"
	else
		printf '\ntest: FAILED (exit %s), after %s s\n' "$status" "$SECONDS"
	fi
	exit "$status"
}
# Every Rust has other findings, and lays some lines out differently. With the one named here they are errors, with others
# they are shown.
readonly LINT_RUST=1.95
lint() {
	if [[ $(rustc --version) == "rustc $LINT_RUST."* ]]; then
		run cargo fmt --all --check
		run cargo clippy --locked --workspace --all-targets -- -D warnings
	else
		run cargo clippy --locked --workspace --all-targets
	fi
}

# Built once and thrown away: what makes the next build quicker would only fill the disk.
export CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}

# virtnbdbackup leaves a log in the temporary folder for each program that it runs. Open to all as /tmp is: TPM emulators
# and tests that are not root work in it, too.
TMPDIR=$(mktemp -d)
chmod 1777 "$TMPDIR"
export TMPDIR
beside=''
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# What packages hold is built without the tests: a variable that opens a door for tests makes it refuse everything.
has_no_doors() {
	local variable said code
	for variable in VMBACKUP_FAIL_POINT=copying VMBACKUP_TEST_NOW=2030-01-01T00:00:00Z; do
		code=0
		said=$(env "$variable" "${CARGO_TARGET_DIR:-target}/debug/vmbackup" --version 2>&1) || code=$?
		[[ $code -eq 7 && $said == *"${variable%%=*} is set"* ]] || die "with $variable vmbackup ends with $code: $said"
	done
}

# What needs processors and no libvirt, behind everybody else: it runs beside the tests that need the host for themselves, and
# mostly wait. The programs of all tests are named here and below (tests/workspace.rs asks for that), and `--workspace` stands
# everywhere: with other packages cargo would choose other features, and build anew.
computing() {
	local failed=''
	renice -n 19 -p "$BASHPID" >/dev/null
	export RUST_TEST_THREADS=$cores
	run cargo test --locked --workspace --no-fail-fast --lib --bins --test streams --test restores --test header --test replay || failed=yes
	run cargo test --locked --workspace --doc || failed=yes
	run scripts/fuzz.sh --build || failed=yes
	[[ -z $failed ]]
}

case ${1-} in
'')
	lint
	run cargo build --locked --workspace
	run has_no_doors
	run cargo build --locked --workspace --all-targets
	;;
--soak)
	run cargo build --locked --release --workspace
	export DAMAGE_FLIPS=${DAMAGE_FLIPS:-12000} DAMAGE_SEED=${DAMAGE_SEED:-$RANDOM$RANDOM}
	run cargo test --locked --release -p vmstream --test streams -- --nocapture damage_grid::no_flipped
	CRASH_KILLS=${CRASH_KILLS:-500}
	export CRASH_KILLS
	;;
*) die "unknown argument $1" ;;
esac

cores=$(nproc)
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((cores < 4 ? 2 * cores : 8))}
if [[ $EUID -ne 0 ]]; then
	host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
	export "CARGO_TARGET_${host}_RUNNER=sudo -E env PATH=$PATH"
fi
begin_daemons
allow_socket
if [[ ${1-} == --soak ]]; then
	run cargo test --locked --release -p vmbackup --test together -- --nocapture model:: crash_random::
	RUST_TEST_THREADS=1 run cargo test --locked --release -p vmbackup --test alone -- --nocapture --ignored
	exit
fi

failed=''
# In a group of its own, so that it can be ended as one.
set -m
computing </dev/null >"$TMPDIR/computing.log" 2>&1 &
beside=$!
set +m
run cargo test --locked --workspace --no-fail-fast --test alone || failed=yes
wait "$beside" || failed=yes
beside=''
cat "$TMPDIR/computing.log"
run cargo test --locked --workspace --no-fail-fast --test together --test selftest || failed=yes
[[ -z $failed ]] || die 'tests have failed: see above'
