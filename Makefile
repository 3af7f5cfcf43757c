# make book   the whole way: install, data, execute, publish      make test   everything that must hold
# make lab    JupyterLab on the chapters                          make help   the rest
#
# PROFILE=smoke|reader|paper chooses the parameters of the chapters, PYTHON the interpreter that .venv is made from.

PROFILE ?= smoke
PYTHON  ?=
# As many as this job was allotted cores and memory for.
JOBS    ?= $$($(BIN)/python -c "from addlib.parallel import allotted_processes as n; print(n())")

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
SITE    := book/_build/html/index.html
LOG     := book/_build/make.log
VIDEOS  := data/miniforensics
CROPS   := data/crops/miniforensics

SHELL   := bash
export PYTHONUTF8 := 1
unexport PYTHONHOME PYTHONSTARTUP PYTHONOPTIMIZE PYTEST_ADDOPTS RANK LOCAL_RANK WORLD_SIZE

# $(call step,what,time it takes on two cores,command): a command with its name, its times, and a log of what it said.
# Only what it prints goes through the log, so that progress bars reach the terminal.
define step
@mkdir -p $(dir $(LOG)); \
printf '\n== %s%s\n' '$(1)' '$(if $(2), (about $(2) on two cores))' | tee -a $(LOG); \
begun=$$SECONDS; { $(3); } | tee -a $(LOG); code=$${PIPESTATUS[0]}; \
printf -- '-- %s: %d s\n' '$(1)' $$((SECONDS - begun)) | tee -a $(LOG); exit $$code
endef

.DEFAULT_GOAL := help
.PHONY: help install book test lab data test-people more-people clean clean-trainings rehearsal pdf zip lint unit execute validate refresh publish site again
# The steps of one target build on each other; pytest and papermill have their own ways to use several cores.
.NOTPARALLEL:

help:
	@echo 'make book     install, generate the data, execute every chapter, publish to $(SITE)'
	@echo 'make test     ruff, unit tests, chapters under nbval, checks of the site'
	@echo 'make lab      JupyterLab on the chapters, on this machine only'
	@echo 'make pdf      print the book into book/_build/seeing-through-compression.pdf (needs Chromium or Chrome)'
	@echo 'make zip      pack the rendered book, to be read without a network'
	@echo 'make data     generate MiniForensics and cut its face crops'
	@echo 'make test-people   160 more people, for sweeps of data/protocol.md to test on'
	@echo 'make more-people   800 more people, for the sweep of chapter 15 to learn from'
	@echo 'make rehearsal   the whole way of PROFILE=paper on a small made-up FaceForensics++, before you spend GPU hours on yours'
	@echo 'make clean    remove builds, caches and MiniForensics; keeps .venv, trained networks (data/runs) and your own data'
	@echo 'make clean-trainings   remove the trained networks in data/runs too; they take as long again as they took'
	@echo 'single steps: install, lint, unit, execute, validate, refresh (expected text), publish, site (its tests)'
	@echo 'PROFILE=$(PROFILE)  (smoke, reader, paper: book/profiles)   JOBS=N  (chapters and tests at once; else one a core)'
	@echo 'What the steps said, and how long they took: $(LOG)'

# --- installation: redone when the lock or pyproject.toml changes ---

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@mkdir -p $(dir $(LOG)); printf '\n== installing into $(VENV) (a minute, and the download of 3 GB)\n' | tee -a $(LOG)
	@set -e; begun=$$SECONDS; \
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
	fi; \
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; \
	for what in '-r requirements.lock' '-e .'; do \
	  : uv does in seconds what pip does in minutes, pip is the way out where only pip knows the network; \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps $$what \
	    || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $$what; \
	done; \
	printf -- '-- installed: %d s\n' $$((SECONDS - begun)) | tee -a $(LOG); \
	touch $@

# --- what a newcomer calls ---

data: $(CROPS)/manifest.csv

