# `make demo` and `make test` need Python >= 3.10 with pip, and make: everything else they set up themselves.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11 python3.10; do \
  if $$name -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then echo $$name; break; fi; done)
VENV ?= .venv
EXTRAS ?=
WHEELHOUSE ?=
DETECTRON2 ?= auto
PY ?= 3.12
PLATFORM ?= manylinux_2_28_x86_64
DIR ?= wheelhouse
UV_VERSION := 0.13.9

BIN := $(VENV)/bin
UV := .venv-uv/bin/uv
# A Python asked for by name has a stamp of its own, so that asking for another one is noticed.
STAMP := $(VENV)/.ready$(if $(filter command environment,$(origin PYTHON)),-$(notdir $(PYTHON)))
SETUP := setup.py constraints.txt $(wildcard resnet_backbone/install/*.py)
# The error's own words stand above these sentences.
FAILED = { echo "error: $(1)"; exit 1; }

.PHONY: help demo test test-zoo lint install wheelhouse clean

help:
	@echo "make demo        trains and evaluates on a generated data set, in minutes on a CPU;"
	@echo "                 ARGS='--seed 1' passes arguments to tools/demo.py"
	@echo "make test        the test suite; ARGS='-k name' passes arguments to pytest"
	@echo "make test-zoo    every configuration of Detectron2's model zoo with our backbone"
	@echo "make lint        ruff and mypy"
	@echo "make install     only the environment, in $(VENV); PYTHON=python3.12 chooses the Python,"
	@echo "                 DETECTRON2=registry|official where Detectron2 comes from,"
	@echo "                 WHEELHOUSE=DIR installs without network, beside the system's torch"
	@echo "make wheelhouse  collects wheels for a machine without network:"
	@echo "                 PY=3.12 PLATFORM=manylinux_2_28_x86_64 DIR=wheelhouse EXTRAS=dev"

demo: $(STAMP)
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
	@$(BIN)/python -m resnet_backbone.install.wheelhouse --python $(PY) --platform $(PLATFORM) --output $(DIR) --extras "$(EXTRAS)"

define CHECK_PYTHON
test -n "$(PYTHON)" || $(call FAILED,no Python 3.10 or newer on the PATH; install one or name it: make PYTHON=/path/to/python3.12); \
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
  $(call FAILED,'$(PYTHON)' is missing or older than 3.10; name another one: make PYTHON=python3.12); \
$(PYTHON) -m pip --version >/dev/null 2>&1 || \
  $(call FAILED,$(PYTHON) has no pip; remedy: $(PYTHON) -m ensurepip or your system's package python3-pip)
endef

$(UV):
	@$(CHECK_PYTHON)
	@PIP_ROOT_USER_ACTION=ignore $(PYTHON) -m pip install -q --disable-pip-version-check --target .venv-uv uv==$(UV_VERSION) || \
	  $(call FAILED,pip cannot get uv $(UV_VERSION); check the network and pip's settings)

ifeq ($(WHEELHOUSE),)
$(STAMP): $(SETUP) | $(UV)
	@$(CHECK_PYTHON)
	@echo "setting up $(VENV): once; torch is some GB"
	@if test -x $(BIN)/python && ! $(BIN)/python -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')')"; then \
	  echo "$(VENV) is of another Python than $(PYTHON): made anew"; rm -rf $(VENV); fi
	@test -x $(BIN)/python || $(UV) venv -q --python $(PYTHON) $(VENV)
	@$(UV) pip install -q --python $(BIN)/python -c constraints.txt -e '.[dev,eval]' || \
	  $(call FAILED,uv cannot install the packages; check the network and uv's settings, then run again)
	@$(BIN)/python resnet_backbone/install/detectron2.py --source $(DETECTRON2)
	@touch $@
else
# Without isolation from the system's packages: torch is there.
$(STAMP): $(SETUP)
	@$(CHECK_PYTHON)
	@test -x $(BIN)/python || $(PYTHON) -m venv --system-site-packages $(VENV) 2>/dev/null || \
	  $(PYTHON) -m venv --system-site-packages --without-pip $(VENV)
	@$(BIN)/python -m pip install -q --no-index --find-links $(WHEELHOUSE) -e '.$(if $(EXTRAS),[$(EXTRAS)])' || \
	  $(call FAILED,$(WHEELHOUSE) does not hold what this machine lacks; collect it again for its Python and platform)
	@$(BIN)/python resnet_backbone/install/detectron2.py --wheelhouse $(WHEELHOUSE)
	@touch $@
endif

clean:
	rm -rf $(VENV) .venv-uv
