# `make` lists the targets: those with a text after ##, below the headings after ##@.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PORT ?= 8080
REPORTS = reports

# Independent suites, the longest first: four run at a time, because real processes wait more than they compute.
SUITES = integration browser unit integration-processes integration-redis packaging unit-python integration-programs \
	fuzz-quick chaos-quick compliance-quick

.PHONY: help headers serve test lint format docs site screenshots fault-clients compliance chaos soak connections threats threats-quick threats-measured threats-waiting sdk system bench fuzz fuzz-sockets fuzz-asan fuzz-protobuf centrifugo-diff clean $(SUITES)

help:
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z][a-z-]*:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ Try it

# An environment with the development packages serves, too.
serve: $(VENV)/$(if $(wildcard $(VENV)/installed),installed,serving) ## start the server; PORT=8080 is the default
	@echo 'Starting the server; Ctrl-C stops it.'
	@$(BIN)/wsserver serve --port $(PORT)

SOURCES = pyproject.toml setup.py wsserver/wire/_speedups.pyx wsserver/cli/_load.c benchmarks/load.c \
	$(wildcard benchmarks/load/*.h)

# What serving needs, and nothing for development. An environment that exists is completed.
$(VENV)/serving: $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "wsserver needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@echo 'Installing the server into $(VENV); this happens once and takes about half a minute.'
	@echo '1/2 Creating a virtual environment (about 5 seconds)'
	@$(PYTHON) -m venv $(VENV)
	@echo '2/2 Installing Twisted and Autobahn, compiling the fast path (about 20 seconds)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# Everything for development. Only an outdated environment that this target has created is created again; any other one,
# such as that of a tutorial, is completed.
$(VENV)/installed: $(SOURCES) | headers
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "wsserver needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(if $(wildcard $(VENV)/installed),--clear) $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@rm -f $(VENV)/serving
	@touch $@

# The load generator is compiled with these headers. Without them, `wsserver bench` is missing.
headers:
	@[ -e /usr/include/openssl/ssl.h ] && [ -e /usr/include/zlib.h ] || [ "$$(id -u)" != 0 ] || \
		sh tests/install_system_packages.sh

##@ Set it up

system: ## install the programs that the tests need, such as Redis and Chromium
	@sh tests/install_system_packages.sh

##@ Change it

test: $(VENV)/installed system ## run all tests, in up to 20 minutes; COVERAGE=1 measures the coverage, too
	mkdir -p $(REPORTS)
	$(BIN)/wsserver version | grep compiled
	$(MAKE) --jobs 4 --output-sync=target --no-print-directory $(SUITES)
	$(MAKE) --no-print-directory threats-quick
	$(if $(COVERAGE),$(BIN)/coverage combine --quiet && $(BIN)/coverage report)

# Measuring the coverage costs much CPU time, with Python 3.11.
PYTEST = $(BIN)/$(if $(COVERAGE),coverage run,python) -m pytest

$(SUITES): $(VENV)/installed system

unit:
	$(PYTEST) tests/unit tests/compliance tests/differential tests/sdk

# Random inputs, many of them, without measuring the coverage.
fuzz-quick:
	$(BIN)/python -m pytest tests/fuzz

# The same behaviour without the compiled part: of the code that has one, and of the sockets below it. tests/fuzz compares
# both anyway.
unit-python:
	WSSERVER_PUREPYTHON=1 $(PYTEST) tests/unit/hub tests/unit/wire
	WSSERVER_PUREPYTHON=1 $(PYTEST) tests/integration/listening tests/integration/wire -m kernel

# Those that start programs and wait for them.
PROCESSES = tests/integration/process
REDIS = tests/integration/redis
PROGRAMS = $(addprefix tests/integration/,auth cli docs)

integration:
	$(PYTEST) --reactor=default $(addprefix --ignore=,$(PROCESSES) $(REDIS) $(PROGRAMS)) tests/integration tests/benchmarks

integration-processes:
	$(PYTEST) --reactor=default $(PROCESSES)

integration-redis:
	$(PYTEST) --reactor=default $(REDIS)

integration-programs:
	$(PYTEST) --reactor=default $(PROGRAMS)

packaging:
	$(PYTEST) tests/packaging

browser:
	$(PYTEST) tests/browser

chaos-quick:
	$(PYTEST) tests/chaos tests/soak

compliance-quick:
	$(BIN)/python tests/compliance/run.py --quick --out $(REPORTS)/compliance-quick

# Alone, after the other suites: it measures how long clients wait. The tests that mostly wait run beside those that
# measure, because they need little CPU time.
threats-quick: $(VENV)/installed system
	$(MAKE) --no-print-directory -j2 --output-sync=target threats-measured threats-waiting

threats-measured:
	THREATS_OUT=$(REPORTS)/threats-quick $(BIN)/python -m pytest tests/threats -m "not waits"

threats-waiting:
	THREATS_OUT=$(REPORTS)/threats-quick/waiting $(BIN)/python -m pytest tests/threats -m waits

lint: $(VENV)/installed ## check format, style, types, imports and the documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory site

# The documentation as a site, in build/site; a warning, such as a link to a heading that is missing, is an error. After an error, all
# pages are read again, because Sphinx repeats no warning about a page that has not changed.
site: $(VENV)/installed ## build the documentation as a site, in build/site
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --jobs auto -c docs -d build/doctrees . build/site || \
		{ rm -rf build/doctrees; exit 1; }

format: $(VENV)/installed ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The pages that are generated from the source.
docs: $(VENV)/installed ## generate the pages of the reference that come from the source
	$(BIN)/python -m wsserver.config.reference > docs/reference/options.md
	$(BIN)/python -m wsserver.web.openapi > docs/reference/openapi.json
	$(BIN)/python -m wsserver.web.asyncapi > docs/reference/asyncapi.json

# The screenshots of the pages in docs/. The Chinese one needs a font, which the tests do not need.
screenshots: $(VENV)/installed ## take the screenshots in the documentation
	@sh tests/install_system_packages.sh screenshots
	$(BIN)/python tests/browser/screenshots.py
	$(BIN)/python tests/browser/admin_screenshots.py

# What real clients report for each fault; writes the table in docs/reference/faults.md.
fault-clients: $(VENV)/installed system ## write the table of what real clients report for each fault
	FAULT_CLIENTS=write $(BIN)/python -m pytest -q tests/browser/test_faults.py

##@ Test it for longer

# The whole Autobahn testsuite, ten minutes and more; docs/reference/compliance.md has the last result.
compliance: $(VENV)/installed ## the whole Autobahn testsuite; ten minutes
	$(BIN)/python tests/compliance/run.py --out $(REPORTS)/compliance

# Five clients with the conformance cases, and with the fuzzing server of the Autobahn testsuite; about five minutes. Then
# docs/reference/conformance.md must explain each disagreement.
.PHONY: conformance-peers
conformance-peers: $(VENV)/installed system ## five real clients with the conformance cases; five minutes
	$(BIN)/python tests/compliance/conformance_peers.py

# Twenty faults and a million deliveries in a few minutes; docs/reference/chaos.md has the last result.
chaos: $(VENV)/installed system ## faults in Redis, servers and clients; a few minutes
	$(BIN)/python tests/chaos/run.py --out $(REPORTS)/chaos

# A million connections and half an hour of mixed load, and what the server holds afterwards. MINUTES=120 makes the mixed
# load longer.
soak: $(VENV)/installed system ## a million connections and a mixed load; 40 minutes, MINUTES=120 for longer
	$(BIN)/python tests/soak/soak.py --out $(REPORTS)/soak $(if $(MINUTES),--minutes $(MINUTES))

# Attacks on a running server, with their full load, and the table in docs/security.md; about 15 minutes.
threats: $(VENV)/installed system ## attacks with their full load; 15 minutes
	rm -f $(REPORTS)/threats/summary.json
	THREATS=full THREATS_OUT=$(REPORTS)/threats $(BIN)/python -m pytest tests/threats; \
	result=$$?; $(BIN)/python tests/threats/threat_table.py $(REPORTS)/threats/summary.json && exit $$result

# What 10,000 idle connections cost, and what happens when as many connect at once; in about seven minutes, on two idle
# cores.
connections: $(VENV)/installed ## 10,000 idle connections; seven minutes
	$(BIN)/python tests/soak/connections.py --out $(REPORTS)/connections

# The tests of Centrifugo's SDKs, and all our tests with these SDKs; docs/reference/sdks.md has the last result.
# CENTRIFUGO=1 runs the SDKs' own tests against Centrifugo, too.
sdk: $(VENV)/installed system ## the tests of Centrifugo's SDKs; eight minutes
	$(BIN)/python tests/sdk/run.py --out $(REPORTS)/sdk $(if $(CENTRIFUGO),--centrifugo)

# Compare the server with others, and rewrite docs/explanation/benchmarks.md. QUICK=1: a few servers, one short round, rewrites nothing.
bench: $(VENV)/installed ## compare the server with others; hours, QUICK=1 for two minutes
	$(BIN)/python benchmarks/bench.py $(if $(QUICK),--quick,--write-docs)

# Compare the fast path with the Autobahn library on a million random streams; takes more than an hour.
fuzz: $(VENV)/installed ## compare the fast path with Autobahn on random streams; EXAMPLES=10000 for a minute
	$(BIN)/python tests/fuzz/differential.py --examples $(or $(EXAMPLES),1000000)

# The whole server through its sockets, with four fuzzers, each for MINUTES; docs/reference/fuzzing.md has the last result.
fuzz-sockets: $(VENV)/installed ## random input to a whole server; MINUTES=10 for each of four fuzzers
	$(BIN)/python tests/fuzz/sockets.py --minutes $(or $(MINUTES),10) --out $(REPORTS)/fuzz-sockets.json

# The extension under AddressSanitizer and UndefinedBehaviorSanitizer.
fuzz-asan: $(VENV)/installed ## the compiled code under AddressSanitizer; MINUTES=10
	$(BIN)/python tests/fuzz/asan.py --minutes $(or $(MINUTES),10)

# The Protobuf library's compiled decoder, with the allocator of AddressSanitizer, against the one in Python.
fuzz-protobuf: $(VENV)/installed ## the Protobuf library under AddressSanitizer; EXAMPLES=1000000
	$(BIN)/python tests/fuzz/protobuf.py --examples $(or $(EXAMPLES),1000000)

# Compare the answers with those of Centrifugo, which is compiled the first time. UPDATE=1 records them.
centrifugo-diff: $(VENV)/installed ## compare the answers with those of Centrifugo, which is compiled first
	$(BIN)/python tests/differential/record.py $(if $(UPDATE),--update)
	$(BIN)/python -m pytest -m centrifugo tests/integration

clean: ## remove the virtual environment and everything that was built
	rm -rf $(VENV) build dist $(REPORTS) *.egg-info .coverage*
