# firsttoken. `make run` makes a study and its report, `make test` checks everything. Both can be run again at any time.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
# make wheelhouse PYTHON=3.12 names a version, which need not be here.
INTERPRETER := $(if $(filter 3.%,$(PYTHON)),python3,$(PYTHON))
# The C++ compiler that torch.compile calls cannot read headers below a path with a space, and Snakemake does not quote the
# path of an interpreter for the shell: below such a path the environment lies elsewhere.
NULL :=
SPACE := $(NULL) $(NULL)
VENV := $(if $(shell pwd | tr -d 'A-Za-z0-9/._+@%=,:\n-'),$(HOME)/.cache/firsttoken/venv-$(shell pwd | cksum | cut -d' ' -f1),.venv)
PY := $(VENV)/bin/python
CONFIG ?=
STUDY ?= embedded

.PHONY: help run check doctor version summary report verify compare combine ship contribute accept test test-cluster faults lint locks audit intervals gpu-check trtllm-check trained-model wheelhouse offline

# A variable that no help line of the goals names would be ignored, and another study run. PYTHON and VENV serve all.
GOALS := $(or $(MAKECMDGOALS),$(.DEFAULT_GOAL))
TAKEN := PYTHON VENV $(shell sed -nE 's/^([a-z-]+):.*##/\1/p' Makefile | grep -E '^($(subst $(SPACE),|,$(strip $(GOALS)))) ' | grep -oE '[A-Z_]+=' | tr -d =)
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
UNKNOWN := $(if $(filter 0,$(MAKELEVEL)),$(filter-out $(TAKEN),$(GIVEN)))
$(if $(UNKNOWN),$(error firsttoken: make $(GOALS) takes no $(UNKNOWN); it takes $(strip $(TAKEN))))

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16
	@for lock in envs/*.lock; do printf '%-15s an environment for this engine, beside %s\n' "env-$$(basename $$lock .lock)" '$(VENV)'; done

# pip compiles on one core, compileall on all. A file that is no Python of this version is no error.
PIP_INSTALL := -m pip install --quiet --no-compile --require-hashes --requirement
COMPILE := -m compileall -qq -j 0

# torch: its CPU build where one lies on this disk and its hash is right, else the index's, which brings CUDA.
$(VENV)/.installed: $(wildcard requirements*.lock)
	$(INTERPRETER) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("firsttoken needs Python 3.11 or newer; this is " + sys.version.split()[0] + ": make run PYTHON=python3.12")'
	$(INTERPRETER) -m venv $(VENV)
	$(PY) $(PIP_INSTALL) requirements.lock
	$(PY) $(PIP_INSTALL) requirements-torch-cpu.lock --no-index 2>/dev/null || $(PY) $(PIP_INSTALL) requirements-torch-cuda.lock
	$(PY) $(COMPILE) $(VENV)/lib || :
	touch $@

# Every lock in envs/ is an engine's environment beside the project's: make env-vllm, make env-llama_cpp.
$(patsubst envs/%.lock,env-%,$(wildcard envs/*.lock)): env-%: $(VENV)-%/.installed
	@: # else make says that there is nothing to be done

$(VENV)-%/.installed: envs/%.lock
	$(PYTHON) -m venv $(VENV)-$*
	$(VENV)-$*/bin/python $(PIP_INSTALL) $<
	$(VENV)-$*/bin/python $(COMPILE) $(VENV)-$*/lib || :
	touch $@

.PHONY: cpu-engines
cpu-engines:
	@$(MAKE) --no-print-directory env-llama_cpp || echo "firsttoken: llama.cpp could not be installed; it will be unavailable" >&2

# One's own model: a study file for it is written to config/own/. PWD is where the user is, also with make -C.
export FIRSTTOKEN_FROM := $(PWD)
export MODEL REVISION DTYPE LENGTHS APPROACHES
OF_A_MODEL = $(if $(MODEL),,$(filter MODEL REVISION DTYPE LENGTHS APPROACHES,$(GIVEN)))
STUDY_FILE = $(if $(and $(CONFIG),$(MODEL)),$(error firsttoken: give CONFIG or MODEL, not both))$(if \
	$(OF_A_MODEL),$(error firsttoken: $(firstword $(OF_A_MODEL)) is of one's own model; give MODEL=, or edit the study's file))config='$(CONFIG)' $(if $(MODEL),&& \
	config=$$($(PY) scripts/own_model.py --model "$$MODEL" --revision "$${REVISION:-}" --dtype "$${DTYPE:-}" \
	--lengths "$${LENGTHS:-}" --approaches "$${APPROACHES:-}"))

run: $(VENV)/.installed $(if $(CONFIG)$(wildcard $(VENV)/.offline),,cpu-engines)  ## a study and its report: make run [CONFIG=NAME_OR_FILE, or MODEL=FOLDER_OR_HUB_ID [REVISION=COMMIT DTYPE=bfloat16 LENGTHS=32,256 APPROACHES=baseline,vllm]] [GPUS=4] [VERBOSE=1] [ARGS=-n]
	@$(STUDY_FILE) && $(PY) scripts/run.py $${config:+--config "$$config"} $(if $(GPUS),--gpus '$(GPUS)') $(ARGS)

check: $(VENV)/.installed  ## can it run here, before it runs: make check [CONFIG=NAME_OR_FILE, or MODEL= REVISION= DTYPE= LENGTHS= APPROACHES= as for run]
	@$(STUDY_FILE) && $(PY) scripts/check.py $${config:+"$$config"}

doctor: $(VENV)/.installed  ## is this machine ready to measure
	@$(PY) scripts/doctor.py

version: $(VENV)/.installed  ## the versions that a bug report needs
	@$(PY) scripts/doctor.py --version