# Made again when code that they depend on changes; then both commands keep what is still good.
$(CROPS)/manifest.csv: requirements.lock $(wildcard addlib/*.py addlib/miniforensics/*.py addlib/faceforensics/*.py) \
  $(if $(wildcard $(VIDEOS)/miniforensics.json),,again) | $(STAMP)
	$(call step,data: drawing 1200 videos in three qualities,a minute,$(BIN)/addlib generate $(VIDEOS) --overwrite)
	$(call step,data: cutting their faces,a minute,$(BIN)/addlib prepare $(VIDEOS) $(CROPS) --frames 8)
	@touch $@

# 160 more people, whom nobody trains or chooses on (data/protocol.md): sweeps of the protocol test on them, chapters do not.
test-people: $(CROPS)-test/manifest.csv

$(CROPS)-test/manifest.csv: requirements.lock | $(STAMP)
	$(call step,test-people: drawing 960 videos in three qualities,a minute,$(BIN)/addlib generate $(VIDEOS)-test --people 160 --seed 1 --overwrite)
	$(call step,test-people: cutting their faces,a minute,$(BIN)/addlib prepare $(VIDEOS)-test $(CROPS)-test --frames 8 --splits data/test_people)
	@touch $@

# 800 people, 576 of them to train on: four times as many as in MiniForensics (chapter 15). In two of their 4,800 videos no face is
# found, with which prepare ends in an error; what it wrote is good if it verifies.
more-people: $(CROPS)-more/manifest.csv

$(CROPS)-more/manifest.csv: requirements.lock | $(STAMP)
	$(call step,more-people: drawing 4800 videos in three qualities,three minutes,$(BIN)/addlib generate $(VIDEOS)-more --people 800 --seed 2 --overwrite)
	$(call step,more-people: cutting their faces,three minutes,$(BIN)/addlib prepare $(VIDEOS)-more $(CROPS)-more --frames 8 || $(BIN)/addlib verify $(CROPS)-more)
	@touch $@

again:

book: data
	@$(MAKE) --no-print-directory execute publish PROFILE=$(PROFILE)
	@printf '\nThe book: %s/%s\n' "$$PWD" $(SITE)

# Always profile smoke: that is what the expected outputs are of. The site comes last, its tests need what the others made.
test: data
	@$(MAKE) --no-print-directory lint unit execute validate publish site PROFILE=smoke

lab: $(STAMP)
	@printf '\n== JupyterLab; open the address with the token that it prints\n'
	@# book/lab: no question about news, and a style for what JupyterLab does not know of MyST.
	@cd book && JUPYTER_CONFIG_PATH="$$PWD/lab" ../$(BIN)/jupyter lab --ServerApp.ip=127.0.0.1 --custom-css \
	  --ServerApp.tornado_settings="{'static_custom_path': ['$$PWD/lab']}" $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB)

rehearsal: $(STAMP)
	$(call step,rehearsing profile paper in book/_build/rehearsal,12 minutes,$(BIN)/python book/builder rehearse --jobs $(JOBS))

pdf: $(STAMP)
	$(call step,printing the site,3 minutes,$(BIN)/python book/builder pdf)

zip: $(STAMP)
	@test -f $(SITE) || { echo 'there is no site to pack; run: make book' >&2; exit 1; }
	@cd book/_build && ../../$(BIN)/python -c 'import shutil; print(shutil.make_archive("seeing-through-compression", "zip", "html"))'

clean:
	rm -rf book/_build $(VIDEOS) $(VIDEOS)-test $(VIDEOS)-more $(CROPS) $(CROPS)-test $(CROPS)-more data/crops/conditions
	rm -rf .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -print0 | xargs -0 rm -rf

clean-trainings: clean
	rm -rf data/runs

# --- the single steps ---

lint: $(STAMP)
	$(call step,ruff,,$(BIN)/ruff check .)

unit: $(STAMP)
	$(call step,unit tests,5 minutes,OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests --ignore=tests/book/test_site.py -n $(JOBS) --dist worksteal)

execute: $(STAMP)
	$(call step,executing the chapters: profile $(PROFILE),,$(BIN)/python book/builder execute --profile $(PROFILE) --jobs $(JOBS))

validate: $(STAMP)
	$(call step,comparing what the chapters print,,$(BIN)/python book/builder validate --jobs $(JOBS))

refresh: $(STAMP)
	@$(BIN)/python book/builder refresh

publish: $(STAMP)
	$(call step,building the site,half a minute,$(BIN)/python book/builder publish --profile $(PROFILE))

site: $(STAMP)
	$(call step,tests of the site,2 minutes,$(BIN)/python -m pytest -q tests/book/test_site.py -n $(JOBS) --dist worksteal)
