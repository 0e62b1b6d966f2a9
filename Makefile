# `make demo` and `make test` need Python >= 3.10, its pip, and make: everything else they set up themselves.
PYTHON ?= python3
VENV ?= .venv
WHEELHOUSE ?=
PY ?= 3.12
PLATFORM ?= manylinux_2_28_x86_64
DIR ?= wheelhouse
UV_VERSION := 0.13.9

BIN := $(VENV)/bin
UV := .venv-uv/bin/uv
STAMP := $(VENV)/.ready
SETUP := setup.py constraints.txt $(wildcard resnet_backbone/install/*.py)

.PHONY: help demo test test-zoo lint install wheelhouse clean

help:
	@echo "make demo        trains and evaluates on a generated data set, in minutes on a CPU"
	@echo "make test        the test suite"
	@echo "make test-zoo    every configuration of Detectron2's model zoo with our backbone"
	@echo "make lint        ruff and mypy"
	@echo "make install     only the environment, in $(VENV); WHEELHOUSE=DIR installs without network"
	@echo "make wheelhouse  wheels for a machine without network: PY=3.12 PLATFORM=manylinux_2_28_x86_64 DIR=wheelhouse"

demo: $(STAMP)
	@test -f tools/demo.py || { echo "make demo is not there yet: the demonstration is still to be written (CHANGELOG.md)"; exit 2; }
	$(BIN)/python tools/demo.py $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest $(ARGS)

test-zoo: $(STAMP)
	$(BIN)/python -m pytest -m zoo $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(STAMP)

wheelhouse: $(STAMP)
	$(BIN)/python -m resnet_backbone.install.wheelhouse --python $(PY) --platform $(PLATFORM) --output $(DIR)

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "error: '$(PYTHON)' is missing or older than 3.10; say which: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m pip --version >/dev/null || { echo "error: $(PYTHON) has no pip; install it and run again"; exit 1; }
	@echo "setting up $(VENV) (once; torch is some GB)"
	@$(PYTHON) -m pip install -q --target .venv-uv uv==$(UV_VERSION) 2>/dev/null || \
	  $(PYTHON) -m pip install --target .venv-uv uv==$(UV_VERSION)

ifeq ($(WHEELHOUSE),)
$(STAMP): $(SETUP) | $(UV)
	@test -x $(BIN)/python || $(UV) venv -q --python $(PYTHON) $(VENV)
	@$(UV) pip install -q --python $(BIN)/python -c constraints.txt setuptools wheel
	@$(UV) pip install -q --python $(BIN)/python -c constraints.txt --no-build-isolation -e '.[dev,eval]'
	@$(BIN)/python -m resnet_backbone.install.detectron2
	@touch $(STAMP)
else
$(STAMP): $(SETUP)
	@test -x $(BIN)/python || $(PYTHON) -m venv --system-site-packages $(VENV)
	@$(BIN)/python -m pip install -q --no-index --find-links $(WHEELHOUSE) --no-build-isolation -e .
	@$(BIN)/python -m resnet_backbone.install.detectron2 --wheelhouse $(WHEELHOUSE)
	@touch $(STAMP)
endif

clean:
	rm -rf $(VENV) .venv-uv
