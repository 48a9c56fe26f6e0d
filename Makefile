# Two commands are all that a newcomer needs: `make quickstart` and `make test`. Each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKSPACE ?= workspace
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: setup quickstart test test-all faults lint bench ui lock clean

setup: $(VENV)/.ready

# torch comes first: in the lock it would bring whatever build the index prefers.
$(VENV)/.ready: requirements.lock pyproject.toml
	@echo "Setting up $(VENV): about 2.5 GB of packages, a few minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

quickstart: setup
	$(BIN)/mlc run quickstart --workspace $(WORKSPACE)

# Two files at a time, each process with one thread; the tests of one file stay together.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

# Also the whole products of which the tests take what covers them, and many more examples.
test-all: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --full

# The long form: 50 kills of the smoke run. The tests have a short one.
faults: setup
	MLC_FAULT_KILLS=50 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/faults

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m tests.benchmarks

ui: setup
	$(BIN)/mlc ui --workspace $(WORKSPACE)

# After changing dependencies in pyproject.toml: install them, then write down what is installed.
lock:
	$(BIN)/python -m pip freeze --exclude-editable --exclude torch > requirements.lock

clean:
	rm -rf $(VENV) build dist
