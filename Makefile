# make demo    train on the Boston housing data        make test    the whole suite
# make check   ruff and mypy                           make bench   benchmarks
# make wheels  what is published, into dist            make bench-peers   install the peers
# make clean   remove what these have made
#
# All work in .venv, which is made and filled on the first call and kept up to date after.

VENV := .venv
BIN := $(VENV)/bin
PYTHON_IN_VENV := $(BIN)/python
PIP := $(PYTHON_IN_VENV) -m pip --disable-pip-version-check --quiet

PROJECTS := $(wildcard mf*/pyproject.toml miniflow/pyproject.toml)
PACKS := $(patsubst %/pyproject.toml,%,$(PROJECTS))
EDITABLE := $(foreach pack,$(PACKS),--editable ./$(pack))
TEST_NEEDS := pytest pytest-xdist hypothesis autograd scikit-learn numba scipy threadpoolctl playwright safetensors nbformat cookiecutter ruff mypy

# PYTHON=... chooses another one.
PYTHONS := $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python

.PHONY: help demo test check wheels bench bench-peers clean
.DELETE_ON_ERROR:

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.packs
	$(BIN)/miniflow train boston

test: $(VENV)/.tests
	PYTHONHASHSEED=0 $(PYTHON_IN_VENV) -m pytest --numprocesses 2 --dist loadfile $(ARGS)

check: $(VENV)/.tests
	$(PYTHON_IN_VENV) -m ruff check .
	$(PYTHON_IN_VENV) -m ruff format --check .
	$(PYTHON_IN_VENV) -m mypy --strict $(addsuffix /src,$(PACKS)) $(wildcard examples/*/src)

# To write its manifest a pack is imported, so it is built where all that it needs is installed.
wheels: $(VENV)/.packs
	HATCH_BUILD_HOOK_ENABLE_MINIFLOW=1 \
	    $(PIP) wheel --no-build-isolation --no-deps --wheel-dir dist $(addprefix ./,$(PACKS))

bench: $(VENV)/.tests
	$(PYTHON_IN_VENV) -m benchmarks $(ARGS)

# Large downloads; the benchmarks say which peers they miss and do without.
bench-peers: $(VENV)/.tests
	@echo "installing the peers that the benchmarks compare with"
	@$(PIP) install --constraint constraints.txt --no-build-isolation --editable './miniflow[bench]'

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis boston_loss.png
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp says that a step was done; it is written last, so that what was cut short is done again.

$(VENV)/.python:
	@for python in $(PYTHONS); do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "creating $(VENV) with $$("$$python" --version)"; \
	        "$$python" -m venv --clear $(VENV) && exec touch $@; \
	        echo "$$python cannot create a virtual environment: install its venv module" >&2; \
	        echo "(on Debian and Ubuntu the package python3-venv), then try again." >&2; \
	        exit 1; \
	    fi; \
	done; \
	echo "MiniFlow needs Python 3.11 or newer, and none was found. Install one, or name it:" >&2; \
	echo "    make PYTHON=/path/to/python3" >&2; \
	exit 1

# One environment to build all packs in is much quicker than one each.
$(VENV)/.packs: $(VENV)/.python $(PROJECTS) constraints.txt
	@echo "installing the packs: $(PACKS)"
	@$(PIP) install --constraint constraints.txt hatchling editables
	@$(PIP) install --constraint constraints.txt --no-build-isolation $(EDITABLE)
	@touch $@

$(VENV)/.tests: $(VENV)/.packs Makefile
	@echo "installing what tests and checks need: $(TEST_NEEDS)"
	@$(PIP) install --constraint constraints.txt $(TEST_NEEDS)
	@touch $@
