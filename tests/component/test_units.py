"""The units: what systemd itself says of them, that the package brings what they start, and how exposed each is."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from shared_once import made_once

import twinslot
from fakes.rigs import REPOSITORY
from twinslot.bus.names import DESCRIPTION
from twinslot.cli import trial as cli_trial
from twinslot.engine.assemble import NO_TRIAL

pytestmark = pytest.mark.slow

UNITS = REPOSITORY / "systemd"
SYSTEM = Path("/usr/lib/systemd/system")
ENVIRONMENT = os.environ | {"SBOM": sys.executable}  # the copied checkout has no environment of its own

# Upper bounds of `systemd-analyze security`, times ten: 0 is closed, 100 open. The guide has them, too, and says why.
EXPOSURE = {
    "twinslot.service": 10,
    "twinslot-boot.service": 9,
    "twinslot-check.service": 78,
    "twinslot-commit.service": 9,
    "twinslot-continue.service": 78,
    "twinslot-deadline.service": 31,
    "twinslot-device-key.service": 5,
    "twinslot-fetch@.service": 3,
    "twinslot-fleet.service": 2,
    "twinslot-fleet-relay@.service": 12,
    "twinslot-giveup.service": 31,
    "twinslot-poll.service": 9,
    "twinslot-read@.service": 3,
    "twinslot-relay@.service": 12,
    "twinslot-report.service": 9,
    "twinslot-scrub.service": 9,
    "twinslot-seal.service": 9,
    "twinslot-verify@.service": 2,
    "twinslot-watch.service": 78,
    "twinslot-decrypt@.service": 2,
}
RUN_PROGRAMS_OF_THE_PRODUCT = ["twinslot-check.service", "twinslot-continue.service", "twinslot-watch.service"]
OPEN = {"twinslot-deadline.service", "twinslot-giveup.service", *RUN_PROGRAMS_OF_THE_PRODUCT}
ENABLED = {
    "boot-complete.target.requires/twinslot-check.service",
    "emergency.target.wants/twinslot-deadline.service",
    "multi-user.target.wants/twinslot-boot.service",
    "multi-user.target.wants/twinslot-commit.service",
    "multi-user.target.wants/twinslot-device-key.service",
    "multi-user.target.wants/twinslot-trial.target",
    "paths.target.wants/twinslot-continue.path",
    "sockets.target.wants/twinslot-decrypt.socket",
    "sockets.target.wants/twinslot-fetch.socket",
    "sockets.target.wants/twinslot-read.socket",
    "sockets.target.wants/twinslot-relay.socket",
    "sockets.target.wants/twinslot-verify.socket",
    "sysinit.target.wants/twinslot-deadline.service",
    "timers.target.wants/twinslot-continue.timer",
    "timers.target.wants/twinslot-watch.timer",
    "timers.target.wants/twinslot-poll.timer",
    "timers.target.wants/twinslot-report.timer",
    "timers.target.wants/twinslot-scrub.timer",
    "timers.target.wants/twinslot-seal.timer",
}
CHOSEN = {"timers.target.wants/twinslot-fleet.timer"}  # enabled by whoever has a server of this kind


def read(name: str) -> dict[str, list[str]]:
    """A unit's settings; a key that stands several times has several values."""
    settings: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        key, separator, value = line.partition("=")
        if separator and not line.startswith(("#", "[")):
            settings.setdefault(key, []).append(value)
    return settings


def words(settings: dict[str, list[str]], key: str) -> set[str]:
    return {word for value in settings.get(key, []) for word in value.split()}


def names(suffix: str) -> list[str]:
    return sorted(path.name for path in UNITS.glob(f"twinslot*{suffix}"))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the package is made from, so that nobody changes it meanwhile."""
    if shutil.which("dh") is None:
        pytest.skip("debhelper is not installed: this is not the host that builds the package")
    return copied(tmp_path_factory)


def copied(factory: pytest.TempPathFactory) -> Path:
    """The copy, the same for every worker."""

    def copy(place: Path) -> None:
        for name in ("client", "systemd", "debian", "bootloader_hooks", "docs"):
            shutil.copytree(REPOSITORY / name, place / name)
        shutil.copy2(REPOSITORY / "LICENSE", place)

    return made_once(factory, "checkout", copy)


def built(factory: pytest.TempPathFactory) -> Path:
    """The .deb of that copy, the same for every worker."""
    checkout = copied(factory)
    (package,) = made_once(factory, "deb", lambda place: build(checkout, place)).glob("*.deb")
    return package


@pytest.fixture(scope="module")
def package(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built .deb."""
    return built(tmp_path_factory)


