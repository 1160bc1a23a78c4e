# Every target sets up what it needs first; `make help` lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup programs airflow demo test test-fast lint format bench soak docs lock airflow-lock clean clean-all

BIN := .venv/bin
export TF_USE_LEGACY_KERAS ?= 1
export TF_CPP_MIN_LOG_LEVEL ?= 3

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F"|" '{printf "  make %-13s %s\n", $$1, $$2}'

setup: ## make .venv complete (every other target does this by itself)
	@sh scripts/bootstrap.sh

programs: ## Debian packages that some tests need (browser, databases, Prometheus' tools, a data set), as root
	@python3 scripts/programs.py

airflow: setup ## Airflow 3 and 2 in .airflow, apart from .venv, for the tests that run pipelines by them
	@$(BIN)/python scripts/airflow_env.py

demo: setup ## the whole pipeline on hand-written digits, then a prediction (10 minutes at most)
	@$(BIN)/python -W ignore scripts/demo.py

test: setup ## all tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile

test-fast: setup ## the tests that take seconds
	@$(BIN)/python -m pytest -m "not slow and not e2e"

lint: setup ## style, docstrings, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup ## let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup ## the pipeline against a plain script, the model server against others; writes CSVs
	@$(BIN)/python -W ignore scripts/bench.py
	@$(BIN)/python -W ignore scripts/bench_serving.py

soak: setup ## the model server under load with faults for ten minutes; writes a CSV
	@$(BIN)/python -W ignore -m benchmarks.serving.soak

docs: setup ## the documentation as a site in build/site, links and references checked
	@$(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

lock: setup ## resolve pyproject.toml anew into requirements.lock; UPGRADE="--upgrade" for newer versions
	@$(BIN)/python scripts/lock.py $(UPGRADE)

airflow-lock: setup ## the same for the two Airflow environments
	@$(BIN)/python scripts/airflow_env.py --lock $(UPGRADE)

clean: ## remove caches and builds; runs, models and .venv stay
	@rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -path ./.venv -prune -o -path ./.tools -prune -o -path ./.airflow -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

clean-all: clean ## the same, and .venv, .tools and .airflow
	@rm -rf .venv .tools .airflow
