# Each target sets up what it needs on a fresh machine: Python 3.11 or newer and make are enough.
# Without a GPU, torch's CPU build is far smaller:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo
PYTHON ?= python3
BIN := .venv/bin
NEWEST := .venv-newest/bin
PIP_INSTALL := -m pip --disable-pip-version-check install -qq
INSTALL := $(BIN)/python $(PIP_INSTALL) --constraint constraints.txt

.PHONY: demo test test-all test-newest bench clean
.NOTPARALLEL:

demo: .venv/.demo
	$(BIN)/yanma demo

# Of the grids of families, heads and arguments a few cases; the others are marked slow.
test: TESTS := -m 'not slow'
test test-all: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python scripts/docs.py --check
	$(BIN)/python scripts/families.py --check
	OMP_WAIT_POLICY=passive $(BIN)/pytest --numprocesses 2 $(TESTS)

# The tests with the newest releases that pyproject.toml allows; `rm -r .venv-newest` to look for newer ones.
test-newest: .venv-newest/.dev
	@$(NEWEST)/python -m pip --disable-pip-version-check list | grep -E '^(accelerate|peft|sentence-transformers|torch|transformers) '
	OMP_WAIT_POLICY=passive $(NEWEST)/pytest --numprocesses 2

# The weights that are measured come with the demo.
bench: .venv/.demo .venv/.bench
	$(BIN)/yanma bench --write docs/benchmarks.md
	$(BIN)/yanma bench masks --write docs/benchmarks.md
	$(BIN)/yanma bench pretraining --rounds 5 --write docs/benchmarks.md

# A stamp an extra: set-up runs again only when what it reads has changed.
.venv/.demo .venv/.dev .venv/.bench: .venv/.torch pyproject.toml constraints.txt
	@echo "Installing yanma[$(subst .,,$(@F))] into .venv (the first time takes a few minutes)"
	@$(INSTALL) --editable '.[$(subst .,,$(@F))]'
	@touch $@

# torch first, and pinned: whatever depends on torch then takes the build that is there.
.venv/.torch: constraints.txt | .venv/.python
	@echo "Installing torch into .venv (the first time takes a few minutes)"
	@$(INSTALL) torch
	@touch $@

# torch first here too: it is all that yanma without extras needs.
.venv-newest/.dev: pyproject.toml | .venv-newest/.python
	@echo "Installing the newest torch and yanma[demo,dev] into .venv-newest (the first time takes a few minutes)"
	@$(NEWEST)/python $(PIP_INSTALL) --upgrade --upgrade-strategy eager --editable .
	@$(NEWEST)/python $(PIP_INSTALL) --upgrade --upgrade-strategy eager --editable '.[demo,dev]'
	@touch $@

.venv/.python .venv-newest/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "yanma needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1 | head -n 1)." \
	       "Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(@D)
	@touch $@

clean:
	rm -rf .venv .venv-newest .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