def build(checkout: Path, out: Path) -> Path:
    said = subprocess.run([checkout / "debian/build.sh", out], capture_output=True, text=True, env=ENVIRONMENT)
    assert said.returncode == 0, said.stderr
    assert Path(said.stdout.strip()).parent == out
    return Path(said.stdout.strip())


@pytest.fixture(scope="module")
def tree(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the package brings, beside this host's own units, as one system root."""
    root = tmp_path_factory.mktemp("root")
    subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
    for unit in SYSTEM.iterdir():
        if unit.is_symlink() or unit.is_file():
            shutil.copy2(unit, root / "usr/lib/systemd/system" / unit.name, follow_symlinks=False)
    interpreter = root / "usr/bin/python3"  # only asked whether it is there
    interpreter.write_text("#!/bin/sh\n")
    interpreter.chmod(0o755)
    return root


def enable(root: Path) -> set[str]:
    """The links that `systemctl enable` makes in this root."""
    enabled = [name for name in names("") if "@" not in name and "[Install]" in (UNITS / name).read_text()]
    subprocess.run(["systemctl", f"--root={root}", "enable", *enabled], check=True, capture_output=True)
    made = root / "etc/systemd/system"
    return {str(path.relative_to(made)) for path in made.glob("*.*/*") if path.name.startswith("twinslot")}


# The units themselves.


@pytest.mark.parametrize("name", [*names(".service"), *names(".socket")])
def test_systemd_has_no_complaint_about_a_unit(tree: Path, name: str) -> None:
    instance = name.replace("@.", "@1.")
    argv = ["systemd-analyze", "verify", f"--root={tree}", "--man=no", "--recursive-errors=yes", instance]
    said = subprocess.run(argv, capture_output=True, text=True)
    complaints = [line for line in (said.stdout + said.stderr).splitlines() if "twinslot" in line]
    assert complaints == []


def test_every_service_has_an_upper_bound_of_its_exposure() -> None:
    assert set(EXPOSURE) == set(names(".service"))


@pytest.mark.verifies("REQ-OPS-01")
@pytest.mark.parametrize(("name", "bound"), EXPOSURE.items())
def test_the_exposure_stays_below_its_bound(name: str, bound: int) -> None:
    argv = ["systemd-analyze", "security", "--offline=yes", f"--threshold={bound}", "--no-pager", str(UNITS / name)]
    said = subprocess.run(argv, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout[-300:] + said.stderr


def test_what_stands_open_is_what_runs_programs_of_the_product_and_what_must_work_on_a_broken_system() -> None:
    assert {unit for unit, bound in EXPOSURE.items() if bound > 20} == OPEN
    page = (
        (REPOSITORY / "docs/threat-model.md")
        .read_text()
        .split("## Units that are open on purpose")[1]
        .split("\n## ")[0]
    )
    assert {unit for unit in EXPOSURE if f"`{unit}`" in page} == OPEN


def test_the_guide_has_the_bounds_that_are_held_here() -> None:
    page = (REPOSITORY / "docs/guide-device.md").read_text()
    rows = re.findall(r"^\| `(twinslot[\w@.-]*\.service)` \| (\d)\.(\d) \|", page, re.MULTILINE)
    assert {unit: int(whole + tenth) for unit, whole, tenth in rows} == EXPOSURE


def test_the_exposure_is_measured_and_not_assumed() -> None:
    argv = ["systemd-analyze", "security", "--offline=yes", "--threshold=1", str(UNITS / "twinslot.service")]
    assert subprocess.run(argv, capture_output=True).returncode != 0


def exposure_with(unit: str, lines: Sequence[str], place: Path) -> int:
    """Tenths of the figure that systemd gives this unit with these lines in its section of the service."""
    text = (UNITS / unit).read_text().replace("\n[Install]", "\n".join(["", *lines, "", "[Install]"]))
    assert all(f"\n{line}\n" in text for line in lines)
    (place / unit).write_text(text)
    argv = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(place / unit)]
    said = subprocess.run(argv, capture_output=True, text=True).stdout
    (figure,) = re.findall(r"Overall exposure level for \S+: (\d+\.\d)", said)
    return round(float(figure) * 10)


def test_what_would_close_the_deadline_is_what_the_decision_says(tmp_path: Path) -> None:
    """A later systemd looks at more, and its figures are others."""
    page = (REPOSITORY / "docs/decisions/0059-how-open-a-unit-may-be.md").read_text()
    rows = re.findall(r"^\| (nothing|`[^|]*`) \| (\d)\.(\d) \|", page, re.MULTILINE)
    assert len(rows) == 5
    version = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True).stdout.split()[1]
    lines: list[str] = []
    for added, whole, tenth in rows:
        lines += re.findall(r"`([^`]*)`", added)
        found = exposure_with("twinslot-deadline.service", lines, tmp_path)
        assert version != "252" or found == int(whole + tenth)
    assert exposure_with("twinslot-deadline.service", lines[:3], tmp_path) > 20, "a name space is the price"
    kept = [line for line in lines if not line.startswith("ProtectKernelTunables")]
    assert version != "252" or exposure_with("twinslot-deadline.service", kept, tmp_path) == 17


