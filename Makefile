# make demo         the tour, headless: the output of each step, and build/tour.html
# make lab          JupyterLab on the tour, with the demo's broker and services
# make test         everything that CI checks; WORKERS=6
# make test-repeatedly  the tests on a busy machine, in random order; TIMES=20
# make panel        the JupyterLab panel, which needs Node
# make docs         the manual, into build/docs; a warning is an error
# make notebooks    run the notebooks and store them with their outputs
# make develop      the development environment
# make dist         wheel and sdist for a release; fails without the panel
# make pictures     the README's pictures, from the demo
# make bench        benchmarks of calls, streams, frames and starts, with other libraries
# make soak         load on all parts, with a fault every 20 s; MINUTES=30
# make test-matrix  the tests on every supported Python that is installed
# make pythons      Python 3.14 and 3.15 for test-matrix, from Debian's packages
# make test-brokers  the tests that use RabbitMQ, on RabbitMQ 4.0 and 4.3, from Debian's packages
# make test-oldest  most tests on the lowest versions that pyproject.toml allows
# make test-newest  the tests on the newest versions, also those that are not released yet

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
SOURCES := fabric_nb tests benchmarks docs hatch_lab.py
PANEL_BUILD = $(BIN)/python hatch_lab.py
JLPM := cd labextension && ../$(BIN)/jlpm
SUPPORTED := 3.11 3.12 3.13 3.14 3.15
# Tests start many interpreters, which would compile the modules each time.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo lab dist pictures test lint check bench soak panel docs notebooks programs develop panel-test tests short-soak test-repeatedly test-matrix pythons test-brokers test-oldest test-newest clean

demo: $(VENV)/.demo
	$(BIN)/python -m tests.docs.tour

lab: $(VENV)/.demo
	$(PANEL_BUILD)
	$(BIN)/python -m fabric_nb.demo lab

test: develop programs panel
	$(MAKE) --jobs --output-sync=line --keep-going lint check panel-test tests short-soak

# Tests wait more than they compute, so there are more processes than cores.
WORKERS ?= 6
# Name of a file in build/results, for `python -m tests.support.results`
RESULTS ?=

tests:
	$(PYTEST) -n $(WORKERS) $(RESULTS:%=--results build/results/%.json)

panel-test:
	$(JLPM) test

# Each fault once.
short-soak:
	MINUTES=1 FAULT_EVERY=10 $(BIN)/python -m benchmarks.soak

# Find tests that fail by chance; lists the tests that failed.
TIMES ?= 20

test-repeatedly: develop programs panel
	$(BIN)/python -m tests.repeatedly --times $(TIMES) --workers $(WORKERS)

lint: develop panel
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(JLPM) lint

check: develop
	$(BIN)/mypy

# fabric_nb and other libraries, alternating in one run: a table, and JSON in build/bench.
bench: $(VENV)-bench/.bench programs
	$(VENV)-bench/bin/python -m benchmarks

soak: develop programs
	$(BIN)/python -m benchmarks.soak

# Build the JupyterLab panel if its sources have changed, and link it into the environment.
panel: develop programs
	FABRIC_NB_REQUIRE_LAB=1 $(PANEL_BUILD)

dist: develop panel
	FABRIC_NB_REQUIRE_LAB=1 $(BIN)/python -m hatchling build -d dist

pictures: develop programs panel
	$(BIN)/python -m tests.browser.pictures

docs: develop
	$(BIN)/python -m sphinx --fresh-env --fail-on-warning --keep-going -q docs build/docs

notebooks: develop programs
	$(BIN)/python -m tests.docs

develop: $(VENV)/.dev

# The other libraries have many dependencies, so they are not in the development environment.
$(VENV)-bench/.bench: pyproject.toml
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --editable '.[bench]'
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/.demo

# The tests start RabbitMQ and Chromium, which must be installed, not running.
programs:
	@tests/install-programs

# Test every version, even after a failure; the last line lists the result of each.
test-matrix: programs
	@results=""; failed=""; \
	for version in $(SUPPORTED); do \
	    python=python$$version; \
	    $$python --version >/dev/null 2>&1 || python=$$(ls $(UNPACKED)/usr/bin/python$$version 2>/dev/null); \
	    if [ -z "$$python" ]; then results="$$results $$version: not installed;"; \
	    elif $(MAKE) develop panel PYTHON=$$python VENV=.venv-$$version && \
	        $(MAKE) tests VENV=.venv-$$version RESULTS=python-$$version; \
	    then results="$$results $$version: passed;"; \
	    else results="$$results $$version: FAILED;"; failed=yes; fi; \
	done; \
	echo "Python$${results%;}"; [ -z "$$failed" ]

UNPACKED := build/debian/sid

pythons: develop
	$(BIN)/python -m tests.support.debian sid \
	    python3.14-venv python3.14-dev python3.15-venv python3.15-dev

test-brokers: develop programs
	$(BIN)/python -m tests.broker_versions --workers $(WORKERS)

NEWEST := $(VENV)-newest

test-newest: export PIP_PRE := 1
test-newest: programs
	$(MAKE) develop panel VENV=$(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[dev]'
	$(MAKE) tests VENV=$(NEWEST) RESULTS=newest

# Without the tests of builds and docs, whose tools need newer versions; with the panel's browser tests.
OLDEST := $(VENV)-oldest
OLDEST_TOOLS := cryptography hypothesis kombu nbclient notebook pika playwright pytest pytest-asyncio pytest-timeout pytest-xdist trustme

test-oldest: $(OLDEST)/.oldest panel
	$(OLDEST)/bin/python hatch_lab.py
	$(OLDEST)/bin/python -m pytest -n $(WORKERS) --results build/results/oldest.json \
	    tests/unit tests/contract tests/notebook tests/peers tests/browser/test_panel.py \
	    --ignore=tests/unit/test_editable.py --ignore=tests/unit/test_wheel.py \
	    -W "ignore:Deprecated in traitlets 4.1:DeprecationWarning"

$(OLDEST)/.oldest: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --constraint constraints-oldest.txt \
	    --editable '.[arrow,demo,keyring,terminal,zstd]' $(OLDEST_TOOLS)
	touch $@

clean:
	rm -rf build dist .venv .venv-*
