# `make` or `make help` lists the targets. Everything runs in .venv, which is made when missing.
PYTHON ?= python3
PORT ?= 5000
DASHBOARD_PORT ?= 8080
MUTANTS ?=
SHARE ?= 1
DEATHS ?= 20
SCALE ?= pilot
DEFENCES ?= marginalised_long adversarial_long adversarial_pgd adversarial_l2 adversarial_bounded trades gradient_penalty fisher_penalty logarithm ranks clipped large_scales
MADE ?= abstaining ensemble defended smoothed phase_smoothed
SEED ?= 1
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help repro paper check-paper explain defences docs test test-slow test-ui mutate kill-test fuzz lint bench lock ui dashboard experiments clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

repro: $(VENV)/.ready ## the main job: simulate, train, attack, search and report, at pilot scale
	$(BIN)/python scripts/unlock.py
	$(BIN)/dvc pull --quiet data.dvc
	$(BIN)/python scripts/repro.py
	@echo "The report: results/pilot/report.html"

paper: $(VENV)/.ready ## the same at the paper's scale (10 000 maps), beside the pilot: a night on two cores
	$(BIN)/python scripts/unlock.py
	$(BIN)/dvc pull --quiet data.dvc
	$(BIN)/python scripts/repro.py --scales pilot paper
	@echo "The report: results/paper/report.html"

check-paper: SCALE = paper
check-paper: $(VENV)/.ready ## make the damage table again from the released networks and maps (SCALE=pilot)
	$(BIN)/dvc pull --quiet data.dvc
	$(BIN)/python scripts/check_release.py --scale $(SCALE)

explain: $(VENV)/.ready ## which reading of the paper's formulas gives its numbers, after `make repro` (SCALE=paper)
	$(BIN)/python scripts/explain.py --scale $(SCALE)

defences: $(VENV)/.ready ## train and compare all defences after `make repro` (SCALE=paper: overnight)
	for name in $(DEFENCES); do $(BIN)/spurious train --scale $(SCALE) $$name || exit; done
	$(BIN)/spurious defend --scale $(SCALE) $(DEFENCES) $(MADE)

test: $(VENV)/.ready ## the tests, but for the slow ones
	$(BIN)/dvc pull --quiet data.dvc
	$(BIN)/pytest -m "not slow and not ui"

test-slow: $(VENV)/.ready ## the slow tests: whole pipelines, kills, clusters, workers on one study
	$(BIN)/dvc pull --quiet data.dvc
	$(BIN)/pytest -m slow

test-ui: $(VENV)/.ready ## the tests that need a browser (Debian: apt install chromium)
	$(BIN)/pytest -m ui

mutate: $(VENV)/.ready ## plant bugs, count those that no test notices (long; SHARE=0.1 MUTANTS='spurious.damage.*')
	$(BIN)/python scripts/mutants.py --share $(SHARE) --seed $(SEED) $(MUTANTS)

kill-test: $(VENV)/.ready ## kill a reduced pipeline 20 times, compare with one left alone (half an hour; DEATHS=20 SEED=1)
	$(BIN)/python scripts/kill_test.py --deaths $(DEATHS) --seed $(SEED)

fuzz: $(VENV)/.ready ## broken and hostile inputs by the thousand, after `make repro` (SEED=1)
	$(BIN)/python scripts/fuzz.py --seed $(SEED)

lint: $(VENV)/.ready ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs ## the documentation as a site: build/docs/index.html, which needs no network
	$(BIN)/sphinx-build --fresh-env --fail-on-warning --keep-going --quiet -b html docs build/docs
	@echo "The site: build/docs/index.html"

bench: $(VENV)/.bench ## speed against FlowPM, JaxPM, powerbox and the floor; search against other samplers (long)
	$(BIN)/python -m benchmarks

ui: $(VENV)/.ready ## MLflow on this machine, the attacks of the last run side by side (PORT=5000)
	$(BIN)/python -m spurious.tracking.ui --port $(PORT)

dashboard: $(VENV)/.ready ## the studies of the search on this machine (DASHBOARD_PORT=8080)
	$(BIN)/python -m spurious.search.dashboard --port $(DASHBOARD_PORT)

experiments: $(VENV)/.ready ## all experiments: what was set and what came out
	$(BIN)/dvc exp show --only-changed --drop '.*/.*'

lock: $(VENV)/.ready ## resolve pyproject.toml's dependencies again into requirements.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --extra bench pyproject.toml -c requirements.txt -o benchmarks/requirements.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --extra docs pyproject.toml -c requirements.txt -o docs/requirements.txt

clean: ## remove the environment and caches; data, results and mlruns stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache mutants

$(VENV)/.ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed; name one with make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

$(VENV)/.bench: $(VENV)/.ready benchmarks/requirements.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r benchmarks/requirements.txt
	@touch $@

$(VENV)/.docs: $(VENV)/.ready docs/requirements.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r docs/requirements.txt
	@touch $@
