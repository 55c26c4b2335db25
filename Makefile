# Two commands do all: `make quickstart` and `make test`. Both make .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-oracles lint types clean

quickstart: $(VENV)/run.ok
	$(BIN)/python -m experiments.quickstart

test: $(VENV)/test.ok lint types
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0
	@echo "The comparisons with torch were left out: make test-oracles runs them."

test-oracles: $(VENV)/oracles.ok
	$(BIN)/python -m pytest -m torch

lint: $(VENV)/test.ok
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/test.ok
	$(BIN)/mypy

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed; try make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.ok: requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -r requirements.txt
	@touch $@

$(VENV)/test.ok: requirements-test.txt requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -r requirements-test.txt
	@touch $@ $(VENV)/run.ok

$(VENV)/oracles.ok: requirements-oracles.txt $(VENV)/test.ok
	$(BIN)/python -m pip install --quiet -r requirements-oracles.txt
	@touch $@

clean:
	rm -rf $(VENV)
