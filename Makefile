# Each target sets up what it needs on a fresh machine: Python 3.11 or newer and make are enough.
# Without a GPU, torch's CPU build is far smaller:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install -qq --constraint constraints.txt

.PHONY: demo test bench clean
.NOTPARALLEL:

demo: .venv/.demo
	$(BIN)/yanma demo

test: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python scripts/docs.py --check
	$(BIN)/python scripts/families.py --check
	OMP_WAIT_POLICY=passive $(BIN)/pytest --numprocesses 2

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
.venv/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "yanma needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1 | head -n 1)." \
	       "Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing torch into .venv (the first time takes a few minutes)"
	@$(PYTHON) -m venv .venv
	@$(INSTALL) torch
	@touch $@

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
