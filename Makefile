# What people and CI run. Every target makes .venv first when it is missing.
PYTHON ?= $(shell for p in python3.13 $(HOME)/.pyenv/versions/3.13*/bin/python3 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo "$$p" && break; done)
VENV := .venv
BIN := $(VENV)/bin
# One more than two cores: tests wait for locks, clocks and processes a fifth of their time.
WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help install run up test check bench compat chaos test-tsql clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install: $(VENV)/.installed  ## make .venv (Python 3.13 preferred, 3.11 and 3.12 work)

$(VENV)/.installed: requirements.txt requirements-dev.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 was found; set PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	@$(BIN)/python -c 'import azure_functions_runtime' 2>/dev/null || $(BIN)/python -m pip install --quiet \
		--disable-pip-version-check --ignore-requires-python --no-deps azure-functions-runtime==1.3.0
	@touch $@

run: install  ## mine a seeded world on this machine and compare what arrived with the truth
	@$(BIN)/python -m infra.local.run $(if $(WORLD),--world $(WORLD))

up: install  ## keep the local stack running on real schedules until Ctrl-C
	@$(BIN)/python -m infra.local.run --up

test: install  ## everything that needs no cloud
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup tests

check: install  ## ruff, mypy strict, import rules, bandit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive pipeline function_app.py

bench: install  ## measured ratios against a bare loop, into .local/bench.json
	$(BIN)/python -m tests.bench

compat: install  ## the local Service Bus with other clients and languages
	$(BIN)/python -m tests.compat

chaos: install  ## the local stack under faults: make chaos SEED=1 SCALE=small
	$(BIN)/python -m tests.chaos --seed $(or $(SEED),1) --scale $(or $(SCALE),small)

test-tsql: install  ## every SQL Server statement through Microsoft's own parser
	$(BIN)/python -m tests.tsql

clean:  ## remove what runs leave behind
	rm -rf .local
