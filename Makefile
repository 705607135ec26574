# Each target sets up what it needs first; the second time that takes a few milliseconds.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash
PY := .venv/bin/python
SETUP := @deployments/setup.sh $@

.PHONY: help demo up down test test-faults check bench lock prune backup

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## set everything up and build one website; DEMO_TEXT="…" says which
	$(SETUP)
	@$(PY) -m deployments.demo

up: ## start the service: PostgreSQL, Prefect server, worker, dispatcher, site server, web API
	$(SETUP)
	@$(PY) -m deployments.service up

down: ## stop the service, and nothing else
	$(SETUP)
	@$(PY) -m deployments.service down

test: check ## check, then all tests but the long part of the fault matrix
	$(PY) -m pytest -n 3 -m "not faults"

test-faults: ## the whole fault matrix, for an hour or more; writes FAULTS.md
	$(SETUP)
	$(PY) -m tests.faults.page

prune: ## say what is old enough to go; APPLY=1 removes it
	$(SETUP)
	@$(PY) -m deployments.housekeeping prune $(if $(APPLY),--apply)

backup: ## write the registry to one file; FILE=… says where
	$(SETUP)
	@$(PY) -m deployments.housekeeping backup $(or $(FILE),$(HOME)/registry.backup)

check: ## format, lint, types and layers
	$(SETUP)
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: ## measure, and write the numbers to bench-results/
	$(SETUP)
	$(PY) -m tests.benchmarks

lock: ## write requirements.lock again from pyproject.toml
	$(SETUP)
	$$(command -v uv || echo .venv/uv/bin/uv) pip compile --generate-hashes --universal --python-version 3.11 \
	  --group dev pyproject.toml -o requirements.lock
