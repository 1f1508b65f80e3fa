# Everything that a user or CI runs. Needs Python 3.8 to 3.13 (for `make predict` 3.8 to 3.14), make and a network.
#
#   make setup                                         the environment .venv for all stages, with TensorFlow
#   make demo                                          the whole chain in small, on drawn pictures (DEMO=FOLDER for another place)
#   make predict DATA=images OUTPUT=predictions.tsv    categorise a folder of images; sets up what that needs, without TensorFlow
#   make own DATA=collection OWN=own                   a model of your own, from a folder with a subfolder for each category
#   make test                                          the tests, but those that take longest (TESTS= for all, TESTS=tests/data for a part)
#   make test-all                                      all tests, on each supported Python that the machine has
#   make axe                                           what some tests of the pages need from npm
#   make lint                                          style, Python 3.8, Dockerfile, shell
#   make bench                                         the benchmarks' tables, and one of all (BENCHMARKS=predict for a part)
#   make clean                                         remove all environments

PYTHON ?= python3
VENV ?= .venv
OPTIONS ?=
DEMO ?= demo
OWN ?= own
TESTS ?= -m 'not once'
BENCHMARKS ?= predict download shards records fractals train distill soup evaluate adapt scale
BENCH_ROWS ?= bench-rows.tmp

# Passed to commands as environment variables and taken as they stand, so that any character may be in a name.
override DATA := $(value DATA)
override OUTPUT := $(value OUTPUT)
override DEMO := $(value DEMO)
override OWN := $(value OWN)
export DATA OUTPUT DEMO OWN PYTHON VENV

MADE = $(VENV)/.made
PREDICT_READY = $(VENV)/.ready-predict
READY = $(VENV)/.ready
TEST_READY = $(VENV)/.ready-test
LINT_READY = .venv-lint/.ready
AXE = tests/npm/node_modules/axe-core/axe.min.js

.PHONY: help setup demo predict own folder-is-given names-are-given test test-all axe lint bench clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

setup: $(READY)

demo: $(READY)
	@PATH="$$(cd "$$VENV" && pwd)/bin:$$PATH" bash demo.sh

predict: names-are-given $(PREDICT_READY)
	@"$$VENV"/bin/python predictImages.py -d "$$DATA" -o "$$OUTPUT" $(OPTIONS)

own: folder-is-given $(READY)
	@PATH="$$(cd "$$VENV" && pwd)/bin:$$PATH" bash own.sh "$$DATA"

folder-is-given:
	@test -n "$$DATA" || { echo "make own: give DATA=FOLDER, with a subfolder for each category" >&2; exit 2; }
	@test -d "$$DATA" || { echo "make own: DATA: $$DATA is not an existing folder" >&2; exit 2; }

names-are-given:
	@test -n "$$DATA" && test -n "$$OUTPUT" || { echo "make predict: give DATA=FOLDER and OUTPUT=FILE.tsv" >&2; exit 2; }

# Three at once, since many wait. If one of the three dies, all end, which else may wait for it for ever.
test: $(TEST_READY)
	"$$VENV"/bin/python -m pytest --numprocesses=3 --dist=loadfile --max-worker-restart=0 $(TESTS)

test-all:
	sh tests/on_each_python.sh

axe: $(AXE)

lint: $(LINT_READY)
	.venv-lint/bin/ruff check
	.venv-lint/bin/ruff format --check
	.venv-lint/bin/vermin --quiet --no-tips --eval-annotations --violations --target=3.8- *.py lib tools tests benchmarks
	.venv-lint/bin/hadolint Dockerfile
	.venv-lint/bin/shellcheck *.sh slurm/*.sbatch tests/*.sh tests/slurm/*.sh .ci/run

bench: $(TEST_READY)
	@rm -f "$(BENCH_ROWS)"
	@export HERBARIOGRAPH_BENCH_ROWS="$(BENCH_ROWS)"; for name in $(BENCHMARKS); do \
		echo "benchmarks/$$name.py" >&2; "$$VENV"/bin/python benchmarks/$$name.py && echo || exit 1; done
	@"$$VENV"/bin/python benchmarks/summary.py "$(BENCH_ROWS)"

clean:
	rm -rf .venv .venv-* tests/npm/node_modules

INSTALL = "$$VENV"/bin/python -m pip install --quiet --disable-pip-version-check
# A TensorFlow that the Python already has, such as the GPU image's, is used as it is; that of a virtual environment can't be.
HAS_TENSORFLOW = -c 'import tensorflow as tf; assert tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 13)' 2> /dev/null
$(MADE):
	@"$$PYTHON" -c 'import sys; sys.exit(not (3, 8) <= sys.version_info[:2] <= (3, 14))' || \
		{ echo "make: $$PYTHON is not a Python from 3.8 to 3.14; name one with PYTHON=…" >&2; exit 2; }
	@echo "Setting up $$VENV for $$("$$PYTHON" --version); the first time this takes a minute or more." >&2
	@if "$$PYTHON" $(HAS_TENSORFLOW); then "$$PYTHON" -m venv --clear --system-site-packages "$$VENV"; \
		else "$$PYTHON" -m venv --clear "$$VENV"; fi
	@touch $@

$(PREDICT_READY): $(MADE) requirements-predict.txt
	@$(INSTALL) -r requirements-predict.txt
	@touch $@

$(READY): $(PREDICT_READY) requirements.txt requirements-tensorflow.txt
	@"$$VENV"/bin/python -c 'import sys; sys.exit(sys.version_info[:2] > (3, 13))' || \
		{ echo "make: there is no TensorFlow for $$("$$VENV"/bin/python --version) yet; name an older one with PYTHON=… (“make predict” needs none)" >&2; exit 2; }
	@if grep -q '^include-system-site-packages = true' "$$VENV"/pyvenv.cfg && "$$VENV"/bin/python $(HAS_TENSORFLOW); \
		then $(INSTALL) -r requirements.txt; \
		else $(INSTALL) -r requirements.txt -r requirements-tensorflow.txt; fi
	@touch $@

$(TEST_READY): $(READY) requirements-test.txt
	@"$$VENV"/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-test.txt
	@touch $@

$(LINT_READY): requirements-lint.txt
	@"$$PYTHON" -m venv --clear .venv-lint
	@.venv-lint/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-lint.txt
	@touch $@

$(AXE): tests/npm/package.json
	@npm install --prefix tests/npm --no-package-lock --no-audit --no-fund --loglevel=error > /dev/null
	@touch $@
