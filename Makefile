# `make` alone lists the commands. Each sets up what it needs.

# The environment keeps the Python it was made with; `make clean setup PYTHON=python3.13` makes it with another.
PYTHON ?= $(shell test -x .venv/bin/python && echo .venv/bin/python || echo python3)
# cpu, cuda or plain (see scripts/make_venv.py); empty finds out.
FLAVOUR ?=

VENV := .venv/bin/python -m

# Nothing here reports home.
export DO_NOT_TRACK := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export VLLM_NO_USAGE_STATS := 1

.PHONY: help setup demo serve bench consumers test check lint types format clean

help:  ## list the commands
	@awk 'BEGIN {FS = ":.*  ## "} /^[a-z]+:.*  ## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## make .venv from the pinned versions (again: only if they changed)
	@$(PYTHON) scripts/make_venv.py $(FLAVOUR)

demo: setup  ## train a teacher and its students in a toy world; ends with demo/report.html (ARGS="--full --seeds 5")
	@.venv/bin/rlt demo $(ARGS)

serve: setup  ## serve the demo's teacher over REST, after making it once (ARGS="--port 8080")
	@test -f demo/seed-0/models/rlt_teacher/config.json || .venv/bin/rlt demo
	@.venv/bin/rlt serve --runs demo $(ARGS)

bench: setup  ## measure the scorer against the reference algorithm, into benchmarks/results (ARGS="serve": the service)
	@.venv/bin/rlt bench $(or $(ARGS),score)

consumers: setup  ## load every export with its real consumer, each in its own environment: 10 GB (ARGS="verl axolotl")
	@.venv/bin/python -m scripts.consumers $(ARGS)

test: setup  ## run every test, a process a core (ARGS="-k reward")
	@$(VENV) pytest -n logical --maxprocesses 4 --no-loadscope-reorder $(ARGS)

check: lint types test  ## everything that CI checks: lint, types, tests

lint: setup  ## check style and formatting
	@$(VENV) ruff check
	@$(VENV) ruff format --check

types: setup  ## check the types, strictly
	@$(VENV) mypy

format: setup  ## put the code into the project's format
	@$(VENV) ruff check --fix
	@$(VENV) ruff format

clean:  ## remove .venv, .consumers and caches; demo/ and runs/ stay
	rm -rf .venv .consumers .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find student teacher server tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
