# The commands of this repository. `make run` first; `make help` lists them.
SHELL := /bin/bash
.PHONY: help run demo check test bench soak fuzz clean-dev
PROFILE ?= ci
BIN := $(or $(CARGO_TARGET_DIR),target)/$(PROFILE)

help:
	@echo 'make run    build, set up a private SoftHSM, start the daemon, issue and verify a passport, keep serving'
	@echo 'make demo   the same, but ends after the smoke test'
	@echo 'make check  format, lints, unit tests: no root, no network, under three minutes'
	@echo 'make test   everything; as root nothing is skipped'
	@echo 'make bench  the benches and the load generator, as tables; writes target/bench.json'
	@echo 'make fuzz   every fuzz target for FUZZ_SECONDS (60), or one: make fuzz TARGET=claims'
	@echo 'make soak   the long form of the tests; writes docs/SOAK.md'

run: ; @PROFILE=$(PROFILE) scripts/run
demo: ; @PROFILE=$(PROFILE) scripts/run --demo
check: ; @scripts/check
test: ; @scripts/test
bench: ; @scripts/bench
soak: ; @scripts/soak
fuzz: ; @scripts/fuzz $(TARGET)

# Ends nothing that runs: it only forgets the development daemon's keys, state and records.
clean-dev: ; rm -rf target/dev
