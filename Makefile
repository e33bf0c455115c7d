# Everything happens in a virtual environment of its own; Python 3.11 or later with venv is all it takes.

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO ?= demo

# Python keeps what it compiles of the sources, whatever the environment says: workers and commands are processes of
# their own, and without that each would spend half a second on it again.
unexport PYTHONDONTWRITEBYTECODE

# Three processes on two cores, since tests also wait; threads of the linear algebra would be in their way.
PYTEST = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 3 --dist loadgroup \
	--no-loadscope-reorder --durations 25

# Arrays, tables and lakes: what a change of an algorithm or of a file format is likely to break.
QUICK = tests/core tests/schema tests/calibration tests/table tests/lake \
	tests/image/detection tests/image/detrend tests/image/fitsio tests/image/photometry

.PHONY: demo quick test trials lint docs format generated deployed-schemas bench clean help

help:
	@echo "make demo              simulate two nights, run everything on them, tell where to look"
	@echo "make quick             run the fast tests of arrays, tables and lakes: two minutes"
	@echo "make test              run the tests"
	@echo "make trials            run those that take minutes: claims of benchmarks, kills of publishing, all examples of laws"
	@echo "make lint              check style, types and layers"
	@echo "make docs              build the documentation into site/"
	@echo "make generated         write the DDL and the reference pages in docs/ anew"
	@echo "make deployed-schemas  record the schemas that have a new version"
	@echo "make bench             run all benchmarks, and fail at the end if a claim was missed"

demo: $(VENV)/.installed
	@$(BIN)/skylake demo $(DEMO)

quick: $(VENV)/.developing
	$(PYTEST) -m "not slow and not full" $(QUICK)

test: $(VENV)/.developing
	$(PYTEST) -m "not slow"

trials: $(VENV)/.developing
	HYPOTHESIS_PROFILE=trials $(PYTEST) -m "slow or hypothesis"

lint: $(VENV)/.developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The theme's notice about the next version of MkDocs is of no use to those who build.
docs: $(VENV)/.documenting
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(VENV)/.developing
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generated: $(VENV)/.installed
	$(BIN)/python -m skylake.cli.generate

deployed-schemas: $(VENV)/.installed
	$(BIN)/python -m skylake.cli.deploy

bench: $(VENV)/.developing
	@status=0; for script in $$(grep -l '^if __name__ == "__main__"' benchmarks/*.py); do \
		echo "== $$script"; $(BIN)/python $$script || status=1; done; exit $$status

clean:
	rm -rf $(VENV) demo site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "skylake needs Python 3.11 or later; install it, or say make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv is missing; on Debian and Ubuntu: apt install python3-venv"; exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing skylake and what it needs into $(VENV)"
	@PIP_CONSTRAINT=constraints.txt $(PIP) --editable .
	@touch $@

$(VENV)/.developing: $(VENV)/.installed
	@echo "installing the tools of developers into $(VENV)"
	@PIP_CONSTRAINT=constraints.txt $(PIP) --editable ".[dev]"
	@touch $@

$(VENV)/.documenting: $(VENV)/.installed
	@echo "installing the tools of the documentation into $(VENV)"
	@PIP_CONSTRAINT=constraints.txt $(PIP) --editable ".[docs]"
	@touch $@
