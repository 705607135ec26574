# Each target sets up what it needs first; the second time that takes a few milliseconds.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash
PY := .venv/bin/python
SETUP := @deployments/setup.sh $@

.PHONY: help demo up down test check bench lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## set everything up and build one website; DEMO_TEXT="…" says which
	$(SETUP)
	@$(PY) -m deployments.demo

up: ## start the service: PostgreSQL, Prefect server, worker, dispatcher, site server
	$(SETUP)
	@$(PY) -m deployments.service up

down: ## stop the service, and nothing else
	$(SETUP)
	@$(PY) -m deployments.service down

test: check ## check, then all tests
	$(PY) -m pytest -n 2

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
