# Two commands do everything: make demo, make test. Both set up .venv first.

PYTHON := $(shell for one in python3.13 python3.12 python3.11 python3; do \
	$$one -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$one && break; done)
BIN := .venv/bin
PORT ?= 5000

.PHONY: demo test slow matrix coverage chaos soak lint docs all-pythons clean

demo: .venv/installed
	@echo
	@echo "  Open http://127.0.0.1:$(PORT)/ and click a button; the count moves by itself. Ctrl-C ends it."
	@echo
	@exec $(BIN)/flask --app example_app run --debug --no-reload --port $(PORT)

test: .venv/installed-dev
	$(BIN)/pytest -m "not slow"

# The tests with real servers, browsers and killed processes.
slow: .venv/installed-dev
	$(BIN)/pytest -m slow

# With the packages that apps have beside this one: other extensions, Sentry, OpenTelemetry.
matrix: .venv/installed-dev
	$(BIN)/tox -q -e matrix

# The tests, and what of the package it reached, in htmlcov/.
coverage: .venv/installed-dev
	$(BIN)/pytest --cov --cov-report=term --cov-report=html

# Kills, pauses and outages at full size, on every database; prints a table.
chaos: .venv/installed-dev
	TEST_MODEL_STEPS=5000 $(BIN)/pytest tests/store/test_model.py
	$(BIN)/python -m tests.whole.chaos

# Ten minutes of tasks and kills; prints what a dispatcher and the supervisor use meanwhile, and fails if it grows.
soak: .venv/installed-dev
	$(BIN)/python -m tests.whole.chaos.soak

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/installed-dev
	$(BIN)/sphinx-build -q -W -b html docs docs/_build/html

all-pythons: .venv/installed-dev
	$(BIN)/tox

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/pip install --quiet --editable .
	@touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@ .venv/installed

clean:
	rm -rf .venv .tox build dist docs/_build htmlcov *.egg-info
