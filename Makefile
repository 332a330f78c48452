# Warmstart: `make run` starts everything, `make test` checks everything. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(shell find protos -name '*.proto')
STAMP := $(VENV)/.installed
GENERATED := protos/.generated

export PYTHONUNBUFFERED = 1

.PHONY: audit sbom test-slow chaos fuzz help setup protos run demo test lint breaking format train evaluate bench lock docs clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): requirements-setup.txt requirements-dev.txt requirements-data.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Warmstart needs Python 3.11 or newer, got " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-setup.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-build-isolation --require-hashes -r requirements-dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements-data.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

setup: $(STAMP) protos ## Create .venv with the pinned, hashed dependencies and generate the protos

$(GENERATED): $(PROTOS) | $(STAMP)
	$(BIN)/python -m grpc_tools.protoc -I protos \
	  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --python_out=protos --grpc_python_out=protos \
	  --mypy_out=quiet:protos --mypy_grpc_out=quiet:protos $(PROTOS)
	touch $@

protos: $(GENERATED) ## Generate Python from protos/

lint: setup ## ruff, mypy --strict, buf
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf lint

breaking: setup ## Refuse protos that break callers (against where the branch left main; AGAINST=ref)
	.ci/breaking $(BIN)/buf

format: setup ## Format Python and protos
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format -w

# A file's tests stay in one process, as they share servers and models; folders in their order. A process that
# dies ends the run by name: pytest-xdist 3.8 hands out no more work after it has replaced one (its issue 1378).
test: setup ## Unit, contract, integration and end-to-end tests, side by side
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
	  --max-worker-restart 0

test-slow: setup ## What takes minutes and has a short form in `make test`
	$(BIN)/python -m pytest -m slow

chaos: setup ## Failures on purpose: real servers, two of each, killed, hung, starved under load (ARGS="--list")
	$(BIN)/python -m tests.chaos $(ARGS)

fuzz: setup ## Rubbish on purpose: to every RPC and every reader (ARGS="--cases 1000000", ARGS="--list")
	$(BIN)/python -m tests.fuzz $(ARGS)

run: setup ## Everything on a fresh machine: cluster, data, model, story; stays up until Ctrl-C
	$(BIN)/warmstart demo --stay $(ARGS)

demo: setup ## The same, then stops; fails where the story's claims do not hold
	$(BIN)/warmstart demo $(ARGS)

train: setup ## Train on the running cluster's data, publish, promote (ARGS="--preset base")
	$(BIN)/warmstart train $(ARGS)

evaluate: setup ## The few-shot table on MovieLens-100K (ARGS="--seeds 1")
	$(BIN)/warmstart evaluate --dataset movielens-100k $(ARGS)

bench: setup ## Latency and freshness of the running cluster
	$(BIN)/warmstart bench $(ARGS)

LOCK = $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url \
  --python-version 3.11 --no-emit-package warmstart
docs: setup ## Write the README's settings tables from the settings classes
	$(BIN)/python -m tests.contract.settings_table

audit: setup ## Known vulnerabilities of the pinned libraries (AUDIT_SERVICE=osv|pypi|esms); fails where it cannot ask
	$(BIN)/python .ci/audit $(wildcard requirements*.txt)

sbom: setup ## A CycloneDX bill of materials of each requirements file, in sbom/
	.ci/sbom sbom $(BIN)

lock: setup ## Pin and hash the dependencies anew (add UPGRADE=--upgrade for newer versions)
	$(LOCK) $(UPGRADE) pyproject.toml -o requirements.txt
	$(LOCK) $(UPGRADE) pyproject.toml --extra inference -o requirements-inference.txt
	$(LOCK) $(UPGRADE) pyproject.toml --extra training -o requirements-training.txt
	$(LOCK) $(UPGRADE) pyproject.toml --extra dev -o requirements-dev.txt

clean: ## Remove generated files, caches and the local cluster's data
	rm -rf var sbom $(VENV) $(GENERATED) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find protos -name '*_pb2*' -delete
