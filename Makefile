PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
URL ?=
# Tests start processes by the hundred: each would compile all of rota anew.
unexport PYTHONDONTWRITEBYTECODE
SEEDS ?= 200
FROM ?= 0
SEED ?=
ROUNDS ?= 5
READY := $(VENV)/.ready

.PHONY: help demo test check format bench slow simulate chaos docs clean

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/'

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

demo: $(READY) ## three nodes, one killed, one frozen, nothing lost (URL=postgresql://… for PostgreSQL)
	$(BIN)/rota demo $(if $(URL),--url "$(URL)")

test: $(READY) ## everything quick, on memory, SQLite and PostgreSQL
	$(BIN)/pytest -q -n 6 --dist worksteal -m "not slow"

slow: $(READY) ## the long suites
	$(BIN)/pytest -q -m slow

simulate: $(READY) ## nodes on a failing database, seed by seed (SEEDS=2000, FROM=0, or one: SEED=123)
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --from $(FROM))

check: $(READY) ## format, lint, types, import contracts, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python scripts/check_face.py
	$(BIN)/python scripts/check_sizes.py
	$(BIN)/pytest -q tests/docs/test_storage_page.py tests/docs/test_reference.py tests/docs/test_face.py tests/docs/test_commands.py
	$(MAKE) docs

docs: $(READY) ## the pages, as docs/_build/html/index.html; a warning fails
	$(BIN)/sphinx-build -q -W --keep-going -j auto -b html docs docs/_build/html

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## every benchmark on both databases, against what must be reached (ROUNDS=3)
	$(BIN)/python -m benchmarks.suite --rounds $(ROUNDS)

chaos: $(READY) ## real processes under faults (MINUTES=2 on each database, URL=sqlite, RATE=, SEED=, POISON=1)
	$(BIN)/python -m tests.chaos.run --minutes $(or $(MINUTES),2) $(if $(URL),--url "$(URL)") $(if $(RATE),--rate $(RATE)) $(if $(SEED),--seed $(SEED)) $(if $(POISON),--poison $(POISON))

clean: ## remove what the commands made
	rm -rf $(VENV) docs/_build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
