# Every target makes what it needs; a second call does not install again.
# torch from elsewhere: make setup TORCH_INDEX=https://download.pytorch.org/whl/cu126
PRESET ?= laptop
PYTHON ?= python3
TORCH_INDEX ?=
STEPS ?=
CH ?=

BIN := .venv/bin
NOTEBOOKS := $(sort $(wildcard notebooks/[0-9]*.ipynb))

.PHONY: setup oldest newest wheel colab run test check browser prepare badges slides contact exercises execute bench active gpu soak pretrain figure2 table1 many-shots figures spaces study crossing reproduce docs site lab dashboard clean
.DEFAULT_GOAL := run

# The environment, by uv where it is found; nothing happens where it is ready. See tools/environment.py.
environment = @TORCH_INDEX='$(TORCH_INDEX)' $(PYTHON) tools/environment.py
setup:
	$(environment) setup

# The unit tests with the lowest and the newest versions that pyproject.toml allows. Others' warnings
# about versions of others are no failures there.
oldest newest:
	$(environment) $@
	OMP_NUM_THREADS=1 .venv-$@/bin/python -m pytest -q -p no:nbval -W default -n 2 \
	  -m 'not real and not cluster and not slow and not browser' $(or $(TESTS),tests)

# The wheel and the source archive in dist/, and the wheel by itself in an empty environment: every
# notebook at smoke, outside of this folder.
wheel: setup
	rm -rf dist runs/wheel
	$(BIN)/python -m pip --quiet wheel --no-deps --wheel-dir dist .
	$(PYTHON) -m venv runs/wheel
	runs/wheel/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	cp notebooks/[0-9]*.ipynb runs/wheel
	cd runs/wheel && bin/frugal walk [0-9]*.ipynb --preset smoke

# In Colab's own image: the cell that installs Frugal there, on this checkout, and a notebook behind it.
colab:
	$(PYTHON) tools/colab.py

# The walk-through: notebooks at $(PRESET), executed into reports/, then what they claim and found.
# It says what it does and how long that takes; interrupted, it goes on with the notebook it was in.
run: setup
	@$(BIN)/frugal walk $(NOTEBOOKS) --preset $(PRESET) --out reports > /dev/null
	@$(BIN)/frugal claims reports

test: check browser
	$(BIN)/pytest -q -m '(real or cluster) and not browser' tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -p no:nbval -m slow -n 2 tests
	FRUGAL_PRESET=smoke $(BIN)/pytest -q --nbval-lax --nbval-cell-timeout=300 notebooks

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -p no:nbval -m 'not real and not cluster and not slow and not browser' -n 2 tests

# The explorers, slides and site in Chromium (Debian: apt-get install chromium fonts-dejavu-core); skipped without it.
# The site is made anew for its tests where npm is there.
browser: setup
	@if command -v npm >/dev/null && $(MAKE) node_modules/ready; then $(MAKE) site; fi
	$(BIN)/pytest -q -m browser tests

# The notebooks as they are committed: executed in place at the preset each one names.
execute: setup
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace \
	  --ExecutePreprocessor.record_timing=False \
	  --Exporter.preprocessors=frugal_course.notebooks.reading.still $(NOTEBOOKS) notebooks/dashboard.ipynb
	$(MAKE) figures

# What Colab and a talk need, in every notebook: its first cell, badge and slide tags; outputs stay.
prepare: setup
	$(BIN)/frugal notebooks prepare $(NOTEBOOKS)

# Where the companion is published, everywhere it is said: make badges REPO=owner/name TAG=v1
badges: setup
	$(BIN)/frugal notebooks badges '$(REPO)' '$(TAG)' $(NOTEBOOKS)
	$(BIN)/frugal notebooks exercises notebooks

# reports/slides/*.html, for a browser without a network. KO=1: with Korean titles and notes.
slides: setup
	$(BIN)/frugal notebooks slides $(if $(KO),--korean )$(NOTEBOOKS)

