# make serve: see it run. make test: all tests. make lint: what a reviewer should not have to say.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PORT ?= 8080
REPORTS = reports

.PHONY: serve test lint format compliance unit integration browser packaging system clean

serve: $(VENV)/installed
	@$(BIN)/wsserver serve --port $(PORT)

# The environment is made anew when what it is made from changes.
$(VENV)/installed: pyproject.toml setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "wsserver needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

system:
	@sh tests/install_system_packages.sh

test: $(VENV)/installed system
	rm -rf $(REPORTS)/coverage && mkdir -p $(REPORTS)/coverage
	$(COVERED) tests/unit tests/compliance
	$(COVERED) --reactor=default tests/integration
	$(COVERED) tests/packaging
	$(COVERED) tests/browser
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
	$(BIN)/python tests/compliance/run.py --quick --out $(REPORTS)/compliance-quick

COVERED = $(BIN)/coverage run -m pytest

unit: $(VENV)/installed
	$(BIN)/pytest tests/unit

lint: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The whole official suite, ten minutes and more; the last result stands in docs/compliance.md.
compliance: $(VENV)/installed
	$(BIN)/python tests/compliance/run.py --out $(REPORTS)/compliance

clean:
	rm -rf $(VENV) build dist $(REPORTS) *.egg-info .coverage*
