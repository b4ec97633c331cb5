# Two commands do everything on a fresh Debian or Ubuntu machine: `make demo` and `make test`.
# Each target installs what it needs first; the steps live in tools/ and vagrant/provision/.

SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test check bench cluster cluster-down cluster-pyslurm cluster-pyslurm-down docs format clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 24

$(VENV)/.ready: pyproject.toml tools/make-venv
	tools/make-venv $(VENV) dev
	@touch $@

demo: $(VENV)/.ready cluster ## Raise the local 16-H100 cluster and put real jobs through it
	tools/demo

test: $(VENV)/.ready ## Run every test, on real Slurm clusters (root)
	tools/test

check: $(VENV)/.ready ## Format, lint, types, import contracts, generated docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/generate_docs.py --check
	vagrant/provision/lint.sh

format: $(VENV)/.ready ## Format the code and regenerate the docs
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python tools/generate_docs.py

bench: $(VENV)/.ready ## Measure against sbatch, squeue, simple_slurm and submitit (docs/benchmarks.md)
	tools/make-venv $(VENV) dev,bench
	vagrant/cluster up native
	$(BIN)/python bench/run.py
	vagrant/cluster up pyslurm
	$(BIN)/python bench/job_submit.py --kind pyslurm
	bench/run_in_chroot

cluster: ## Raise the local cluster: two nodes of 8 simulated H100s, one CPU node (root)
	vagrant/cluster up native

cluster-down: ## End exactly what `make cluster` started
	vagrant/cluster down native

cluster-pyslurm: ## Raise the second cluster: Slurm 26.05 with pyslurm, in a chroot (root)
	vagrant/cluster up pyslurm

cluster-pyslurm-down: ## End exactly what `make cluster-pyslurm` started
	vagrant/cluster down pyslurm

clean: ## Remove what the other targets made in this folder, except the chroot
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
