# make demo: watch LandCue work.  make test: lint, types and tests.  Both install into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint tests install docs clean

demo: install
	$(BIN)/landcue demo demo

test: lint tests

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# The suite runs one file per process and core; torch takes one thread in each.
tests: install
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

docs: $(STAMP)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

install: $(STAMP)

# torch, torchvision and timm come together with everything else: a torch of another build than
# torchvision's fails at import.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "LandCue needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=24'
	@echo "Installing LandCue and what it needs (torch is large: a few minutes) ..."
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo site build dist
