# What a newcomer types: `make demo`, `make test`. Everything else is for those who work on the project.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The tests start the product hundreds of times: compiled modules take a fifth of a second off each start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

$(READY): requirements-dev.lock pyproject.toml
	@echo "setting up $(VENV) (Python packages, pinned by hash) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: set PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip -q --disable-pip-version-check install --require-hashes -r requirements-dev.lock
	@$(BIN)/pip -q --disable-pip-version-check install --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: setup
setup: $(READY) ## Python environment in .venv

.PHONY: demo
demo: $(READY) up ## the product in three minutes, on the local stack
	@$(BIN)/python tools/demo.py

.PHONY: up
up: $(READY) ## start Kafka, a registry and NATS on this machine
	@$(BIN)/python -m tools.stack up

.PHONY: down
down: $(READY) ## stop what `make up` started
	@$(BIN)/python -m tools.stack down

.PHONY: wipe
wipe: $(READY) ## stop it and forget its data
	@$(BIN)/python -m tools.stack wipe

.PHONY: status
status: $(READY) ## does it run, on which ports
	@$(BIN)/python -m tools.stack status

.PHONY: fetch
fetch: $(READY) ## bring the servers and tools into the cache, once a machine
	@$(BIN)/python -m tools.stack fetch

.PHONY: test
test: fetch ## all tests, unit and system, but those of test-long
	@$(BIN)/pytest -q -n 2 --dist loadfile -m "not long"

.PHONY: test-long
test-long: fetch ## what `make test` leaves out: slow readers, the race against oras, outages of minutes
	@$(BIN)/pytest -q -m long

.PHONY: test-readers
test-readers: fetch ## every reader of docs/readers.md, whose table it writes anew
	@OCI_SYNC_READERS_PAGE=docs/readers.md $(BIN)/pytest -q tests/readers

.PHONY: chaos
chaos: fetch ## every fault of docs/chaos.md, at least 100 kills, and a table (about 10 minutes; ARGS="--seed 7 --only frozen")
	@$(BIN)/pytest -q -s tests/model -k no_order
	@$(BIN)/python -m tests.chaos $(ARGS)

.PHONY: bench
bench: fetch ## how fast and small it is, pair by pair with oras and regctl (10 minutes; ARGS="--only small far")
	@$(BIN)/python -m bench $(ARGS)

.PHONY: bench-quick
bench-quick: fetch ## the same with less of everything, in under two minutes
	@$(BIN)/python -m bench --quick $(ARGS)

.PHONY: format
format: $(READY) ## rewrite the code in the house's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: derived
derived: $(READY) ## schemas and the configuration page, from the fields of tasks and settings
	@$(BIN)/oci-sync config schema flow > schemas/flow.schema.json
	@$(BIN)/oci-sync config schema worker > schemas/worker.schema.json
	@$(BIN)/oci-sync config page > docs/configuration.md

.PHONY: lint
lint: $(READY) ## format, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: check
check: lint ## the same and the unit tests (under a minute)
	@$(BIN)/pytest -q -m "not system and not long"

.PHONY: lock
lock: ## write the lock files anew (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --all-extras pyproject.toml -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --all-extras --group dev pyproject.toml -c requirements.lock -o requirements-dev.lock
	sed -n 's/^requires = \["\(hatchling.*\)"\]$$/\1/p' pyproject.toml | uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header - -c requirements-dev.lock -o requirements-build.lock

.PHONY: help
help:
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
