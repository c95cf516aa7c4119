# kinglet's tasks. `make help` lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test test-vm check fmt lint deny advisories doc build static bench fuzz golden deps clean

CARGO ?= cargo
IS_ROOT := $(shell [ "$$(id -u)" = 0 ] && echo yes)

help: ## List the tasks
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  %-10s %s\n", $$1, $$2 }'

run: ## Start a cluster of one with the examples, until Ctrl-C; leaves the host clean (root)
ifeq ($(IS_ROOT),yes)
	@packaging/deps.sh run
	$(CARGO) build --bin kinglet
	@packaging/run.sh target/debug/kinglet
else
	@echo "Containers need root. Run instead:  sudo -E env PATH=\"\$$PATH\" make run"; exit 1
endif

test: ## Install what the tests need and run all of them (root)
ifeq ($(IS_ROOT),yes)
	@packaging/deps.sh test
	$(CARGO) fmt --check
	$(CARGO) clippy --quiet --all-targets -- -D warnings
	@$(MAKE) --no-print-directory doc
	$(CARGO) test
else
	@echo "Containers need root. Run instead:  sudo -E env PATH=\"\$$PATH\" make test"
	@echo "Without root:                       make check"; exit 1
endif

test-vm: ## Cut a virtual machine's power fifty times while it writes; up to 30 minutes (root)
ifeq ($(IS_ROOT),yes)
	@packaging/deps.sh vm
	@packaging/static.sh amd64
	@python3 tests/vm/run.py target/static/kinglet-amd64 $(if $(PREVIOUS),--previous $(PREVIOUS))
else
	@echo "Building Debian needs root. Run instead:  sudo -E env PATH=\"\$$PATH\" make test-vm"; exit 1
endif

check: fmt lint ## Format, lints and the tests that need neither root nor network
	$(CARGO) test --lib --test tidy --test store --test api --test registry --test sim --test cluster --test kubelet
	@$(MAKE) --no-print-directory deny doc

fmt: ## Check the format
	$(CARGO) fmt --check

lint: ## Check with clippy
	$(CARGO) clippy --all-targets -- -D warnings

deny: ## Check licences, duplicates and sources of dependencies, where cargo-deny is installed
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny check -D unmatched-skip licenses bans sources; \
	else echo "cargo-deny is not installed; licences are not checked (cargo install --locked cargo-deny)"; fi

advisories: ## Check dependencies for what is known to be broken (cargo-deny, network)
	$(CARGO) deny check advisories

doc: ## Check the documentation
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --document-private-items --quiet

build: ## Build the release executable
	$(CARGO) build --release

# For which machines: amd64, arm64, arm (armv7).
STATIC ?= amd64

static: ## Build static executables (musl), for STATIC="amd64 arm64 arm"
	@packaging/static.sh $(STATIC)

bench: ## Measure what DESIGN asks for, on the release build (root)
ifeq ($(IS_ROOT),yes)
	@packaging/deps.sh bench
	$(CARGO) build --release
	KINGLET_EXECUTABLE=$(CURDIR)/target/release/kinglet $(CARGO) bench --profile measure --bench cluster
	KINGLET_EXECUTABLE=$(CURDIR)/target/release/kinglet $(CARGO) bench --profile measure --bench api
	KINGLET_EXECUTABLE=$(CURDIR)/target/release/kinglet $(CARGO) bench --profile measure --bench ingress
	$(CARGO) bench --profile measure --bench scheduling
	$(CARGO) bench --profile measure --bench access
	$(CARGO) bench --profile measure --bench dns
	$(CARGO) bench --profile measure --bench services
else
	@echo "Containers need root. Run instead:  sudo -E env PATH=\"\$$PATH\" make bench"; exit 1
endif

FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(notdir $(basename $(wildcard fuzz/targets/*.rs)))
# One codegen unit, which is what cargo-fuzz takes where it is not told, takes ten GiB and half an hour.
FUZZ_BUILD := --sanitizer none --codegen-units 32
# Requests may ask for webhooks anywhere: nothing gets anywhere.
FUZZ_ALONE := unshare --map-root-user --net

# Targets without seeds grow documents out of bytes, and find little in the few that a fuzzer starts with.
fuzz: ## Look for input that panics, FUZZ_SECONDS for each of FUZZ_TARGETS (cargo-fuzz)
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { echo "Needs: cargo install --locked cargo-fuzz"; exit 1; }
	@$(FUZZ_ALONE) true || { echo "Needs network namespaces: unshare --map-root-user --net"; exit 1; }
	$(CARGO) fuzz build $(FUZZ_BUILD)
	@for target in $(FUZZ_TARGETS); do \
	  corpus=fuzz/corpus/$$target; mkdir -p $$corpus; \
	  if [ -n "$$(ls fuzz/seeds/$$target 2>/dev/null)" ]; then more=fuzz/seeds/$$target; \
	  else more=; head -c 2048 /dev/urandom > $$corpus/noise; fi; \
	  words=fuzz/dictionaries/$$target; if [ -e $$words ]; then words=-dict=$$words; else words=; fi; \
	  $(FUZZ_ALONE) $(CARGO) fuzz run $(FUZZ_BUILD) $$target $$corpus $$more -- $$words \
	    -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 -timeout=10 -max_len=65536 -len_control=10 || exit 1; \
	done

golden: ## Rewrite the golden files; review the difference
	UPDATE_GOLDEN=1 $(CARGO) test --lib --test registry

deps: ## Install what the tests need
	@packaging/deps.sh test

clean: ## Remove what was built
	$(CARGO) clean
