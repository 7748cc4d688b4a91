# Everything a newcomer or CI does with this repository. Each command sets up what it needs first (scripts/setup).
PORT ?= 8000
PY := .venv/bin/python
# Rooms of Python code that exist in this checkout.
CODE := $(wildcard src tests servers demo bench fuzz examples docs/conf.py conftest.py)
TYPED := $(wildcard src tests servers demo bench fuzz examples)
# How many run tests side by side. What waits for a server leaves room for another; the next free one takes the next test.
WORKERS ?= 2
SPREAD := -n $(WORKERS) --dist worksteal
COVER := --cov --cov-config=pyproject.toml --cov-report=term

.DEFAULT_GOAL := help
.PHONY: help setup demo side-by-side test test-all test-django6 check format docs bench bench-all scale fuzz explore sbom pins clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## .venv with everything tests and checks need (the other commands call it themselves)
	@bash scripts/setup dev

demo: ## the demo application: make demo PORT=8000
	@bash scripts/setup demo
	@$(PY) -m demo --port $(PORT)

side-by-side: ## an Express and a FastAPI application, one login: make side-by-side PORT=8000
	@bash scripts/setup side-by-side
	@bash scripts/node side-by-side
	@bash scripts/servers side-by-side
	@$(PY) examples/express-side-by-side/start.py --port $(PORT)

test: ## all tests that fit 25 minutes on two cores; core and lifecycle covered to 95%
	@bash scripts/setup dev
	@bash scripts/node test
	@bash scripts/servers test
	@$(PY) -m pytest -m "not slow" $(SPREAD) $(COVER)

test-all: ## the slow tests too
	@bash scripts/setup dev
	@bash scripts/node test
	@bash scripts/servers all
	@$(PY) -m pytest $(SPREAD) $(COVER)
	@$(MAKE) --no-print-directory test-django6

test-django6: ## Django's tests on the newest Django 6, which needs Python 3.12
	@bash scripts/django6
	@.venv-django6/bin/python -m pytest tests/web/djangos

check: ## lint, format, types, import contracts, docs
	@bash scripts/setup dev
	$(PY) -m ruff check $(CODE)
	$(PY) -m ruff format --check $(CODE)
	$(PY) -m mypy $(TYPED)
	.venv/bin/lint-imports
	@$(MAKE) --no-print-directory docs

format: ## let ruff mend what it can
	@bash scripts/setup dev
	$(PY) -m ruff check --fix $(CODE)
	$(PY) -m ruff format $(CODE)

docs: ## the documentation, into docs/_build/html; a warning is an error
	@bash scripts/setup dev
	$(PY) -m sphinx -W --keep-going -q -b html docs docs/_build/html

bench: ## coatcheck and its peers side by side: CPU per request, where there is a bar (20 minutes)
	@bash scripts/setup bench
	@bash scripts/node bench
	@bash scripts/servers bench
	@$(PY) -m bench; code=$$?; $(PY) -m bench.docs; exit $$code

bench-all: ## everything that docs/performance.md shows (over an hour and a half)
	@bash scripts/setup bench
	@bash scripts/node bench
	@bash scripts/servers bench
	@$(PY) -m bench.everything

scale: ## cost against the number of sessions stored (to a million: python -m bench.scale --full)
	@bash scripts/setup dev
	@bash scripts/servers bench
	@$(PY) -m bench.scale

fuzz: ## hostile input for as long as you let it
	@bash scripts/setup dev
	@$(PY) -m fuzz

explore: ## every order of two and three concurrent requests, with the number of schedules
	@bash scripts/setup dev
	@$(PY) -m coatcheck.testing.explorer
	@$(PY) -m coatcheck.testing.explorer --store sqlite --only pairs
	@$(PY) -m coatcheck.testing.explorer --store redis-model --only pairs

sbom: ## what an installation is made of (CycloneDX)
	@bash scripts/setup dev >&2
	@$(PY) scripts/sbom

pins: ## constraints.txt anew, from a fresh install of the newest versions
	@bash scripts/pins

clean: ## forget everything that the commands above made, save the demo's state
	rm -rf .venv .venv-django6 docs/_build dist .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
