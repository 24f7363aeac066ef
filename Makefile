PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
URL ?=
READY := $(VENV)/.ready

.PHONY: help demo test check format bench slow clean

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/'

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

demo: $(READY) ## three nodes, one killed, one frozen, nothing lost (URL=postgresql://… for PostgreSQL)
	$(BIN)/rota demo $(if $(URL),--url "$(URL)")

test: $(READY) ## everything quick, on memory, SQLite and PostgreSQL
	$(BIN)/pytest -q -n 4 -m "not slow"

slow: $(READY) ## the long suites
	$(BIN)/pytest -q -m slow

check: $(READY) ## format, lint, types, import contracts, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python scripts/check_face.py
	$(BIN)/python scripts/check_sizes.py
	$(BIN)/pytest -q tests/docs/test_storage_page.py tests/docs/test_reference.py

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## all benchmarks
	$(BIN)/python -m benchmarks drain

clean: ## remove what the commands made
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