@pytest.mark.verifies("REQ-OPS-06")
@pytest.mark.parametrize("name", names(".service"))
def test_what_a_unit_starts_is_in_the_package(tree: Path, name: str) -> None:
    for command in read(name)["ExecStart"]:
        program = tree / command.split()[0].lstrip("-/")
        assert program.exists(), command
        assert program.is_symlink() or program.stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize(
    "name",
    [
        "twinslot.service",
        "twinslot-boot.service",
        "twinslot-commit.service",
        "twinslot-device-key.service",
        "twinslot-fetch@.service",
        "twinslot-read@.service",
        "twinslot-verify@.service",
        "twinslot-decrypt@.service",
    ],
)
def test_what_needs_no_network_has_none(name: str) -> None:
    unit = read(name)
    assert words(unit, "PrivateNetwork") == {"yes"}
    assert words(unit, "RestrictAddressFamilies") == {"AF_UNIX"}


@pytest.mark.verifies("REQ-OPS-01")
@pytest.mark.parametrize("kind", ["fetch", "read", "relay", "verify", "decrypt"])
def test_a_worker_has_no_device_no_privilege_and_a_user_of_its_own(kind: str) -> None:
    unit, socket = read(f"twinslot-{kind}@.service"), read(f"twinslot-{kind}.socket")
    assert words(unit, "PrivateDevices") == {"yes"}
    assert unit["CapabilityBoundingSet"] == [""]
    assert "DeviceAllow" not in unit
    assert f"u twinslot-{kind} " in (UNITS / "twinslot.sysusers").read_text()
    assert words(unit, "User") == {f"twinslot-{kind}"}
    assert words(unit, "StandardInput") == {"socket"}
    assert (words(socket, "SocketMode"), words(socket, "Accept")) == ({"0600"}, {"yes"})
    assert words(socket, "ListenStream") == {f"/run/twinslot/{kind}.sock"}


@pytest.mark.parametrize("name", RUN_PROGRAMS_OF_THE_PRODUCT)
def test_programs_of_the_product_reach_devices_and_network(name: str) -> None:
    unit = read(name)
    closing = {"DevicePolicy", "DeviceAllow", "PrivateDevices", "ProtectClock", "PrivateNetwork", "ProtectHome"}
    closing |= {"RestrictAddressFamilies", "NoNewPrivileges"}
    assert closing & unit.keys() == set()
    # What is taken away is named, so that a program of the product keeps all else.
    assert all(value.startswith("~") for key in ("CapabilityBoundingSet", "SystemCallFilter") for value in unit[key])
    taken = {word.lstrip("~") for word in words(unit, "CapabilityBoundingSet")}
    needed = {"CAP_SYS_RAWIO", "CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_PTRACE", "CAP_SYS_NICE"}
    assert taken & needed == set()
    assert "EPERM" in words(unit, "SystemCallErrorNumber")  # a call that is refused ends no program


