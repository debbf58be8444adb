# `make` alone lists what can be made. Every target makes the virtual environment it needs; nothing is done by hand.

SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements/constraints.txt

# The first Python that is new enough; `make PYTHON=/path/to/python3.12 ...` chooses another.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(or $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done),python3)

# The models are so small that more threads mostly wait for each other, and badly so on a shared machine.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
# Tests and figures need neither a display nor the network.
OFFLINE := SDL_VIDEODRIVER=dummy MPLBACKEND=Agg HF_HUB_OFFLINE=1

# A test file stays in one process: its fixtures are made once.
PYTEST = $(OFFLINE) $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

.PHONY: help quickstart install test test-slow test-all test-rllib test-bits lint format docs bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

quickstart: $(VENV)/.quickstart  ## install what the main job needs and run it: an SB3 agent against the embedded VLM
	$(BIN)/rls3 run quickstart

install: $(VENV)/.install  ## install all extras and what tests and lint need

test: lint  ## lint, then the quick tests (under ten minutes on two cores)
	$(PYTEST)

test-slow: $(VENV)/.install  ## the slow tests alone, without lint
	$(PYTEST) -m slow

test-all: lint  ## lint, then all tests, the slow ones too
	$(PYTEST) -m "slow or not slow"

test-rllib: build/rllib/.install  ## the agents of RLlib, which pins gymnasium, in an environment of their own
	$(OFFLINE) build/rllib/bin/python -m pytest -m "slow or not slow" tests/test_rllib_agents.py

test-bits: build/bits/.install  ## VLMs in 8 and 4 bits, with bitsandbytes, which no extra brings
	$(OFFLINE) PYTHONPATH=build/bits $(BIN)/python -m pytest -k in_few_bits tests/test_generative_vlm.py

lint: $(VENV)/.install  ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p build/typing && ln -sfn ../../agents build/typing/rls3_agents && ln -sfn ../../registry build/typing/rls3_registry
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.install  ## let ruff rewrite the files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.install  ## build the documentation site into build/site, strictly
	@mkdir -p build/typing && ln -sfn ../../agents build/typing/rls3_agents && ln -sfn ../../registry build/typing/rls3_registry
	$(OFFLINE) DISABLE_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs build --strict --quiet

bench: $(VENV)/.install  ## measure the tracer, a step of the environment, a round of fine-tuning, a checkpoint
	set -e; for name in tracer env_step finetune checkpoint; do echo "== $$name"; $(OFFLINE) $(BIN)/python benchmarks/$$name.py; done

clean:  ## remove the virtual environment and all that was built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { \
	  echo "rls3_gym needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 2; }

# The stamps make a repeated call quick; a changed list of requirements installs again.
$(VENV)/.quickstart: pyproject.toml requirements/constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV): a minute or two."
	$(PIP_INSTALL) -e ".[sb3]"
	@touch $@

build/rllib/.install: pyproject.toml requirements/rllib.txt
	$(PYTHON) -m venv build/rllib || { rm -rf build/rllib; exit 2; }
	build/rllib/bin/python -m pip install --quiet --disable-pip-version-check -c requirements/rllib.txt -e ".[rllib]" pytest
	@touch $@

# Beside the environment and not in it: transformers and peft do other things where they find it.
build/bits/.install: | $(VENV)/.install
	$(PIP_INSTALL) --no-deps --target build/bits --upgrade bitsandbytes==0.50.2
	@touch $@

$(VENV)/.install: pyproject.toml requirements/constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV): a minute or three."
	$(PIP_INSTALL) -e ".[all,dev]"
	@touch $@ $(VENV)/.quickstart
