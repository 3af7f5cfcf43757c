# make book   the whole way: install, data, execute, publish      make test   everything that must hold
# make lab    JupyterLab on the chapters                          make help   the rest
#
# PROFILE=smoke|reader|paper chooses the parameters of the chapters, PYTHON the interpreter that .venv is made from.

PROFILE ?= smoke
PYTHON  ?=
JOBS    ?= 2

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
ADDLIB  := $(BIN)/addlib
SITE    := book/_build/html/index.html
say      = @printf '\n== %s\n' "$(1)"

.DEFAULT_GOAL := help
.PHONY: help install book test lab data clean pdf zip lint unit execute validate publish site
# The steps of one target build on each other; pytest and papermill have their own ways to use several cores.
.NOTPARALLEL:

help:
	@echo 'make book     install, generate the data, execute every chapter, publish to $(SITE)'
	@echo 'make test     ruff, unit tests, chapters under nbval, checks of the site'
	@echo 'make lab      JupyterLab on the chapters, on this machine only'
	@echo 'make pdf      print the book into book/_build/seeing-through-compression.pdf (needs Chromium or Chrome)'
	@echo 'make zip      pack the rendered book, to be read without a network'
	@echo 'make data     generate MiniForensics and cut its face crops'
	@echo 'make clean    remove builds, caches and generated data; keeps .venv and your own data'
	@echo 'PROFILE=$(PROFILE)  (smoke, reader, paper: book/profiles)'

# --- installation: redone when the lock or pyproject.toml changes ---

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(call say,installing into $(VENV))
	@set -e; \
	if [ ! -x $(BIN)/python ]; then \
	  chosen=; \
	  for candidate in $(or $(PYTHON),python3 python3.12 python3.11 python3.13); do \
	    if $$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then \
	      chosen=$$candidate; break; \
	    fi; \
	  done; \
	  if [ -z "$$chosen" ]; then \
	    echo 'no Python 3.11 to 3.13 found; name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12' >&2; exit 1; \
	  fi; \
	  $$chosen -m venv $(VENV); \
	fi
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@# uv does in seconds what pip does in minutes; pip is the way out where only pip knows the network.
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -r requirements.lock \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e . \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

# --- what a newcomer calls ---

data: $(STAMP)
	$(call say,data)
	@$(ADDLIB) generate data/miniforensics --overwrite
	@$(ADDLIB) prepare data/miniforensics data/crops/miniforensics --frames 8

book: data
	@$(MAKE) --no-print-directory execute publish PROFILE=$(PROFILE)
	@printf '\nThe book: %s/%s\n' "$$PWD" $(SITE)

# Always profile smoke: that is what the expected outputs are of. The site comes last, its tests need what the others made.
test: data
	@$(MAKE) --no-print-directory lint unit execute validate publish site PROFILE=smoke

lab: data
	$(call say,JupyterLab; open the address with the token that it prints)
	@cd book && ../$(BIN)/jupyter lab --ServerApp.ip=127.0.0.1 $(if $(filter 0,$(shell id -u)),--allow-root)

pdf zip: $(STAMP)
	@$(ADDLIB) book $@

clean:
	rm -rf book/_build data/miniforensics data/crops/miniforensics data/crops/conditions data/runs
	rm -rf .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -print0 | xargs -0 rm -rf

# --- the single steps ---

lint: $(STAMP)
	$(call say,ruff)
	@$(BIN)/ruff check .

unit: $(STAMP)
	$(call say,unit tests)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests --ignore=tests/book/test_site.py -n $(JOBS) --dist loadfile

execute: $(STAMP)
	$(call say,executing the chapters: profile $(PROFILE))
	@$(ADDLIB) book execute --profile $(PROFILE) --jobs $(JOBS)

validate: $(STAMP)
	$(call say,comparing what the chapters print)
	@$(ADDLIB) book validate --jobs $(JOBS)

publish: $(STAMP)
	$(call say,building the site)
	@$(ADDLIB) book publish --profile $(PROFILE)

site: $(STAMP)
	$(call say,tests of the site)
	@$(BIN)/python -m pytest tests/book/test_site.py
