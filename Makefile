# `make` lists the targets. Nothing needs to be installed first but git and make.
.PHONY: help demo test fast lint smol clean
.NOTPARALLEL:

help:
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

demo: ## install what is missing, then watch the sample stream
	@bash scripts/setup.sh demo
	@.venv/bin/edge-run sample

test: lint ## install what is missing, then lint, type-check and run every test
	@.venv/bin/python -m pytest

fast: ## the tests that take seconds
	@bash scripts/setup.sh test
	@.venv/bin/python -m pytest -m "not slow"

lint: ## ruff, and mypy on what runs on the device
	@bash scripts/setup.sh test
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m mypy

smol: ## fetch SmolLM2, check its hash, and write runs/smol-base to train from
	@bash scripts/setup.sh test
	@.venv/bin/python -m train base smol --out runs/smol-base

clean: ## remove caches and build products; .venv stays
	@rm -rf build dist ./*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
