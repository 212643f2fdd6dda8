# Two commands do everything on a fresh machine: `make serve` and `make test`.
PYTHON ?= python3
PORT ?= 8080
ARTIFACT ?= artifacts/default
DATA_DIR ?= data
RUN ?= runs/default
TEACHER_RUN = runs/teacher

SERVE_PYTHON = .venv/bin/python
DEV_PYTHON = .venv-dev/bin/python
# Where torch comes from; on a machine without a GPU point it at a CPU build: TORCH_PIP_ARGS="--index-url ..."
TORCH_PIP_ARGS ?=

.PHONY: serve install install-dev test check lint types layers format clean train-default train-teacher teacher-mean distill export-default teacher-student cross-encoder evaluate bench-engine bench-peers install-bench tiny pages test-clients docs docs-serve

serve: install  ## serve the embedded default on PORT
	$(SERVE_PYTHON) -m service --artifact $(ARTIFACT) --port $(PORT)

install: .venv/installed  ## the serving environment: runtime packages only, no torch
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(SERVE_PYTHON) -m pip install -q --disable-pip-version-check -e ".[cpu]"
	@touch $@

install-dev: .venv-dev/installed  ## everything: torch, export, training, tests
.venv-dev/installed: pyproject.toml clients/python/pyproject.toml
	$(PYTHON) -m venv .venv-dev
	$(DEV_PYTHON) -m pip install -q --disable-pip-version-check $(TORCH_PIP_ARGS) torch==2.13.0
	$(DEV_PYTHON) -m pip install -q --disable-pip-version-check -e ".[cpu,export,training,loadtest,scale,dev]" -e clients/python
	@touch $@

test: install-dev  ## all tests
	$(DEV_PYTHON) -m pytest

test-clients: .venv-clients/installed .venv-clients-apart/installed  ## other people's clients against the running service
	$(CLIENTS_OFFLINE) .venv-clients/bin/python -m pytest $(CLIENT_TESTS)
	$(CLIENTS_OFFLINE) .venv-clients-apart/bin/python -m pytest $(CLIENT_TESTS)

# Some of them report or fetch at import.
CLIENTS_OFFLINE = HAYSTACK_TELEMETRY_ENABLED=False LITELLM_LOCAL_MODEL_COST_MAP=True
# Their warnings are theirs, and the other tests' fixtures need packages that are not there.
CLIENT_TESTS = tests/clients --confcutdir=tests/clients -o filterwarnings=ignore

.venv-%/installed: pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q --disable-pip-version-check -e ".[cpu,$*]"
	@touch $@

check: install-dev lint types layers test  ## what CI runs

lint: install-dev
	$(DEV_PYTHON) -m ruff check .
	$(DEV_PYTHON) -m ruff format --check .

types: install-dev
	$(DEV_PYTHON) -m mypy

layers: install-dev
	.venv-dev/bin/lint-imports

format: install-dev
	$(DEV_PYTHON) -m ruff check --fix .
	$(DEV_PYTHON) -m ruff format .

clean:
	rm -rf .venv .venv-dev .venv-docs build/site .venv-clients .venv-clients-apart .venv-bench .venv-bench-http .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# Data lie under DATA_DIR (docs/training.md says where they come from); runs under RUN.
SIMILARITY = $(DATA_DIR)/similarity.jsonl.gz
TEST_FILES = $(foreach set,trecdl homedepot chorus medquad,$(DATA_DIR)/$(set)/test.jsonl.gz)
VAL_FILES = trecdl/val.jsonl.gz homedepot/val.jsonl.gz

$(SIMILARITY):
	OMP_WAIT_POLICY=passive $(DEV_PYTHON) -m training.similarity configs/training/similarity.toml --data-dir $(DATA_DIR) --out $@

ANNOTATED = $(foreach set,trecdl homedepot chorus medquad,$(DATA_DIR)/$(set)/annotated.jsonl)
SYNTHETIC = $(DATA_DIR)/synthetic.jsonl.gz