# reports/contact.html: every figure of the notebooks on one page, as wide as GitHub shows it.
contact: setup
	$(BIN)/frugal notebooks contact $(NOTEBOOKS)

# notebooks/exercises and notebooks/solutions, from their one source, lib/frugal_course/exercises.
exercises: setup
	$(BIN)/frugal notebooks exercises notebooks

# This project beside its peers, about 40 minutes on two idle cores; it goes on where it was killed.
# ONLY='16 shots': works with that in their name; AGAIN=1: also those that were measured today.
bench:
	$(environment) setup bench
	$(BIN)/python tests/bench/bench.py $(if $(ONLY),--only '$(ONLY)') $(if $(AGAIN),--again)

# Which 32 texts to label, chosen or at random: data/results/active.csv. Intents are in BIG-bench (358 MB).
active: setup
	$(BIN)/frugal artifacts fetch bigbench
	$(BIN)/python tests/bench/active.py

# Kernels, precisions, training and the unit tests on a GPU: data/results/gpu.csv. It needs no network
# and installs nothing: without .venv the machine's own Python serves, where torch is. It goes on where
# it was. With SECONDS=400 no piece begins later than that; without, all are done (soak's default is below).
gpu: SECONDS := $(SECONDS)
gpu:
	PYTHONPATH=lib$${PYTHONPATH:+:$$PYTHONPATH} $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) \
	  tests/gpu/gpu.py $(if $(SECONDS),--seconds $(SECONDS))

# Odd inputs through every door, faults in every long command, and up to 200 purchases of labels from a
# server that misbehaves: tables, and what was found.
# It takes no longer than SECONDS; another SEED sends other inputs. Exit status 1: something was found.
SECONDS ?= 900
SEED ?= 0
soak: setup
	@export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false; found=0; \
	$(BIN)/python tests/soak/soak.py --seconds $$(( $(SECONDS) * 2 / 3 )) --seed $(SEED) || found=1; \
	$(BIN)/python tests/soak/faults.py --seconds $$(( $(SECONDS) / 6 )) --seed $(SEED) || found=1; \
	$(BIN)/python tests/soak/buying.py --seconds $$(( $(SECONDS) / 6 )) --seed $(SEED) || found=1; \
	exit $$found

# How every class of transformers that scores text is scored: packed, alone, or refused and why.
architectures: setup
	OMP_NUM_THREADS=1 FRUGAL_TABLE=data/results/architectures.csv $(BIN)/pytest -q -m slow -k no_class tests/fewshot

# nano-t0 made anew, in about half an hour on an idle machine; it goes on where it was killed. With
# STEPS=50 a short one, from the corpora that are there; the full one fetches BIG-bench (358 MB).
pretrain: setup
	$(if $(STEPS),,$(BIN)/frugal artifacts fetch bigbench)
	$(BIN)/frugal pretrain --out runs/nano-t0$(if $(STEPS),-$(STEPS) --steps $(STEPS))

# Figure 2 for longer than a notebook takes, about 20 minutes; it goes on where it was killed.
figure2: setup
	$(BIN)/frugal figure2 --steps 16 --limit 100 --seed 0 --seed 1 --out data/results/figure2.csv

# Our own Table 1 (data/table1.toml), about eight hours on two idle cores, and many shots
# (data/many_shots.toml), a twelfth of that. They go on with the rows that the files in data/results have,
# and where they were killed; AGAIN=1 makes all anew, in runs/, and replaces those files at the end. Two
# processes with a thread each share the runs: what two threads add up is rounded otherwise, so a row comes
# out again, answer by answer, with one. int8 is named, so that the two processes cannot differ. BIG-bench
# is 358 MB.
recorded = $(if $(AGAIN),runs/again,data/results)/$(1).csv
plan = export OMP_NUM_THREADS=1; run="$(BIN)/frugal table1 --plan $(1) --precision int8 --out \
  $(call recorded,$(2)) $(if $(AGAIN),--store runs/again/$(1))"; $$run & $$run; status=$$?; wait; \
  $(if $(AGAIN),test $$status = 0 && cp $(call recorded,$(2)) data/results/;) exit $$status
