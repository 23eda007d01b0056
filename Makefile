# `make` lists what there is. Everything runs in .venv, which is made once and again when its two inputs change.
PYTHON ?= python3
SHELL := /bin/bash
STAMP := .venv/.installed
RUN := PATH="$(CURDIR)/.venv/bin:$$PATH"

.DEFAULT_GOAL := help
.PHONY: help install repro full test check

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP)  ## .venv with the versions of constraints.txt

repro: $(STAMP)  ## the default cells from raw data to the table, at most 25 minutes on 2 cores
	$(RUN) dvc repro
	@echo "The report:" && ls reports/*.html reports/*.md

full: $(STAMP)  ## every optimizer and every baseline with seeds 1, 2 and 3: hours on 2 cores
	@echo "9 optimizers, 7 baselines, 3 seeds; what is cached is not run again."
	$(RUN) dvc exp run -S 'optimizers=[sft,ppo,grpo,gdpo,dapo,gspo,bapo,gbpo,sage]' -S 'seeds=[1,2,3]' \
		-S 'sequential_baselines=[sasrec,sasrec_bce,rearec]' -S 'generative_baselines=[tiger,lcrec]'
	@echo "The report:" && ls reports/*.html reports/*.md

test: $(STAMP)  ## the tests, half an hour on 2 cores beside another program
	$(RUN) python -m pytest --numprocesses 2 --dist loadfile

check: $(STAMP)  ## format, lint and types, as CI checks them
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy

# pyproject.toml is the list of dependencies; the project itself holds no module, stages run from this folder. Of what
# pip says, the files that it fetches and its errors are shown.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "'$(PYTHON)' is not Python 3.11 or newer: install one and name it, as in make PYTHON=python3.11 repro" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot make a virtual environment: install its package for that, such as python3-venv" >&2; exit 1; }
	@echo "Installing into .venv: some minutes, the largest part is torch"
	@$(PYTHON) -m venv .venv
	@set -o pipefail; .venv/bin/python -m pip install --disable-pip-version-check -c constraints.txt '.[dev]' \
		| awk '/^ *(Downloading|Using cached|Processing) / && !/\.metadata/ { n = split($$2, part, "/"); print "  " part[n], $$3, $$4; fflush() } \
			/^Installing collected/ { print "Unpacking " NF - 3 " packages"; fflush() }'
	@rm -rf build *.egg-info  # pip builds the empty package in place
	@touch $@