$(SYNTHETIC):
	$(DEV_PYTHON) -m training.synthesis --data-dir $(DATA_DIR) --out $@ \
	  --sources homedepot/train.jsonl.gz trecdl/train.jsonl.gz chorus/train.jsonl.gz

$(DATA_DIR)/%/annotated.jsonl: $(DATA_DIR)/%/train.jsonl.gz
	$(DEV_PYTHON) -m training.annotate $< $@

SFT = OMP_WAIT_POLICY=passive $(DEV_PYTHON) -m training.sft
DISTILL = OMP_WAIT_POLICY=passive $(DEV_PYTHON) -m training.distill --data-dir $(DATA_DIR)
CALIBRATE = $(DEV_PYTHON) -m training.calibrate
ON_VALIDATION = --data-dir $(DATA_DIR) --data $(VAL_FILES)
HUMAN = $(SIMILARITY) $(ANNOTATED) $(SYNTHETIC)

# Every stage is resumable: the same command goes on where it stopped. Finished label files are kept.
TAUGHT = $(DATA_DIR)/homedepot/taught.jsonl
TEACHER_LABELS = $(DATA_DIR)/teacher_judged.jsonl $(DATA_DIR)/teacher_any.jsonl

train-default: install-dev $(HUMAN) distill  ## every stage up to runs/default/checkpoint
	$(SFT) configs/training/default_start.toml --data-dir $(DATA_DIR) --run runs/default_start
	$(SFT) configs/training/default.toml --data-dir $(DATA_DIR) --run $(RUN)
	$(CALIBRATE) $(RUN)/checkpoint $(ON_VALIDATION)

train-teacher: install-dev $(HUMAN)  ## a larger model, which labels pairs for the default
	$(SFT) configs/training/teacher.toml --data-dir $(DATA_DIR) --run $(TEACHER_RUN)
	$(CALIBRATE) $(TEACHER_RUN)/checkpoint $(ON_VALIDATION)

distill: $(TAUGHT) $(TEACHER_LABELS)  ## what the teacher and the cross-encoder say of pairs

$(TAUGHT): | cross-encoder
	$(DISTILL) --teacher $$(ls -d runs/cross_encoder/checkpoint-* | tail -1) \
	  --temperature $$($(DEV_PYTHON) -c "import json; print(json.load(open('results/cross_encoder.json'))['temperature'])") \
	  --pairs homedepot/train.jsonl.gz --rows 65843 --out $@

$(DATA_DIR)/teacher_judged.jsonl: | train-teacher
	$(DISTILL) --teacher $(TEACHER_RUN)/checkpoint --rows 20000 --explained 1500 --out $@ \
	  --pairs $(foreach set,homedepot trecdl chorus medquad,$(set)/train.jsonl.gz)

$(DATA_DIR)/teacher_any.jsonl: | train-teacher
	$(DISTILL) --teacher $(TEACHER_RUN)/checkpoint --rows 12000 --explained 500 --out $@ --pairs similarity.jsonl.gz

teacher-mean: train-teacher $(TAUGHT)  ## the teacher, itself taught by the cross-encoder: the mean of both stages' weights
	$(SFT) configs/training/teacher_taught.toml --data-dir $(DATA_DIR) --run runs/teacher_taught
	$(DEV_PYTHON) -m training.average $(TEACHER_RUN)/checkpoint runs/teacher_taught/checkpoint --run runs/teacher_mean
	$(CALIBRATE) runs/teacher_mean/checkpoint $(ON_VALIDATION)

EXPORT = $(DEV_PYTHON) -m model_export --precision int8 --pairs $(addprefix $(DATA_DIR)/,$(VAL_FILES)) --num-parity-pairs 1000

export-default: install-dev  ## checkpoint -> artifacts/default, if it passes the parity gate
	$(EXPORT) $(RUN)/checkpoint artifacts/default --name answer-first-minilm

