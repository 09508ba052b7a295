# `make run` and `make test` set up .venv when it is missing or out of date, and need nothing else.
SHELL := /bin/bash
PYTHON_IN_VENV := .venv/bin/python
TEST_JOBS ?= 2
RUN_ARGS ?= --config=vdfd --env-config=sc2 with map_name=MMM2 t_max=12000 test_interval=6000 log_interval=1000 save_model_interval=6000

.PHONY: run test lint unit docs setup clean

run: setup ## train VDFD on MMM2 for a few minutes
	@$(PYTHON_IN_VENV) src/main.py $(RUN_ARGS)

test: setup ## everything CI runs
	@# Types are checked beside the first tests.
	@$(MAKE) --no-print-directory --jobs=2 lint unit

lint: setup
	@$(PYTHON_IN_VENV) -m ruff check .
	@$(PYTHON_IN_VENV) -m ruff format --check .
	@$(PYTHON_IN_VENV) -m mypy src

unit: setup
	@# In the order of the folders: long files come first, not those with many tests, and the first one alone
	@# compiles the battle engine.
	@$(PYTHON_IN_VENV) -m pytest tests --numprocesses=$(TEST_JOBS) --dist=loadfile --no-loadscope-reorder

docs: setup ## the documentation into docs/_build/html; warnings are errors
	@$(PYTHON_IN_VENV) -c 'import sphinx, myst_parser' 2>/dev/null || $(PYTHON_IN_VENV) -m pip install -qq --disable-pip-version-check -e '.[docs]'
	@$(PYTHON_IN_VENV) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

setup:
	@bash .ci/setup

clean: ## remove the environment and build products, keep results/
	rm -rf .venv build dist *.egg-info src/*.egg-info
