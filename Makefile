# firsttoken. `make run` makes a study and its report, `make test` checks everything. Both can be run again at any time.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
# By its own name and not through an activated shell, so that clone paths with spaces work.
PY := $(VENV)/bin/python
CONFIG ?=
STUDY ?= embedded

.PHONY: help run summary report verify compare test lint unit workflow browser gpu-check trtllm-check wheelhouse clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.installed: requirements.lock
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("firsttoken needs Python 3.11 or newer; this is " + sys.version.split()[0] + ": make run PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --requirement requirements.lock
	touch $@

run: $(VENV)/.installed  ## a study, its report and its summary: make run [CONFIG=config/studies/NAME.yaml]
	@$(PY) scripts/run.py $(if $(CONFIG),--config '$(CONFIG)') $(ARGS)

summary: $(VENV)/.installed  ## the summary of a finished study again: make summary [STUDY=embedded]
	@cat 'results/$(STUDY)/tables/answer.txt'

verify: $(VENV)/.installed  ## are the files still those that the study was made of: make verify [STUDY=embedded]
	@$(PY) scripts/verify.py '$(STUDY)'

test: $(VENV)/.installed lint  ## all checks
	$(PY) -m pytest -q

lint: $(VENV)/.installed  ## style, types, workflow lint
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m snakefmt --check Snakefile rules
	$(PY) -m snakemake --lint
