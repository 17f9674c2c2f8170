# Two commands do everything on a fresh Debian or Ubuntu: `make demo` and `make test`.
# PYTHON=/path/to/python3 chooses the interpreter; PYTEST_ARGS go to pytest, BENCHMARK_ARGS to
# the benchmarks, FUZZ_ARGS (--seed 5) to the fuzz campaign.

MAKEFLAGS += --no-print-directory
# Another environment's modules must not leak into this one.
unexport PYTHONPATH PYTHONHOME
# The scripts see an interpreter that is given on make's command line.
export PYTHON

BIN := .venv/bin
PYTEST_ARGS ?=
BENCHMARK_ARGS ?=
FUZZ_SECONDS ?= 600
FUZZ_ARGS ?=

.PHONY: help demo test benchmark fuzz audit check format setup clean

help:
	@echo "make demo       from raw frames to a mega-cube, and one of real data; says where to look"
	@echo "make test       all checks and tests"
	@echo "make benchmark  measure stacking, export, reading and scaling beside others"
	@echo "make fuzz       damaged input for every reader, for FUZZ_SECONDS (600) seconds"
	@echo "make audit      known vulnerabilities of what is installed, where their database can be had"
	@echo "make check      ruff and mypy alone"
	@echo "make format     lay the code out and mend what ruff can mend"
	@echo "make clean      remove .venv, caches and the demo's folder"

setup:
	@.ci/venv

demo: setup
	@.ci/tools
	$(BIN)/musedask demo demo

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# A test that hangs ends its worker after ten minutes. It is not begun again: it would hang again.
test: check
	@.ci/tools
	@$(BIN)/python tests/compiled_beforehand.py
	$(BIN)/pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --max-worker-restart=0 \
		--benchmark-disable --cov --cov-report=term:skip-covered $(PYTEST_ARGS)

benchmark: setup
	@.ci/tools
	@.ci/peers
	$(BIN)/python -m benchmarks all --size small $(BENCHMARK_ARGS)

fuzz: setup
	$(BIN)/python -m fuzz run --seconds $(FUZZ_SECONDS) $(FUZZ_ARGS)

# Not part of the tests: what the database answers changes from day to day.
audit: setup
	@.ci/audit

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf .venv .cache .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis demo
