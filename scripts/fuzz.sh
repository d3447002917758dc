#!/bin/bash
# Fuzzes the readers of foreign bytes, one target after the other.
#
#   fuzz.sh [TARGET…]   runs each target (or those named) for FUZZ_SECONDS (default 60)
#   fuzz.sh --build     only builds the libFuzzer programs, as CI does
#
# Uses cargo-fuzz where it is installed (cargo install cargo-fuzz; a stable compiler will do), else the mutator of
# the project's own tests, which knows nothing of coverage. What libFuzzer learns stays in fuzz/corpus, a finding in
# fuzz/artifacts: mend the reader and keep the input in fuzz/findings/TARGET, where every test run reads it again.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
cd "$root"
readonly seconds=${FUZZ_SECONDS:-60}

# The fuzz programs are a workspace of their own, with the project's versions of everything.
cp Cargo.lock fuzz/Cargo.lock

if [[ ${1-} == --build ]]; then
	exec cargo build --manifest-path fuzz/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}"
fi

targets=("$@")
if [[ $# -eq 0 ]]; then
	for file in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

if ! cargo fuzz --version >/dev/null 2>&1; then
	echo "fuzz: no cargo-fuzz here (cargo install cargo-fuzz): runs the tests' own mutator"
	FUZZ_SECONDS=$seconds exec cargo test --locked -p fuzz-bodies --test replay -- --nocapture "${targets[@]}"
fi

cargo run --locked --quiet -p fuzz-bodies --bin fuzz-seeds -- fuzz/corpus
cargo fuzz build --sanitizer none
programs=fuzz/target/$(rustc -vV | sed -n 's/^host: //p')/release
failed=()
for target in "${targets[@]}"; do
	printf '\n== %s, %s s ==\n' "$target" "$seconds"
	mkdir -p "fuzz/artifacts/$target"
	"$programs/$target" -max_total_time="$seconds" -timeout=30 -rss_limit_mb=3000 -max_len=65536 \
		-print_final_stats=1 -artifact_prefix="fuzz/artifacts/$target/" "fuzz/corpus/$target" 2>&1 |
		grep -v '^#[0-9]*[[:space:]]*\(NEW\|REDUCE\|RELOAD\|pulse\)' || failed+=("$target")
done
if [[ ${#failed[@]} -gt 0 ]]; then
	printf '\nfuzz: FOUND something in: %s; see fuzz/artifacts\n' "${failed[*]}" >&2
	exit 1
fi
printf '\nfuzz: nothing found\n'
