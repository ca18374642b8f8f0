# `make install`: the client as files below DESTDIR, for packages of any kind: debian/rules uses it, docs/packaging.md says how
# others do. Nothing is enabled or started, and no user is made: what does that is said at the end.
DESTDIR ?=
PREFIX ?= /usr
# Of the device: what starts the client, and where its Python looks for modules (unless given: where COMPILE looks).
TARGET_PYTHON ?= /usr/bin/python3
# The launcher's interpreter if this host has it: the first `python3` in PATH may be another, with other directories.
HOST_PYTHON := $(firstword $(wildcard $(TARGET_PYTHON)) $(wildcard /usr/bin/python3) python3)
PYTHONDIR ?= $(shell "$(or $(COMPILE),$(HOST_PYTHON))" -I -c 'import sys, sysconfig as s; names = s.get_scheme_names(); \
	place = s.get_path("purelib", "deb_system" if "deb_system" in names else "posix_prefix", {"base": "$(PREFIX)"}); \
	local = s.get_path("purelib", "posix_local", {"base": "/usr"}) if "posix_local" in names else place; \
	print(local if "$(PREFIX)" == "/usr/local" else place)' 2>/dev/null)
# Makes byte code that needs no times of files (PEP 552, unchecked hash): an interpreter for this host of the device's
# version, 3.13 for 3.13. Empty: no byte code; then the device, or a package's own tool, must make it.
COMPILE ?= $(HOST_PYTHON)
UNITDIR ?= $(PREFIX)/lib/systemd/system
# An interpreter that has cyclonedx-python-lib: a list of what was installed and what it needs (SBOM, CycloneDX) goes to DOC.
# Empty: none. The time in it is SOURCE_DATE_EPOCH.
SBOM ?=
# dbus-daemon reads policies in /usr/share and /etc alone.
DBUS_POLICY_DIR ?= $(if $(filter /usr,$(PREFIX)),/usr/share,/etc)/dbus-1/system.d

# polkit reads declarations of actions and, beside /etc, rules here alone.
POLKIT_DIR ?= /usr/share/polkit-1

MODULES = $(DESTDIR)$(PYTHONDIR)
DOC := $(DESTDIR)$(PREFIX)/share/doc/twinslot
MANUALS := docs/man/twinslot.1 docs/man/twinslot-config.5 docs/man/twinslot-fleet.8
# What manual pages and hints refer to.
PAGES := $(addprefix docs/,terminology.md lifecycle.md config.md doctor.md errors.md dbus.md events.md guide-device.md guide-policy.md guide-audit.md boot-contract.md)
EXAMPLES := bootloader_hooks/README.md bootloader_hooks/grub-once/grub.cfg docs/example/config.toml
# Programs that a unit or the launcher names: here /usr, there PREFIX and TARGET_PYTHON.
PLACED := sed -e 's|/usr/bin/twinslot|$(PREFIX)/bin/twinslot|' -e 's|=/usr/lib/twinslot/deadline|=$(PREFIX)/lib/twinslot/deadline|' \
	-e 's|/usr/bin/python3|$(TARGET_PYTHON)|'

.PHONY: install
install: ## the client's files below DESTDIR, for packages: PREFIX, PYTHONDIR, COMPILE (docs/packaging.md)
	@test -n '$(PYTHONDIR)' || { echo "PYTHONDIR is empty: name the directory of the device's Python modules" >&2; exit 2; }
	install -d "$(MODULES)" "$(DESTDIR)$(UNITDIR)" "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/share/dbus-1/system-services"
	modules=$$(realpath -m "$(MODULES)") && cd client && \
		find twinslot -type f ! -name '*.pyc' -exec install -D -m 644 '{}' "$$modules/{}" ';'
	$(if $(COMPILE),"$(COMPILE)" -I -m compileall -q -f --invalidation-mode unchecked-hash -s "$(DESTDIR)" -p / "$(MODULES)/twinslot")
	$(PLACED) client/twinslot.launcher > "$(DESTDIR)$(PREFIX)/bin/twinslot"
	chmod 755 "$(DESTDIR)$(PREFIX)/bin/twinslot"
	for unit in systemd/twinslot*.service systemd/*.socket systemd/*.timer systemd/*.path systemd/*.target; do \
		$(PLACED) $$unit > "$(DESTDIR)$(UNITDIR)/$${unit##*/}" && chmod 644 "$(DESTDIR)$(UNITDIR)/$${unit##*/}" || exit 1; done
	install -D -m 755 -t "$(DESTDIR)$(PREFIX)/lib/twinslot" systemd/deadline
	install -D -m 644 -t "$(DESTDIR)/usr/lib/twinslot" systemd/deadline.env  # configuration: not below PREFIX
	for hook in bootloader_hooks/*/twinslot-hook; do name=$${hook#*/}; \
		install -D -m 755 $$hook "$(DESTDIR)/usr/lib/twinslot/hooks/$${name%/*}" || exit 1; done  # named by configuration
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/share/dbus-1/system-services" systemd/org.twinslot.Update1.service
	install -D -m 644 -t "$(DESTDIR)$(DBUS_POLICY_DIR)" systemd/org.twinslot.Update1.conf
	install -D -m 644 -t "$(DESTDIR)$(POLKIT_DIR)/actions" systemd/org.twinslot.update1.policy
	install -D -m 644 -t "$(DESTDIR)$(POLKIT_DIR)/rules.d" systemd/org.twinslot.update1.rules
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/lib/systemd/catalog" systemd/twinslot.catalog
	install -D -m 644 systemd/twinslot.tmpfiles "$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/twinslot.conf"
	install -D -m 644 systemd/twinslot.sysusers "$(DESTDIR)$(PREFIX)/lib/sysusers.d/twinslot.conf"
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/lib/systemd/system.conf.d" systemd/50-twinslot-watchdog.conf
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/lib/systemd/system-preset" systemd/50-twinslot.preset
	install -D -m 644 client/twinslot.bash-completion "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/twinslot"
	install -D -m 644 -t "$(DOC)" $(PAGES)
	install -D -m 644 -t "$(DOC)/examples" $(EXAMPLES)
	for page in $(MANUALS); do install -D -m 644 -t "$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}" $$page || exit 1; done
	$(if $(SBOM),"$(SBOM)" debian/make_sbom.py "$(or $(DESTDIR),/)" $(PREFIX) $(PYTHONDIR) > "$(DOC)/twinslot.cdx.json")
	@echo 'installed; next: systemd-sysusers --root="$(DESTDIR)/" and systemctl --root="$(DESTDIR)/" preset UNIT..., see docs/packaging.md' >&2