table1: setup
	$(BIN)/frugal artifacts fetch bigbench
	$(call plan,table1,table1)

many-shots: setup
	$(BIN)/frugal artifacts fetch bigbench
	$(call plan,many-shots,many_shots)

# The README's figures are of notebooks 03 and, once `make crossing` has recorded it, 05; this takes
# them out again, with their sentences. And the audit, number by number, as a table to look them up in.
figures: setup
	$(BIN)/frugal papers audit --csv data/results/audit.csv --json > /dev/null
	$(BIN)/frugal notebooks front notebooks/03_tfew.ipynb 'Accuracy against cost' data/results/figure3.png
	$(if $(wildcard data/results/crossing.csv),$(BIN)/frugal notebooks front --mark taught \
	  notebooks/05_distill_or_annotate.ipynb 'A hundred labels' data/results/taught.png)

# Chapter 4's long search, on four tasks: 1,548 trainings, 1.2e15 FLOPs, 5.6 hours at 60 GFLOP/s by its
# dry run. It goes on where it was killed. Two processes with a thread each share the runs: on two cores
# they are faster than one with two. Intents and facts (fever) are in BIG-bench (358 MB); of intents only
# 346 texts are kept for testing.
SPACES := --store runs/spaces-long
SEARCH := $(BIN)/frugal spaces search $(SPACES) --designs 12 --last-designs 4 \
  --set 'tasks=["movie-reviews","intent-recognition","fever","tweets-rating"]' \
  --set labels=160 --set limit=500 \
  --set 'recipe={"epochs":3,"batch_size":8,"lr":0.005,"max_tokens":64}'
spaces: setup
	$(BIN)/frugal artifacts fetch bigbench
	export OMP_NUM_THREADS=1; $(SEARCH) & $(SEARCH); status=$$?; wait; exit $$status
	$(BIN)/frugal spaces report $(SPACES) --runs data/results/spaces_runs.csv

# Chapter 5's records, about two hours on one core; they go on where they were killed, and replace
# the committed ones when all are done. Texts, steps and test examples are more than the notebook's
# own; fever is in BIG-bench (358 MB).
STUDY := $(BIN)/frugal budgets study --set limit=1000 --set llm_texts=800 --set teacher_steps=50 \
  --set least_steps=125 --set epochs=3
study: setup
	$(STUDY) --out runs/study.csv --set 'students=["1 layer","2 layers"]' \
	  --set 'labels=[100,300,1000]' --set 'seeds=[0,1,2]' --set unlabelled=7400
	$(STUDY) --out runs/study_tfew.csv --set teacher=smollm2-135m --set llm= \
	  --set 'students=["2 layers","s4","nano-t0"]' --set 'labels=[100]' --set unlabelled=2000
	$(BIN)/frugal artifacts fetch bigbench
	$(STUDY) --out runs/study_fever.csv --set task=fever --set 'students=["2 layers"]' \
	  --set unlabelled=4500
	cp runs/study.csv runs/study_tfew.csv runs/study_fever.csv data/results/

# Where labels and distillation cross: data/results/crossing.csv. 125 trainings and teachers, 3.2e15
# FLOPs: about five hours on two idle cores, at 100 GFLOP/s of CPU time each, as measured. DRY=1 says of
# each part what is left, in hours of one process at what this machine's products take now. It goes on
# where it was killed, and two processes with a thread each share the runs of each part. Five draws and
# 1,000 test texts: intervals of about 2 points either way, by the components of data/results/study.csv.
# There are 27,334 texts to label in vitaminc and as many for testing, 28,631 and 28,630 in multiemo; in
# movie-reviews 4,782 and 4,781, so that it has no N = 5,000. Texts are not cut: 28 tokens in multiemo,
# 31 in movie-reviews, 78 in vitaminc (means). A MiniLM that teaches sees the labels twice, but for 50
# steps at least. bfloat16 is what is fastest, named, so that the two processes cannot differ. BIG-bench
# is 358 MB.
CROSSING := $(BIN)/frugal budgets study --precision bfloat16 --store runs/crossing --set limit=1000 \
  --set unlabelled=4000 --set llm_texts=800 --set teacher_steps=50 --set teacher_epochs=2 \
  --set least_steps=125 --set epochs=3 --set 'seeds=[0,1,2,3,4]'
