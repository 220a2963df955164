# `make` lists the targets. Nothing needs to be installed first but git and make.
.PHONY: help demo test fast lint docs test-runtime test-latest test-distros test-arm64 lock dist smol clean
.NOTPARALLEL:

# Processes that run tests. A file stays in one process, so that what its tests share is made once.
WORKERS ?= 2
PYTEST := .venv/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

help:
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' Makefile | expand -t 21

demo: ## install what is missing, then watch the sample stream
	@bash scripts/setup.sh demo
	@.venv/bin/edge-run sample
	@echo 'Next: `. .venv/bin/activate`, then `edge-run camera0 --ask "Tell me what happens."`' >&2

test: lint docs ## install what is missing, then lint, type-check, build the docs and run every test (WORKERS=2)
	@$(PYTEST)

fast: ## the tests that take seconds
	@bash scripts/setup.sh test
	@$(PYTEST) -m "not slow"

lint: ## ruff (rules and format) and mypy
	@bash scripts/setup.sh test
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .
	@.venv/bin/python -m mypy

docs: ## build the documentation site into build/site; a broken link or reference is an error
	@bash scripts/setup.sh test
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build -q --strict

test-runtime: ## the tests of edge_runtime and pipelines, without PyTorch
	@bash scripts/setup.sh runtime
	@$(PYTEST) tests/edge_runtime tests/pipelines

test-latest: ## `make test` with the newest packages that pyproject.toml allows
	@VERSIONS=newest $(MAKE) test

test-distros: ## Debian 12, 13 and sid: the sample, the tests of the runtime, oldest and newest packages (root)
	@bash scripts/test_distros.sh

test-arm64: ## the sample on an emulated 64-bit ARM, with each onnxruntime from the oldest on (root, slow)
	@bash scripts/test_distros.sh arm64

lock: ## write the newest allowed versions into constraints.txt; run `make test` and `make test-distros` then
	@bash scripts/lock.sh

dist: ## build the sdist and the wheel into dist/
	@bash scripts/setup.sh runtime
	@.venv/bin/python -m build

smol: ## fetch SmolLM2, check its hash, and write runs/smol-base to train from
	@bash scripts/setup.sh test
	@.venv/bin/python -m train init-backbone smol --out runs/smol-base

clean: ## remove caches and build products; .venv stays
	@rm -rf build dist ./*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
