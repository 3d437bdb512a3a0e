# Everything runs in .venv, which the first command that needs it fills from requirements/dev.txt.
# Another interpreter: make PYTHON=/path/to/python3.12

.DEFAULT_GOAL := help
BIN := .venv/bin
STAMP := .venv/.installed
FUZZ_STAMP := .venv/.installed-fuzz
ARGS ?=
JOBS ?= 2
SEEDS ?= 100
START ?= 0
SECONDS ?= 600
KILLS ?= 200
MB ?= 100
SEED ?= 1
export PYTHON

# An environment that was made elsewhere points to the code there: install again after a move.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

.PHONY: help
help:
	@echo "make demo         start a network on this machine and render a picture on it"
	@echo "make examples     compile the examples in every language (ARGS=kmers: one)"
	@echo "make test         run all tests, two files at once (JOBS=0: one after the other, in one process)"
	@echo "make simulate     simulate whole networks with faults (SEEDS=1000, START=0)"
	@echo "make fuzz         fuzz every decoder, by coverage (DECODER=vote: one; SECONDS=600 for each)"
	@echo "make fuzz-sandbox the same for what programs bring, from bytes to outcome (SECONDS=600 for each)"
	@echo "make kills        kill clients, workers and relays of a network at random (KILLS=200, SEED=1)"
	@echo "make kills-wallet kill fog wallet commands at random, and count all tokens (KILLS=200, SEED=1)"
	@echo "make abuse        attack a relay of real processes, and measure what others keep"
	@echo "make large        send large data both ways while relays die (MB=100), and tell who used how much memory"
	@echo "make conformance  run the public programs that test WASI (SUITE=/path/to/wasi-testsuite)"
	@echo "make lint         check style, types and the import contracts"
	@echo "make package      build the distributions and try them in a fresh environment"
	@echo "make bench        run every benchmark (make bench-onion, bench-sandbox: one; ARGS=--json: as JSON)"
	@echo "make lock         resolve requirements/*.txt anew (needs the package index)"
	@echo "make clean        remove .venv, caches and built files"

$(STAMP): requirements/dev.txt pyproject.toml tools/install tools/check_links.py
	@tools/install requirements/dev.txt

.PHONY: demo
demo: $(STAMP)
	@$(BIN)/fog demo $(ARGS)

.PHONY: examples
examples: $(STAMP)
	@$(BIN)/python examples/build.py $(ARGS)

.PHONY: test
test: $(STAMP)
	@$(BIN)/pytest -n $(JOBS) $(ARGS)

.PHONY: simulate
simulate: $(STAMP)
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --start $(START) $(ARGS)

$(FUZZ_STAMP): $(STAMP) requirements/fuzz.txt
	@tools/install requirements/fuzz.txt
	@touch $@

.PHONY: fuzz
fuzz: $(FUZZ_STAMP)
	@$(BIN)/python -m tests.fuzz $(DECODER) --seconds $(SECONDS) $(ARGS)

.PHONY: fuzz-sandbox
fuzz-sandbox: $(FUZZ_STAMP)
	@$(BIN)/python -m tests.fuzz guest-s-run guest-s-module guest-s-calls --seconds $(SECONDS) $(ARGS)

.PHONY: kills
kills: $(STAMP)
	@$(BIN)/python -m tests.kills --kills $(KILLS) --seed $(SEED) $(ARGS)

.PHONY: kills-wallet
kills-wallet: $(STAMP)
	@$(BIN)/python -m tests.kills.wallets --kills $(KILLS) --seed $(SEED) $(ARGS)

.PHONY: large
large: $(STAMP)
	@FOG_LARGE_MB=$(MB) $(BIN)/pytest -rP tests/system/test_large_data.py $(ARGS)

.PHONY: abuse
abuse: $(STAMP)
	@$(BIN)/pytest -m abuse -rP tests/abuse $(ARGS)

.PHONY: conformance
conformance: $(STAMP)
	@$(BIN)/python -m tests.conformance $(SUITE)

.PHONY: lint
lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src tests tools examples/build.py
	$(BIN)/lint-imports --no-logo

.PHONY: package
package: $(STAMP)
	@$(BIN)/python tools/check_package.py

.PHONY: bench bench-onion bench-metering bench-sandbox bench-arrays bench-jobs bench-mint
bench: bench-onion bench-metering bench-sandbox bench-arrays bench-jobs bench-mint
bench-onion: $(STAMP)
	@$(BIN)/python bench/onion.py $(ARGS)
bench-metering: $(STAMP)
	@$(BIN)/python bench/metering.py $(ARGS)
bench-sandbox: $(STAMP)
	@$(BIN)/python bench/sandbox.py $(ARGS)
bench-arrays: $(STAMP)
	@$(BIN)/python -m bench.arrays $(ARGS)
bench-jobs: $(STAMP)
	@$(BIN)/python bench/jobs.py $(ARGS)
bench-mint: $(STAMP)
	@$(BIN)/python bench/mint.py $(ARGS)

.PHONY: lock
lock: $(STAMP)
	@tools/lock

.PHONY: clean
clean:
	rm -rf .venv .install.lock dist demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
