# make demo: watch LandCue work.  make test: lint, types and tests.  Both install into .venv first,
# and build the web page with the machine's Node or one from PyPI.
PYTHON ?= python3
# Tests start hundreds of processes: Python keeps what it compiled, also where an image forbids it.
export PYTHONDONTWRITEBYTECODE :=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PAGE := src/landcue/server/page/.built
PAGE_SOURCES := $(wildcard web/*.json web/*.html web/*.ts scripts/*page*) \
	$(shell find web/src web/public -type f)

FAST := not browser and not ray and not milvus and not s3 and not ddp and not fuzz and not attack \
	and not bare and not slow

.PHONY: demo test test-all lint lint-all tests tests-all page page-check install docs pins pin-images clean

demo: $(VENV)/.demo page
	$(BIN)/landcue demo demo

# The fast part; test-all is everything, as CI runs it.
test: lint tests

test-all: lint-all page-check tests-all

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --threads 2
	$(BIN)/lint-imports

# Code of other systems is checked as well.
lint-all: lint
	$(BIN)/pyright --threads 2 --pythonplatform Darwin
	$(BIN)/pyright --threads 2 --pythonplatform Windows

# Each process runs whole files (see tests/conftest.py), with one thread for torch. The run stops
# when a process dies, and names the test: xdist 3.8 can hang after replacing one.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadgroup --max-worker-restart 0

# With the examples of docstrings.
tests: install page
	$(PYTEST) -m '$(FAST)' --doctest-modules tests src

# In two runs, so that the second starts with the memory that the first one used. It waits for
# browsers, servers and clusters most of the time: in one process more than there are cores. Groups
# begin in the order of tests/conftest.py, not those with most tests first.
MORE = $(shell $(BIN)/python -c 'import os; print((os.cpu_count() or 1) + 1)')

tests-all: tests
	$(PYTEST) -n $(MORE) --no-loadscope-reorder -m 'not ($(FAST))'

page: $(PAGE)

$(PAGE): $(PAGE_SOURCES) | $(BIN)/python
	$(BIN)/python scripts/build_page.py

# Types and tests of the page itself.
page-check: install
	$(BIN)/python scripts/web_types.py check
	$(BIN)/python scripts/build_page.py check

docs: $(STAMP)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

install: $(STAMP)

# torch, torchvision and timm come together with everything else: a torch of another build than
# torchvision's fails at import.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=24'
	@echo "Installing LandCue and what it needs (torch is large: a few minutes) ..."
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

# What the demo needs, and no tools of development.
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=24'
	@echo "Installing LandCue and what training needs (torch is large: a few minutes) ..."
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[train]'
	touch $@

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "LandCue needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

# What the container image installs, with the hashes of all files; after a change of constraints.txt.
pins: install
	$(BIN)/pip install --quiet 'uv>=0.8'
	$(BIN)/uv pip compile --quiet pyproject.toml --extra ann --extra milvus --extra ray \
	  --constraint constraints.txt --generate-hashes --no-annotate --python-version 3.12 \
	  --python-platform linux --custom-compile-command 'make pins' -o deploy/requirements.txt

# Writes the digests that the tags of images in deploy/ have now; needs their registries.
pin-images: install
	$(BIN)/python scripts/pin_images.py

clean:
	rm -rf $(VENV) demo site build dist web/node_modules $(dir $(PAGE))
