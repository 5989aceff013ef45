# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MEDGEMMA := $(BIN)/medgemma

# What `make summaries` runs on; override on the command line or in the environment.
IN ?= raw/notes
OUT ?= summaries
MODEL ?= google/medgemma-1.5-4b-it
# Test processes; each has one thread of arithmetic, or they would wait for each other.
JOBS ?= 2
# A file's tests share its fixtures. In order of name: by number of tests, xdist's way, the few
# and long ones of `e2e` and `kill` come last, and one process ends long after the other.
SPREAD := --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo summaries test test-all torture lint format bench image clean

help:  ## show this help
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

# A stamp, so that setting up again costs nothing until a requirement changes.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev,dicom,eval,office,ray,serve,server,slides,tables,tune]'
	touch $@

setup: $(VENV)/.ready  ## make the virtual environment and install

demo: setup  ## run the main job on raw/, notes and pictures, with the embedded demo model
	$(MEDGEMMA) run raw/notes raw/images -o summaries/ --model demo

summaries: setup  ## the incremental pipeline: only new and changed documents; make IN=… OUT=… MODEL=…
	$(MEDGEMMA) run $(IN) -o $(OUT) --model $(MODEL) --fail-on failed

test: setup  ## the tests (15 to 27 minutes on 2 cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n $(JOBS) $(SPREAD)

test-all: setup  ## the tests, the slow ones too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) $(SPREAD)

torture: setup  ## ten times as many kills as `make test`, five of a run with the demo model, 10,000 damaged files
	MEDGEMMA_TORTURE=10 $(BIN)/python -m pytest tests/kill tests/fuzz tests/e2e/test_kill_demo.py

lint: setup  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## let ruff format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup  ## what the tool costs, what grammars cost, what batching gains, what the checks find
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/constrained.py
	$(BIN)/python benchmarks/checking.py
	$(BIN)/python benchmarks/throughput.py --one-documents 8

# Without WEIGHTS they are mounted when it runs: docker run -v /models:/models …; see docs/serve.md.
image:  ## the container image; make image WEIGHTS=MODEL TOKEN=FILE puts the weights in
	docker build --tag medgemma-cli $(if $(WEIGHTS),--build-arg WEIGHTS=$(WEIGHTS) --secret id=hf_token$(comma)src=$(TOKEN)) .

comma := ,

clean:  ## remove the virtual environment and caches; summaries stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
