# ModelPilot. `make help` lists the targets.

PYTHON ?= python3
BIN := .venv/bin
# Each test process has servers of its own (2 GiB), and the browser tests alone keep one busy for most of the time.
WORKERS ?= 2
STAMP := .venv/.installed
CODE := $(wildcard modelpilot activities workflows api dashboard infra processes cli simulator bench tests)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install up test lint types imports unit tests fmt bench clients clean

help: ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-9s %s\n", $$1, $$2}'

install: $(STAMP) ## Create .venv and install the pinned, hash-checked dependencies, test tools included

# The stamp carries the date of the last installation that finished; a changed lock or project file makes it old.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "ModelPilot needs Python 3.11 or newer, and $(PYTHON) is older or not there. Give another one:" \
	    "make install PYTHON=python3.12 (Debian and Ubuntu: apt install python3 python3-venv)" >&2; exit 1; }
	@$(PYTHON) -I infra/local/install.py
	@touch $@

up: install ## Start the whole platform on this machine; Ctrl-C stops it
	@$(BIN)/modelpilot up

test: install ## Run everything that must pass: lint, types, imports, tests
	$(MAKE) --no-print-directory lint types imports tests

lint: install ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install ## Check types
	$(BIN)/mypy

imports: install ## Check which package may import which
	$(BIN)/lint-imports

unit: install ## Run the unit tests, which start no server, in two processes (WORKERS=0: in this one)
	$(BIN)/pytest --numprocesses $(WORKERS) tests/unit

tests: install ## Run all tests, and say how much of the product's branches unit and integration tests went through
	$(BIN)/pytest --numprocesses $(WORKERS) --cov --cov-report=
	@echo "Branch coverage by unit and integration tests: $$($(BIN)/coverage report --format=total) %"

fmt: install ## Format, and fix what can be fixed by machine
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: install ## Run the gateway benchmark
	$(BIN)/modelpilot bench gateway

clients: install ## Run real clients and coding agents against the gateway (CLIENTS="openai litellm": only these)
	$(BIN)/python -m tests.clients $(CLIENTS)

clean: ## Remove what tools left behind (not .venv, not .modelpilot)
	rm -rf build dist *.egg-info .coverage htmlcov .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