summary: $(VENV)/.installed  ## the summary of a finished study again: make summary [STUDY=embedded] [FORMAT=md|json]
	@$(PY) scripts/run.py --summary '$(STUDY)' $(if $(FORMAT),--format '$(FORMAT)')

verify: $(VENV)/.installed  ## are the files still those that the study was made of: make verify [STUDY=embedded]
	@$(PY) scripts/verify.py '$(STUDY)'

test: $(VENV)/.installed cpu-engines lint  ## all checks
	$(PY) -m pytest -q -n 3 --dist worksteal -m "not cluster"  # what measures waits for the device

faults: $(VENV)/.installed  ## long runs of fault injection: signals, configs, frames, weights; takes hours
	FAULTS_KILLS=200 FAULTS_SECONDS=7200 FAULTS_CONFIGS=400 FAULTS_DRY_RUNS=10 FAULTS_FRAMES=100000 FAULTS_DAMAGES=400 FAULTS_FAMILIES=all \
		$(PY) -m pytest -q -s --timeout 9000 tests/faults

test-cluster: $(VENV)/.installed  ## the study on a Slurm that starts here: root, apt-get install slurm-wlm munge
	$(PY) -m pytest -q -m cluster tests/cluster

lint: $(VENV)/.installed  ## style, types, imports, workflow lint
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	PYTHONPATH=scripts $(VENV)/bin/lint-imports --no-cache --no-logo
	$(PY) -m snakefmt --check Snakefile rules
	$(PY) -m snakemake --lint

# The versions that a lock has stay, but for what its .in file no longer allows. CPython 3.11 and newer, every platform.
LOCK = $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(ARGS)
locks: $(VENV)/.installed  ## the locks again, with hashes, after a .in file changed: make locks [ARGS=--upgrade]
	$(LOCK) --no-emit-package torch --output-file requirements.lock requirements.in requirements-dev.in
	grep '^torch==' requirements.in | $(LOCK) --no-config --constraint requirements.lock --output-file requirements-torch-cuda.lock -
	for engine in $(basename $(wildcard envs/*.in)); do $(LOCK) --no-config --output-file $$engine.lock $$engine.in; done

audit: $(VENV)/.installed  ## known vulnerabilities of the locked packages
	@$(PY) scripts/audit_locks.py

intervals: $(VENV)/.installed  ## simulated coverage of the intervals, into docs/intervals.md
	$(PY) benchmarks/intervals.py

gpu-check: $(VENV)/.installed  ## everything that needs a GPU: traps, equality, a short study
	$(PY) scripts/gpu_check.py

trtllm-check:  ## TensorRT-LLM alone, in its own environment: make trtllm-check TRTLLM_PYTHON=python3
	$(or $(TRTLLM_PYTHON),python3) scripts/trtllm_check.py

trained-model: $(VENV)/.installed  ## a small trained model for config/studies/smollm2-135m.yaml, from the package index
	@$(PY) scripts/trained_model.py

wheelhouse: $(VENV)/.installed  ## what an offline GPU host lacks, as wheels: make wheelhouse PYTHON=3.12 [HOST=FILE]
	$(PY) scripts/wheelhouse.py $(if $(filter command line,$(origin PYTHON)),--python '$(PYTHON)') $(if $(HOST),--host '$(HOST)')

# A file with the path of the host's packages, since a virtual environment sees those of no other one.
offline:  ## on a host without network: the environment from wheelhouse/ and the host's own torch: make offline [PYTHON=python3]
	$(PYTHON) -c 'import torch, transformers'
	$(PYTHON) -m venv $(VENV)
	$(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $$(echo $(VENV)/lib/python3*/site-packages)/host.pth
	$(PY) -m pip install --quiet --no-index --no-deps wheelhouse/*.whl
	touch $(VENV)/.offline $(VENV)/.installed

ship: $(VENV)/.installed  ## a finished study to results/reference/, ready to be committed: make ship STUDY=NAME
	@$(if $(or $(filter file,$(origin STUDY)),$(if $(STUDY),,empty)),$(error firsttoken: which study? make ship STUDY=NAME))$(PY) scripts/contribute.py --ship '$(STUDY)'

# Names may have quotes: the shell takes these arguments from its environment, where make puts them.
contribute: $(VENV)/.installed  ## a study of this machine as one archive, to be sent: make contribute BY="Name <mail>" [NOTE=TEXT] [CONFIG=FILE] [ARGS=]
	@$(PY) scripts/contribute.py --by "$${BY:-}" --note "$${NOTE:-}" $(if $(CONFIG),--config '$(CONFIG)') $(ARGS)

accept: $(VENV)/.installed  ## an archive that was sent, to results/reference/: make accept ARCHIVE=FILE [STUDY=NAME]
	@$(if $(ARCHIVE),,$(error firsttoken: which archive? make accept ARCHIVE=FILE))$(PY) scripts/contribute.py --accept "$$ARCHIVE" --as "$${STUDY:-}"

compare: $(VENV)/.installed  ## two finished studies: make compare A=base B=changed [ARGS=]
	@$(PY) scripts/run.py --compare '$(A)' '$(B)' $(ARGS)

combine: $(VENV)/.installed  ## finished studies of one config from several hosts: make combine STUDIES="a b c" [ARGS=]
	@$(if $(STUDIES),,$(error firsttoken: which studies? make combine STUDIES="a b c"))$(PY) scripts/run.py --combine $(STUDIES) $(ARGS)

report: $(VENV)/.installed  ## the report of a finished or shipped study again: make report STUDY=results/reference/NAME
	@$(PY) scripts/run.py --report-only '$(STUDY)'