def test_the_tool_that_writes_the_environment_may_lock() -> None:
    for name in ("twinslot.service", "twinslot-boot.service", "twinslot-commit.service"):
        assert {"-/run/lock", "-/run/twinslot", "-/var/lib/twinslot"} <= words(read(name), "ReadWritePaths")


# Order.


def test_the_deadline_waits_for_nothing_and_nothing_stops_it() -> None:
    unit = read("twinslot-deadline.service")
    assert {
        "After",
        "Before",
        "Requires",
        "Requisite",
        "BindsTo",
        "Wants",
        "Conflicts",
        "PartOf",
    } & unit.keys() == set()
    assert [key for key in unit if key.startswith(("Condition", "Assert"))] == []
    assert words(unit, "DefaultDependencies") == {"no"}
    assert words(unit, "IgnoreOnIsolate") == words(unit, "RefuseManualStop") == {"yes"}
    assert words(unit, "WantedBy") == {"sysinit.target", "emergency.target"}


def test_the_deadline_needs_no_python() -> None:
    script = (UNITS / "deadline").read_text()
    assert script.startswith("#!/bin/sh\n")
    code = [line for line in script.splitlines() if not line.lstrip().startswith("#")]
    assert [line for line in code if "python" in line or "twinslot " in line.replace("# twinslot", "")] == []


def test_a_client_that_cannot_run_ends_the_trial_at_once() -> None:
    for name in ("twinslot-boot.service", "twinslot-check.service", "twinslot-commit.service"):
        assert words(read(name), "OnFailure") == {"twinslot-giveup.service"}


def test_a_commit_needs_the_boot_to_be_complete_and_a_complete_boot_the_checks() -> None:
    commit, check = read("twinslot-commit.service"), read("twinslot-check.service")
    assert "boot-complete.target" in words(commit, "Requires") & words(commit, "After")
    assert "boot-complete.target" in words(check, "RequiredBy") & words(check, "Before")
    assert "systemd-bless-boot.service" in words(commit, "Conflicts")
    assert words(commit, "DefaultDependencies") == {"no"}, "multi-user.target would wait for the commit: a cycle"


def test_no_trial_waits_for_the_device_key() -> None:
    unit = read("twinslot-device-key.service")
    assert words(unit, "DefaultDependencies") == {"no"}, "multi-user.target would wait for it, and so would the checks"
    assert words(unit, "Before") == words(unit, "Conflicts") == {"shutdown.target"}


def test_a_whole_start_has_no_ordering_cycle(tree: Path) -> None:
    assert enable(tree) == ENABLED | CHOSEN
    argv = ["systemd-analyze", "verify", f"--root={tree}", "--man=no", "multi-user.target", "emergency.target"]
    said = subprocess.run(argv, capture_output=True, text=True)
    text = said.stdout + said.stderr
    assert "cycle" not in text.lower(), text
    assert [line for line in text.splitlines() if "twinslot" in line] == []


def test_the_cycle_that_default_dependencies_would_make_is_seen(tree: Path, tmp_path: Path) -> None:
    """The check above can fail: without DefaultDependencies=no systemd reports the cycle."""
    root = tmp_path / "root"
    shutil.copytree(tree, root, symlinks=True)
    enable(root)
    unit = root / "usr/lib/systemd/system/twinslot-commit.service"
    unit.write_text(unit.read_text().replace("DefaultDependencies=no\n", ""))
    argv = ["systemd-analyze", "verify", f"--root={root}", "--man=no", "multi-user.target"]
    said = subprocess.run(argv, capture_output=True, text=True)
    assert "cycle" in (said.stdout + said.stderr).lower()


# The bus.