TWO := --set 'students=["2 layers"]'
EVERY_N := --set 'labels=[100,1000,5000]' $(TWO)
SIZES := --set 'labels=[1000]' --set 'students=["1 layer","2 layers","4 layers","6 layers"]'
FEWER := --set 'labels=[100,1000]' $(TWO)
TFEW := --set 'labels=[100]' $(TWO) --set llm= --set teacher=smollm2-135m --set teacher_precision=bfloat16
part = export OMP_NUM_THREADS=1; $(if $(DRY),$(CROSSING) $(2) --dry-run,$(CROSSING) $(2) & \
  $(CROSSING) $(2) --out runs/crossing/$(1).csv; status=$$?; wait; exit $$status)
crossing: setup
	$(BIN)/frugal artifacts fetch bigbench
	$(call part,multiemo,--set task=multiemo $(EVERY_N))
	$(call part,sizes,--set task=multiemo $(SIZES))
	$(call part,movies,--set task=movie-reviews $(FEWER))
	$(call part,movies_tfew,--set task=movie-reviews $(TFEW))
	$(call part,multiemo_tfew,--set task=multiemo $(TFEW))
	$(call part,vitaminc,--set task=vitaminc $(EVERY_N))
	$(call part,vitaminc_tfew,--set task=vitaminc $(TFEW))
	$(if $(DRY),,awk '!seen[$$0]++' runs/crossing/*.csv > data/results/crossing.csv)

# Everything measured that is committed, made anew; CH=2, 3, 4 or 5: the long trainings of one chapter.
# Chapter 3's go on with the rows that are committed, unless AGAIN=1.
LONG_2 := figure2
LONG_3 := table1 many-shots
LONG_4 := spaces
LONG_5 := study crossing
ifneq ($(filter-out 2 3 4 5,$(CH)),)
$(error CH=$(CH): chapters with long trainings are 2 to 5)
endif
reproduce: $(if $(CH),$(LONG_$(CH)),figure2 table1 many-shots spaces study crossing execute bench)

# Pages of both packages from their docstrings: reports/docs/index.html.
docs:
	$(environment) setup docs
	$(BIN)/pdoc --output-directory reports/docs frugal frugal_course

# site/: the companion as static files, for any web server: python3 -m http.server -d site
site: node_modules/ready
	$(environment) setup docs
	$(BIN)/frugal site

# What the explorers of the site compute with, and what checks its pages.
node_modules/ready: package-lock.json
	npm ci --ignore-scripts --no-audit --no-fund
	touch $@

# JupyterLab does not start as root unless it is told to; in a container it may: make lab ROOT=1
lab: setup
	@if [ "$$(id -u)" = 0 ] && [ -z "$(ROOT)" ]; then \
	  echo 'You are root, as whom JupyterLab does not start. In a container of yours: make lab ROOT=1' >&2; exit 2; fi
	$(BIN)/jupyter lab $(if $(ROOT),--allow-root) notebooks

# The explorers without code, for this machine alone: http://127.0.0.1:8866. Voilà answers whoever asks
# under any name (a page elsewhere, whose name was made to lead here, too); Jupyter's own check stops it.
dashboard: setup
	$(BIN)/voila notebooks/dashboard.ipynb --Voila.ip=127.0.0.1 --port=8866 \
	  --Voila.tornado_settings="{'allow_remote_access': False}" \
	  --MappingKernelManager.cull_idle_timeout=1200 --MappingKernelManager.cull_interval=60

clean:
	rm -rf .venv .venv-oldest .venv-newest node_modules reports runs dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
