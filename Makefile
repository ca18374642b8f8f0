# The commands that a person needs; `make help` prints them. Every target installs what it needs first.
SHELL := /bin/bash
# Debian's own, as on a device.
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/pytest
# Boards are built with chroot, tests use loop devices: as root, through sudo for everybody else.
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
UNPRIVILEGED := $(if $(AS_ROOT),and not root)
CUTS ?= 20
SEED ?= 1
FUZZ_SECONDS = $(if $(filter command line,$(origin SECONDS)),$(SECONDS),120)
BOARD ?= virt-arm64
BOARDS := $(basename $(notdir $(wildcard qemu/boards/*.toml)))
PROJECTS := client image_tools qemu
WHEELS ?= build/wheels
KEY ?= build/dossier/key.pem
DEMO_LISTS := qemu/apt-packages.txt
HAWKBIT_LIST := tests/apt-packages-hawkbit.txt
RUNS := build/run/host.json build/run/hawkbit.json build/run/board.json
TESTED := bootloader_hooks client/twinslot systemd
COVERED ?= tests/unit
BOARD_LISTS := $(DEMO_LISTS) qemu/apt-packages-all-boards.txt debian/apt-packages.txt
LISTS := $(BOARD_LISTS) tests/apt-packages.txt docs/apt-packages.txt
INSTALL := @tests/install-packages.sh
# What holds the whole tree together, and breaks in places that a change does not touch: rules of the code, pages, stored formats.
QUICK := $(addprefix tests/unit/test_,$(addsuffix .py,bus_names cli_arguments cli_json_manual cli_manual clocks config config_keys \
	dead_definitions distributions docs doors errors_page events exhaustive layers lifecycle linters messages page_claims stored \
	terminology threat_model)) \
	$(addprefix tests/component/test_,$(addsuffix .py,compatibility compatibility_interfaces doctor pages queries_change_nothing))
# NAME LOG WHERE PROGRAM: a line every four seconds that says how far it is
WATCHED := @tests/watched.sh

# Where byte code is not kept, each worker of the tests, and each program that a test starts, compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo crash powercut test check test-host test-debian13 test-board test-long board deb bench bench-quick mutants docs venv wheels clean clean-cache

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

try: ## a device on this PC, no emulation: update, rollback, power cut, then a shell in it (TRY=story: no shell)
	@PYTHON=$(PYTHON) qemu/try.sh $(if $(filter story,$(TRY)),--story)
.PHONY: try

demo: demo-plan demo-packages $(STAMP) ## a board takes a good update and commits, takes a bad one and comes back: build/demo/report.json
	$(AS_ROOT) $(BIN)/python -m twinslot_lab demo

demo-plan:
	@echo "An emulated ARM board takes a good update, then a bad one, and comes back. What is missing is made first:"
	@echo "  1 of 4  Debian packages of this machine: $$(tests/install-packages.sh --plan $(DEMO_LISTS))"
	@echo "  2 of 4  a Python environment, $(VENV): $$([ -e $(STAMP) ] && echo there || echo half a minute)"
	@echo "  3 of 4  the board and three signed releases, kept in build/cache: some four minutes from nothing"
	@echo "  4 of 4  the story: some three minutes"

demo-packages:
	@tests/install-packages.sh $(DEMO_LISTS)
.PHONY: demo-plan demo-packages

test: LISTS += $(HAWKBIT_LIST)
test: packages $(STAMP) ## what CI runs: linters, unit, component, simulation, Debian 13's Python, boards
	@mkdir -p build/log
	nice -n 15 $(AS_ROOT) xargs -n 1 -P 2 $(BIN)/python -m twinslot_lab prepare --board \
		<<< "$(BOARDS)" > build/log/board.log 2>&1 & board=$$!; \
	nice -n 15 $(AS_ROOT) env PYTHONPATH=tests $(BIN)/python tests/component/hawkbit_server.py > build/log/hawkbit.log 2>&1 & \
	nice -n 15 $(AS_ROOT) env PYTHONPATH=tests $(BIN)/python tests/component/goosebit_server.py > build/log/goosebit.log 2>&1 & \
	$(MAKE) test-debian13 > build/log/test-debian13.log 2>&1 & thirteen=$$!; \
	$(MAKE) test-host; host=$$?; \
	tail -n +1 -f --pid=$$thirteen build/log/test-debian13.log; wait $$thirteen; thirteen=$$?; \
	tail -n 1 -f --pid=$$board build/log/board.log; wait $$board || { tail -n 40 build/log/board.log; grep "failed: " build/log/board.log; exit 1; }; \
	$(MAKE) test-hawkbit; hawkbit=$$?; \
	$(MAKE) test-goosebit; goosebit=$$?; \
	$(MAKE) test-board; boards=$$?; \
	$(MAKE) matrix; matrix=$$?; \
	exit $$((host | thirteen | hawkbit | goosebit | boards | matrix))

quick: $(STAMP) ## before each commit, half a minute: types, linters, names, layers, messages, pages (make hook: git runs it)
	$(INSTALL) tests/apt-packages.txt
	$(BIN)/mypy --no-error-summary
	$(PYTEST) -q -n 2 --dist worksteal -m "not slow and not board $(UNPRIVILEGED)" $(QUICK)

hook: ## have git run `make quick` before each commit; undo it: git config --unset core.hooksPath
	git config core.hooksPath tests/hooks
.PHONY: quick hook

check: $(STAMP) ## the fast part: linters and tests that take seconds
	$(INSTALL) tests/apt-packages.txt debian/apt-packages.txt
	$(PYTEST) -q -n 3 --dist worksteal -m "not slow and not board $(UNPRIVILEGED)"

test-host: $(STAMP) ## unit tests, components, simulation: all tests but the boards
	$(AS_ROOT) $(PYTEST) -q -n 2 --dist worksteal -m "not board" --durations=10 --run-file=build/run/host.json

test-debian13: $(STAMP) ## the tests of the client with Debian 13's own Python and libraries
	tests/debian13.sh

test-hawkbit: $(STAMP) ## the list of an update server's situations on a real hawkBit: one of our own, or HAWKBIT=URL (admin:admin)
	$(if $(HAWKBIT),,$(INSTALL) $(HAWKBIT_LIST))
	$(AS_ROOT) env HAWKBIT="$(or $(HAWKBIT),start)" $(PYTEST) -q tests/component/test_hawkbit.py -k "hawkbit] or hawkbit-" --durations=5 \
		--run-file=build/run/hawkbit.json
.PHONY: test-hawkbit

test-goosebit: $(STAMP) ## the same list on a real gooseBit of our own, a server with other manners
	$(AS_ROOT) env GOOSEBIT=start $(PYTEST) -q tests/component/test_hawkbit.py -k "goosebit] or goosebit-" --durations=5
.PHONY: test-goosebit

fleet: $(STAMP) ## 1,000 devices and two rollouts at a hawkBit of our own, or HAWKBIT=URL (quarter of an hour): build/bench/rollout-*.json
	$(if $(HAWKBIT),,$(INSTALL) $(HAWKBIT_LIST))
	env PYTHONPATH=tests:tests/component $(BIN)/python -m bench.rollout $(if $(HAWKBIT),--hawkbit "$(HAWKBIT)" --version "$(or $(VERSION),unknown)") \
		$(if $(PID),--pid $(PID))
.PHONY: fleet

test-board: $(STAMP) ## the tests on emulated boards, but those of `make test-long`
	$(AS_ROOT) $(BIN)/python -m twinslot_lab stories
	$(AS_ROOT) env COLUMNS=250 $(PYTEST) -q -m "board and not long" -n 2 --dist worksteal --durations=20 --tb=short \
		--run-file=build/run/board.json

test-long: packages $(STAMP) ## board tests that `make test` leaves out for time (docs/guide-developer.md has their names)
	$(AS_ROOT) $(PYTEST) -q -m "board and long" -n 2 --dist worksteal --durations=0

powercut: board-packages $(STAMP) ## cut a board's power CUTS times at moments drawn by SEED, on BOARD: build/powercut/report.json
	nice $(AS_ROOT) $(BIN)/python -m twinslot_lab powercut --cuts $(CUTS) --seed $(SEED) --board $(BOARD)

crash: board-packages $(STAMP) ## every state that a power cut could leave of an update and a rollback: build/crash/report*.json
	nice $(AS_ROOT) $(BIN)/python -m twinslot_lab crash explore --story two-payloads
	nice $(AS_ROOT) $(BIN)/python -m twinslot_lab crash explore

board: board-packages $(STAMP) ## build the emulated board, or reuse it
	$(AS_ROOT) $(BIN)/python -m twinslot_lab build

deb: $(STAMP) ## the Debian package of the client: build/deb/
	$(INSTALL) debian/apt-packages.txt
	$(WATCHED) "the package" build/log/make-deb.log 'echo dpkg-buildpackage' debian/build.sh build/deb
	@ls build/deb/*.deb

bench: packages $(STAMP) ## measure beside other clients, in Debian 13's tree (half an hour, a quiet machine): build/bench/report.json, docs/benchmarks.md
	$(AS_ROOT) $(BIN)/python -m bench.board
	bench/debian13.sh python3 -m bench --docs docs

bench-quick: packages $(STAMP) ## the same on small images, to see that it works: build/bench/quick.json
	bench/debian13.sh python3 -m bench --quick --report build/bench/quick.json --docs build/bench/docs

matrix: $(STAMP) ## join requirements, risks, code and the last runs of the tests: build/matrix/matrix.html
	$(AS_ROOT) $(BIN)/python -m twinslot_lab matrix --requirements docs/requirements print $(RUNS) --output build/matrix \
		--source bootloader_hooks client image_tools/twinslot_image qemu/rootfs systemd \
		--subject $(TESTED) --title "Twinslot: requirements, risks, code, tests"
.PHONY: matrix

coverage: $(STAMP) ## how much of the code the unit tests reach, bound to the client (COVERED: others): build/coverage.json
	$(AS_ROOT) $(BIN)/coverage run --data-file build/coverage.data \
		--context "subject=$$($(BIN)/python -m twinslot_lab matrix subject $(TESTED))" -m pytest -q -p no:cacheprovider $(COVERED)
	$(AS_ROOT) $(BIN)/coverage json --data-file build/coverage.data --show-contexts -o build/coverage.json
.PHONY: coverage

dossier: $(STAMP) ## this release's own dossier, from the last runs; KEY=FILE signs: build/dossier/out/dossier.html
	@mkdir -p build/dossier build/log
	@[ -e "$(KEY)" ] || (umask 077; openssl genpkey -algorithm ed25519 -out "$(KEY)")
	rm -rf build/dossier/first build/dossier/second
	for build in first second; do SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(MAKE) -s install \
		DESTDIR="$(abspath build/dossier)/$$build" SBOM="$(abspath $(BIN))/python" > build/log/dossier-$$build.log 2>&1 || exit 1; done
	$(BIN)/python docs/make_dossier.py "$(KEY)"
.PHONY: dossier

fuzz: $(STAMP) ## fuzz each parser that meets bytes from outside, for SECONDS in all (and SEED): build/fuzz/report.json
	$(BIN)/python tests/fuzz --seconds $(FUZZ_SECONDS) $(if $(filter command line environment,$(origin SEED)),--seed $(SEED))
.PHONY: fuzz

mutants: $(STAMP) ## break each safety rule on purpose; its test must notice
	$(INSTALL) tests/apt-packages.txt
	$(BIN)/python tests/mutants/run.py

explore: $(STAMP) ## property tests with 500 new examples each, drawn anew: `make test` draws the same ones each time
	$(AS_ROOT) $(PYTEST) -q -n 2 --dist worksteal -m "hypothesis and not board" --hypothesis-profile explore
.PHONY: explore

tuf-conformance: packages $(STAMP) ## TUF's conformance suite against the client, from its checkout in SUITE=DIR (ten minutes)
	@tests/tuf_conformance/run.sh "$(SUITE)" $(BIN)/python
.PHONY: tuf-conformance

docs: pages docs-site ## print the generated pages anew, then the documentation as a site: build/site/index.html

pages: $(STAMP) ## print the generated pages anew, no more
	$(BIN)/python -m twinslot.config.reference > docs/config.md
	$(BIN)/python docs/make_lifecycle.py > docs/lifecycle.md
	$(BIN)/python docs/make_events.py > docs/events.md
	$(BIN)/python docs/make_events.py catalog > systemd/twinslot.catalog
	$(BIN)/python docs/man/make_config_page.py > docs/man/twinslot-config.5
	$(BIN)/python docs/man/make_image_page.py > docs/man/twinslot-image-toml.5
	$(BIN)/python docs/make_dbus.py > docs/dbus.md
	$(BIN)/python docs/make_errors.py > docs/errors.md
	$(BIN)/python docs/make_doctor.py > docs/doctor.md
	$(BIN)/python docs/make_servers.py > docs/servers.md
	$(BIN)/python docs/make_safety.py

docs-site: $(STAMP) ## the site alone
	$(INSTALL) docs/apt-packages.txt
	$(WATCHED) "the site" build/log/site.log 'echo "$$(find build/site-pages build/site -name "*.md" -o -name "*.html" 2> /dev/null | wc -l) pages"' \
		$(BIN)/python docs/make_site.py build/site-pages build/site
	@echo "open in a browser: $(abspath build/site/index.html); for the search, which browsers allow on a web server only:"
	@echo "  $(PYTHON) -m http.server --bind 127.0.0.1 --directory '$(abspath build/site)' 8000    # http://127.0.0.1:8000/"
.PHONY: pages docs-site

packages: ## the apt packages that boards and tests need; those that are there stay as they are
	$(INSTALL) $(LISTS)

board-packages:
	$(INSTALL) $(BOARD_LISTS)
.PHONY: packages board-packages

wheels: $(STAMP) ## wheels of the three distributions: build/wheels/
	for part in $(PROJECTS); do (cd $$part && ../$(BIN)/hatchling build -t wheel -d "$(abspath $(WHEELS))") || exit 1; done

venv: $(STAMP) ## the virtual environment .venv with both tools and the lab; `. .venv/bin/activate` puts it on the path

$(STAMP): $(PROJECTS:=/pyproject.toml) tests/requirements.txt
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || tests/install-packages.sh tests/apt-packages-venv.txt
	@PYTHON=$(PYTHON) tests/make-venv.sh $(addprefix -e ./,$(PROJECTS)) -r tests/requirements.txt
	@touch $@

clean: ## remove what was built; caches in build/cache stay
	$(AS_ROOT) rm -rf --one-file-system $(addprefix build/,demo deb site site-pages wheels artifacts try log) $(VENV)

clean-cache: ## remove the caches; the next build begins from nothing
	$(AS_ROOT) rm -rf build/cache build/board

include client/install.mk