teacher-student: install-dev  ## the better teacher as an artifact, beside the default, into results/
	$(EXPORT) runs/teacher_mean/checkpoint runs/teacher_mean/artifact --name answer-first-teacher
	$(DEV_PYTHON) -m benchmarks.teacher_student --teacher runs/teacher_mean/artifact --student artifacts/default --data $(TEST_FILES)

cross-encoder: install-dev  ## the reference: a cross-encoder fine-tuned on the same shop pairs, into results/
	OMP_WAIT_POLICY=passive $(DEV_PYTHON) -m training.cross_encoder --data-dir $(DATA_DIR) --run runs/cross_encoder \
	  --train homedepot/train.jsonl.gz --validation homedepot/val.jsonl.gz --test homedepot/test.jsonl.gz \
	  --out results/cross_encoder.json

evaluate: install-dev  ## test figures of the default, into results/
	$(DEV_PYTHON) -m training.evaluate --artifact artifacts/default --data $(TEST_FILES) --out results/evaluate_default.json
	$(DEV_PYTHON) -m training.everyday --artifact artifacts/default --out results/everyday_default.json

bench-engine: install-dev  ## packed against one by one and padded, into results/
	$(DEV_PYTHON) -m benchmarks.engine

BENCH_PYTHON ?= .venv-bench/bin/python
INFINITY ?= .venv-bench-http/bin/infinity_emb
QWEN_TOKENIZER ?= $(DATA_DIR)/qwen-tokenizer/tokenizer.json
PEERS = $(BENCH_PYTHON) -W ignore -m benchmarks.peers

bench-peers: install-bench  ## other people's engines beside ours, into results/ and docs/images/peers.svg
	$(PEERS) student --data $(DATA_DIR) --checkpoint $(RUN)/checkpoint
	$(PEERS) qwen --data $(DATA_DIR) --tokenizer $(QWEN_TOKENIZER)
	$(PEERS) http --data $(DATA_DIR) --infinity $(INFINITY)

# llama.cpp is compiled here, for this machine's instructions. GCC 12 takes the stores of AMX's tile configuration for dead
# and drops them, which ends in a segmentation fault (docs/log.md): hence the flags. infinity-emb holds numpy below 2 and
# stands apart.
LLAMA_BUILD = CMAKE_ARGS="-DLLAVA_BUILD=OFF" CXXFLAGS="-fno-tree-dse -fno-dse -fno-tree-sra"
install-bench: .venv-bench/installed .venv-bench-http/installed
.venv-bench/installed: pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q --disable-pip-version-check $(TORCH_PIP_ARGS) torch==2.13.0
	$(LLAMA_BUILD) $(@D)/bin/python -m pip install -q --disable-pip-version-check \
	  -e ".[cpu,export,training,loadtest,bench]"
	@touch $@

.venv-bench-http/installed: pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q --disable-pip-version-check $(TORCH_PIP_ARGS) torch==2.13.0
	$(@D)/bin/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['bench-http'], sep='\n')" \
	  | xargs $(@D)/bin/python -m pip install -q --disable-pip-version-check
	@touch $@

tiny: install-dev  ## rebuild the artifact the tests run on
	$(DEV_PYTHON) -m model_export.tiny tests/data/tiny_artifact

docs: .venv-docs/installed  ## the documentation as a site, into build/site; any link that leads nowhere stops it
	$(DOCS_QUIETLY) .venv-docs/bin/mkdocs build

docs-serve: .venv-docs/installed  ## the site on port 8000, built anew at every change
	$(DOCS_QUIETLY) .venv-docs/bin/mkdocs serve

# The theme's authors tell of the plans of others at every build.
DOCS_QUIETLY = NO_MKDOCS_2_WARNING=1
.venv-docs/installed: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'], sep='\n')" \
	  | xargs .venv-docs/bin/python -m pip install -q --disable-pip-version-check
	@touch $@

pages: install-dev  ## figures and module table of the pages, from results/ and docstrings
	$(DEV_PYTHON) -m benchmarks.pages