@pytest.mark.verifies("REQ-BUS-03")
def test_anybody_may_look_and_only_root_and_the_group_may_change() -> None:
    policies = ElementTree.parse(UNITS / "org.twinslot.Update1.conf").getroot().findall("policy")
    rules = {tuple(sorted(policy.attrib.items())): policy.findall("*") for policy in policies}
    owners = [who for who, allowed in rules.items() if any("own" in rule.attrib for rule in allowed)]
    assert owners == [(("user", "root"),)]
    denied, *everybody = rules[(("context", "default"),)]
    assert (denied.tag, denied.get("send_type")) == ("deny", "signal")
    assert all((rule.tag, rule.get("max_fds")) == ("allow", "0") for rule in everybody)
    opened = {(rule.get("send_interface"), rule.get("send_member")) for rule in everybody}
    standard = "org.freedesktop.DBus"
    assert opened == {
        (f"{standard}.Introspectable", None),
        (f"{standard}.Peer", None),
        (f"{standard}.Properties", "Get"),
        (f"{standard}.Properties", "GetAll"),
        ("org.twinslot.Update1", "GetStatus"),
        ("org.twinslot.Update1", "GetHistory"),
        ("org.twinslot.Update1", "GetRunningRelease"),
        ("org.twinslot.Update1", "GetWaitingRelease"),
    }
    methods = {
        (interface.get("name"), method.get("name"))
        for interface in ElementTree.parse(DESCRIPTION).getroot().findall("interface")
        for method in interface.findall("method")
    }
    closed = {
        "Install",
        "InstallFile",
        "Activate",
        "Commit",
        "Rollback",
        "Cancel",
        "Decline",
        "GetLog",
        "Inhibit",
        "ReadAttachment",
        "ReadWaitingAttachment",
        "Approve",
        "Hold",
        "GetAttestation",
    }
    assert {member for interface, member in methods - opened} == closed


def test_the_bus_name_leads_to_the_unit() -> None:
    activation = (UNITS / "org.twinslot.Update1.service").read_text().splitlines()
    assert {"Name=org.twinslot.Update1", "SystemdService=twinslot.service"} <= set(activation)
    assert words(read("twinslot.service"), "BusName") == {"org.twinslot.Update1"}


# The package.


def test_the_same_tree_gives_the_same_package_whoever_checked_it_out(
    checkout: Path, package: Path, tmp_path: Path
) -> None:
    other = tmp_path / "another-place"
    shutil.copytree(checkout, other)
    for path in other.rglob("*"):  # a checkout of another day, with another umask
        path.chmod(path.stat().st_mode | stat.S_IWGRP)
        os.utime(path, (1, 1))
    assert build(other, tmp_path).read_bytes() == package.read_bytes()


