# Two commands: `make demo` and `make test`. Both make .venv/ first; later runs reuse it.
PYTHON ?= $(shell for p in python3.12 python3.11 python3.10 python3; do \
	$$p -c 'import sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-cluster lint bench docs test-pins clean

demo: $(READY)
	$(BIN)/hcpl demo --output demo_output

# The floor of the coverage (fail_under) is in pyproject.toml; the report names the lines that no test reaches.
test: lint
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/hcpl bench

# The pages of docs/ as a site, offline; a warning (a dead link) is an error.
docs: $(READY)
	$(BIN)/python -m sphinx -q -W -n -d build/trees docs build/docs
	@echo "open build/docs/index.html"

# Ray Core and a local S3 server; `make test` skips these tests where they are not installed.
test-cluster: .venv/.ready-cluster
	$(BIN)/python -m pytest tests/cluster

.venv/.ready-cluster: $(READY) requirements-cluster.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-cluster.txt
	touch $@

# The tests against the package versions of Kaggle's images; PYTHON must be 3.12, as there.
test-pins:
	for pins in early-2026 current; do \
		$(PYTHON) -m venv .venv-$$pins && \
		.venv-$$pins/bin/python -m pip install --quiet -r tests/kaggle_pins/$$pins.txt && \
		.venv-$$pins/bin/python -m pip install --quiet --no-deps --no-build-isolation -e . && \
		.venv-$$pins/bin/python -m pytest || exit 1; \
	done

$(READY): requirements.txt requirements-docs.txt setup.py
	@test -n "$(PYTHON)" || { echo "Python 3.10, 3.11 or 3.12 is needed (set PYTHON=/path/to/python)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf .venv demo_output build dist *.egg-info
