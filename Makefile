# make demo   three throw-away VMs are backed up, changed, backed up again, restored and compared
# make test   everything that CI runs
# make fuzz   looks for inputs that break a reader
# make help   the rest

PREFIX ?= /usr/local
CONFIG_DIR ?= /opt/vmbackup/config
CARGO_TARGET_DIR ?= target
MODEL_STEPS ?= 5000
FEATURES ?=
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: help build demo test deps fuzz bench bench-fleet bench-micro soak install fmt lint clean

help:
	@echo 'make demo     back up, change, back up again, verify, restore and compare three throw-away VMs'
	@echo 'make test     everything that CI runs: format, lints, build, unit, property, lab and interop tests'
	@echo 'make bench    speed and memory, beside virtnbdbackup (BENCH_GIB=5.9 BENCH_RUNS=5)'
	@echo 'make bench-fleet  sessions of many VMs, and a look at a large backup tree'
	@echo 'make bench-micro  speed of the single pieces: frames, zeros, LZ4 and zstd, checksums, block map, extents'
	@echo 'make fuzz     each reader of foreign bytes on broken input, FUZZ_SECONDS=60 for each of them'
	@echo 'make soak     flipped bytes, the model test, kills at random moments, hangs at every stage, for much longer (DAMAGE_FLIPS, MODEL_STEPS=$(MODEL_STEPS), CRASH_KILLS, …_SEED)'
	@echo 'make deps     licences, sources and known faults of what the programs are built of (needs cargo-deny)'
	@echo 'make build    the programs, in $(CARGO_TARGET_DIR)/release (FEATURES=test-doors: one that tests can kill and date)'
	@echo 'make install  the programs to $(PREFIX)/bin, the configuration to $(CONFIG_DIR) unless there is one'
	@echo 'make fmt, make lint, make clean'

build:
	scripts/install-deps.sh build
	cargo build --locked --release --workspace $(if $(FEATURES),--features '$(FEATURES)')

demo:
	scripts/install-deps.sh demo
	scripts/keep-sudo.sh cargo build --locked --release --workspace
	scripts/demo.sh

test:
	scripts/install-deps.sh lab
	scripts/keep-sudo.sh scripts/test.sh

deps:
	@command -v cargo-deny >/dev/null || { echo 'make deps: cargo-deny is missing: cargo install --locked cargo-deny' >&2; exit 1; }
	cargo-deny --locked check

bench:
	scripts/install-deps.sh lab
	scripts/keep-sudo.sh cargo build --locked --release --workspace
	cargo build --locked --release -p vmstream --example make_chain
	benches/compare.sh

bench-micro:
	scripts/install-deps.sh build
	cargo bench --locked -p vmstream --bench data_path
	cargo bench --locked -p vmbackup --bench extents

fuzz:
	scripts/install-deps.sh lab
	scripts/fuzz.sh

bench-fleet:
	scripts/install-deps.sh lab
	scripts/keep-sudo.sh cargo build --locked --release --workspace --features test-doors
	benches/fleet.sh

soak:
	scripts/install-deps.sh lab
	MODEL_STEPS=$(MODEL_STEPS) scripts/keep-sudo.sh scripts/test.sh --soak

# Compiles nothing, so that nothing is compiled as root: `make build` comes first. A program with doors for tests obeys the
# variable, one without refuses it.
install:
	@if VMBACKUP_TEST_NOW=2030-01-01T00:00:00Z "$(CARGO_TARGET_DIR)/release/vmbackup" --version >/dev/null 2>&1; then \
		echo 'make install: $(CARGO_TARGET_DIR)/release/vmbackup was built for tests: make build first' >&2; exit 1; fi
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 "$(CARGO_TARGET_DIR)/release/vmbackup" "$(CARGO_TARGET_DIR)/release/vmstream" "$(DESTDIR)$(PREFIX)/bin"
	@for file in config/*/*; do \
		to="$(DESTDIR)$(CONFIG_DIR)/$${file#config/}"; \
		if [ -e "$$to" ]; then echo "kept $$to"; continue; fi; \
		install -d -m 750 "$$(dirname "$$to")"; \
		install -m 640 "$$file" "$$to" && echo "installed $$to"; \
	done
	@if [ -z "$(DESTDIR)" ]; then scripts/apparmor-rule.sh add; fi

fmt:
	cargo fmt --all

lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

# The lab builds its guest as root.
clean:
	$(SUDO) rm -rf "$(CARGO_TARGET_DIR)/lab" "$(CARGO_TARGET_DIR)/demo"
	cargo clean