def test_two_builds_of_the_package_at_once_do_not_take_each_other_s_file(checkout: Path, tmp_path: Path) -> None:
    """Both have copied their package before the first one gives it its name."""
    slow = tmp_path / "bin" / "mv"
    slow.parent.mkdir()
    slow.write_text(
        f"#!/bin/sh\ntouch {tmp_path}/copied.$$\n"
        f'until [ "$(ls {tmp_path}/copied.* | wc -l)" = 2 ]; do sleep 0.05; done\nexec /bin/mv "$@"\n'
    )
    slow.chmod(0o755)
    out = tmp_path / "deb"
    command = ["timeout", "120", str(checkout / "debian/build.sh"), str(out)]
    env = ENVIRONMENT | {"PATH": f"{slow.parent}:{os.environ['PATH']}"}
    both = [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert [path.suffix for path in out.iterdir()] == [".deb"]


def test_the_package_carries_every_module_of_the_client_and_nothing_else(tree: Path, checkout: Path) -> None:
    packages = tree / "usr/lib/python3/dist-packages"
    carried = {str(p.relative_to(packages)) for p in packages.rglob("*") if p.is_file()}
    client = checkout / "client"
    files = {p for p in (client / "twinslot").rglob("*") if p.is_file() and p.suffix != ".pyc"}
    assert carried == {str(path.relative_to(client)) for path in files}


def test_the_package_has_the_client_s_version_and_debian_s_names(package: Path) -> None:
    fields = subprocess.run(["dpkg-deb", "--field", package], capture_output=True, text=True, check=True).stdout
    assert f"Version: {twinslot.__version__}\n" in fields
    assert "Architecture: all\n" in fields
    for name in ("construct", "cryptography", "dbus-next", "securesystemslib", "tuf", "zstandard"):
        assert f"python3-{name}" in fields


def test_the_maintainer_script_the_preset_and_the_units_agree_on_what_is_enabled() -> None:
    enabled, chosen = ({link.split("/")[1] for link in links} for links in (ENABLED, CHOSEN))
    lines = [line.split() for line in (UNITS / "50-twinslot.preset").read_text().splitlines() if line[:1] != "#"]
    preset = {unit for word, unit in lines if word == "enable"}
    assert {unit for word, unit in lines if word == "disable"} == chosen
    postinst = (REPOSITORY / "debian/postinst").read_text()
    listed = set(postinst.split('units="')[1].split('"')[0].split())
    assert enabled == preset == listed
    assert all(f"update-state {unit} " in postinst for unit in chosen), "purging the package would leave their links"


OF_A_START = {  # they end by themselves, and the deadline must be able to end a trial
    *("twinslot-boot.service", "twinslot-check.service", "twinslot-commit.service", "twinslot-deadline.service"),
    *("twinslot-device-key.service", "twinslot-giveup.service", "twinslot-committed.target", "twinslot-trial.target"),
}


def test_a_removed_package_leaves_nothing_that_listens_comes_again_or_works_on() -> None:
    units = {*names(".service"), *names(".socket"), *names(".timer"), *names(".path"), *names(".target")}
    prerm, postrm = ((REPOSITORY / "debian" / name).read_text() for name in ("prerm", "postrm"))
    stopped = set(prerm.split("deb-systemd-invoke stop ")[1].split(" >")[0].replace("\\", " ").split())
    purged = set(postrm.split("deb-systemd-helper purge ")[1].split(" >")[0].replace("\\", " ").split())
    assert stopped == {unit for unit in units if "@." not in unit} - OF_A_START
    assert "stop 'twinslot-*@*.service'" in prerm, "instances of workers"
    assert {link.split("/")[1] for link in ENABLED | CHOSEN} == purged


def test_the_command_is_the_installed_client_wherever_it_is_called(tree: Path, tmp_path: Path) -> None:
    launcher = (tree / "usr/bin/twinslot").read_text()
    assert launcher.startswith("#!/usr/bin/python3 -I\n")
    (tmp_path / "twinslot.py").write_text("raise SystemExit('the wrong code')")
    installed = str(tree / "usr/lib/python3/dist-packages")
    (tmp_path / "start").write_text(launcher.replace("import sys\n", f"import sys\n\nsys.path.append({installed!r})\n"))
    argv = [sys.executable, "-I", str(tmp_path / "start"), "--version"]
    env = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    said = subprocess.run(argv, text=True, capture_output=True, cwd=tmp_path, env=env)
    assert (said.returncode, said.stdout, said.stderr) == (0, f"twinslot {twinslot.__version__}\n", "")


# Locks and sockets are root's alone (S27).


@pytest.mark.parametrize("name", [*names(".service")])
def test_what_a_unit_makes_is_for_root_alone(name: str) -> None:
    assert read(name)["UMask"] == ["0077"]


@pytest.mark.parametrize("lock", ["/run/twinslot/lock", "/run/lock/fw_printenv.lock"])
def test_a_lock_is_made_at_each_start_for_root_alone(lock: str) -> None:
    lines = [line.split() for line in (UNITS / "twinslot.tmpfiles").read_text().splitlines()]
    assert ["f", lock, "0600", "root", "root", "-"] in lines


@pytest.mark.parametrize("name", ["twinslot-boot.service", "twinslot-check.service", "twinslot-commit.service"])
def test_a_unit_without_a_usable_configuration_starts_no_giving_up(name: str) -> None:
    assert read(name)["SuccessExitStatus"] == [str(cli_trial.UNDECIDED)]
    assert read(name)["OnFailure"] == ["twinslot-giveup.service"]


@pytest.mark.parametrize("worker", ["fetch", "read", "relay", "verify", "decrypt"])
def test_lines_of_a_worker_are_found_under_the_name_of_the_client(worker: str) -> None:
    """`journalctl -t twinslot`: a worker's program is Python's."""
    assert "\nSyslogIdentifier=twinslot\n" in (UNITS / f"twinslot-{worker}@.service").read_text()


@pytest.mark.parametrize("name", ["twinslot-check.service", "twinslot-commit.service"])
def test_what_judges_a_trial_is_left_out_by_the_file_with_which_the_engine_says_that_there_is_none(name: str) -> None:
    assert words(read(name), "ConditionPathExists") == {f"!{NO_TRIAL}"}
