"""Which right a caller has: by a polkit that behaves, by polkit itself, and where there is none by the group."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from bus_bench import Caller, private_bus, service_on

import waits
from twinslot.bus.library import MessageBus, ask_daemon

SYSTEMD = Path(__file__).parents[2] / "systemd"
AUTHORITY = Path(__file__).with_name("polkit_authority.py")
POLKITD = Path("/usr/lib/polkit-1/polkitd")
NAME = "org.freedesktop.PolicyKit1"
NOBODY = 65534  # Debian policy, section 9.2.2: user `nobody`, and the group `nogroup`
GROUP = "nogroup"
OFFER = {"log", "install", "install from a file", "reinstall"}
OPERATE = {"activate", "commit", "rollback", "cancel"}
INHIBIT = {"inhibit"}
MEMBERS = OFFER | OPERATE | INHIBIT
OVERRIDE = {"retry", "ignore_expiry", "force"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user"),
]

CALLER = """
import json, os, sys
sys.path[:0] = {path!r}
from twinslot.bus.client.client import connect
from twinslot.core.errors import TwinslotError
from twinslot.core.requests import ActivateOptions, CommitOptions, InstallOptions, RollbackOptions
file = os.open({image!r}, os.O_RDONLY)
os.setgroups({groups})
os.setgid({user})
os.setuid({user})
URL = "http://server/success"
with connect({address!r}) as it:
    assert it.status()["running"] == "a"
    assert it.history(1)
    attempts = {{
        "log": lambda: it.log(0, "", 0),
        "install": lambda: it.install(URL, InstallOptions()),
        "install from a file": lambda: it.install(file, InstallOptions()),
        "reinstall": lambda: it.install(URL, InstallOptions(reinstall=True)),
        "retry": lambda: it.install(URL, InstallOptions(retry=True)),
        "ignore_expiry": lambda: it.install(URL, InstallOptions(ignore_expiry=True)),
        "activate": lambda: it.activate(ActivateOptions()),
        "commit": lambda: it.commit(CommitOptions()),
        "force": lambda: it.commit(CommitOptions(force="a reason")),
        "rollback": lambda: it.rollback(RollbackOptions()),
        "cancel": lambda: it.cancel(),
        "inhibit": lambda: os.close(it.inhibit("", "therapy", "an infusion runs")),
    }}
    codes = {{}}
    for name, attempt in attempts.items():
        try:
            attempt()
            codes[name] = "done"
        except TwinslotError as e:
            codes[name] = e.code
print(json.dumps(codes))
"""


def codes_of(address: str, directory: Path, *, user: int = NOBODY, groups: tuple[int, ...] = ()) -> dict[str, str]:
    """How each attempt of a user ends: `done`, or the code of its error."""
    image = directory / "image"
    image.write_text("success")
    script = textwrap.dedent(CALLER).format(
        path=sys.path, user=user, groups=list(groups), address=address, image=str(image)
    )
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=waits.HANG, check=True)
    found: dict[str, str] = json.loads(ended.stdout)
    return found


def allowed(codes: dict[str, str]) -> set[str]:
    """What was not refused for want of a right: a commit without checks is refused by the device itself.

    Nor has that device a place for inhibitors.
    """
    assert set(codes.values()) <= {"done", "refused.not-allowed", "refused.unhealthy", "device.inhibitors"}
    return {name for name, code in codes.items() if code != "refused.not-allowed"}


def owned(address: str, name: str) -> bool:
    """Whether somebody has this name on the bus."""

    async def ask_owner(bus: MessageBus) -> bool:
        return bool((await ask_daemon(bus, "NameHasOwner", "s", name))[0])

    return Caller(address).run(ask_owner)


@contextlib.contextmanager
def authority(address: str, rules: dict[str, list[int]]) -> Iterator[subprocess.Popen[bytes]]:
    """A polkit of ours on the bus; its rules go by the last word of an action."""
    whole = {f"org.twinslot.update1.{right}": users for right, users in rules.items()}
    process = subprocess.Popen([sys.executable, AUTHORITY, address, json.dumps(whole)])
    try:
        waits.until(lambda: owned(address, NAME))
        yield process
    finally:
        process.kill()
        process.wait(waits.HANG)


@pytest.mark.verifies("S21")
@pytest.mark.parametrize(
    ("rules", "may"),
    [
        ("", set()),
        ("offer", OFFER),
        ("operate", OPERATE),
        ("offer override", OFFER | {"retry", "ignore_expiry"}),
        ("operate override", OPERATE | {"force"}),
        ("override", set()),
        ("offer operate override", OFFER | OPERATE | OVERRIDE),
        ("inhibit", INHIBIT),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_polkit_decides_on_each_right_alone(tmp_path: Path, rules: str, may: set[str]) -> None:
    given = {right: [NOBODY] for right in rules.split()}
    with private_bus() as address, service_on(address), authority(address, given):
        assert allowed(codes_of(address, tmp_path)) == may


def test_root_is_not_asked_for_and_a_rule_for_another_user_does_not_help(tmp_path: Path) -> None:
    with private_bus() as address, service_on(address), authority(address, {"offer": [1]}):
        assert allowed(codes_of(address, tmp_path, user=0)) == MEMBERS | OVERRIDE
        assert allowed(codes_of(address, tmp_path)) == set()


@pytest.mark.verifies("S21")
@pytest.mark.parametrize("system", [False, True], ids=["an open bus", "a bus with the rules of a system bus"])
def test_without_polkit_the_group_has_all_but_override_and_others_have_nothing(tmp_path: Path, system: bool) -> None:
    shipped = (SYSTEMD / "org.twinslot.Update1.conf").read_text()
    policy = tmp_path / "policy.conf"
    policy.write_text(shipped.replace('group="twinslot"', f'group="{GROUP}"'))
    assert policy.read_text() != shipped
    with private_bus(policy if system else None) as address, service_on(address, "--group", GROUP):
        assert allowed(codes_of(address, tmp_path, user=1, groups=(NOBODY,))) == MEMBERS
        assert allowed(codes_of(address, tmp_path, user=1)) == set()


def test_with_polkit_the_group_alone_is_nothing(tmp_path: Path) -> None:
    with private_bus() as address, service_on(address, "--group", GROUP), authority(address, {}):
        assert allowed(codes_of(address, tmp_path, groups=(NOBODY,))) == set()


@pytest.mark.verifies("S21")
def test_a_polkit_that_does_not_know_the_actions_lets_only_root_through(tmp_path: Path) -> None:
    """One that was installed without our policy: it answers with an error."""
    with private_bus() as address, service_on(address, "--group", GROUP):
        process = subprocess.Popen(
            [sys.executable, "-c", NO_ACTIONS.format(path=sys.path, address=address)],
        )
        try:
            waits.until(lambda: owned(address, NAME))
            codes = codes_of(address, tmp_path, groups=(NOBODY,))
            assert set(codes.values()) == {"device.polkit"}
            assert codes_of(address, tmp_path, user=0)["install"] == "done"
        finally:
            process.kill()
            process.wait(waits.HANG)


NO_ACTIONS = """
import asyncio, sys
sys.path[:0] = {path!r}
import polkit_authority
polkit_authority.POLICY = __import__("io").StringIO("<policyconfig/>")
asyncio.run(polkit_authority.main({address!r}, {{}}))
"""


def test_a_refusal_for_want_of_a_right_names_the_user_and_the_right_in_the_journal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with private_bus() as address, service_on(address), authority(address, {"offer": [NOBODY]}):
        capfd.readouterr()
        codes_of(address, tmp_path)
        said = capfd.readouterr().err
    assert f"the user with id {NOBODY} may not override a check of this device" in said
    assert f"the user with id {NOBODY} may not activate, commit, roll back or cancel on this device" in said


STOPPED = """
import os, sys, threading
sys.path[:0] = {path!r}
from twinslot.bus.client.client import connect
from twinslot.core.errors import TwinslotError
from twinslot.core.progress import Phase
from twinslot.core.requests import InstallOptions
os.setgroups([])
os.setgid({user})
os.setuid({user})
cancelled = threading.Event()
with connect({address!r}) as it:
    try:
        stop = lambda progress: progress.phase is Phase.WRITE and cancelled.set()
        it.install("http://server/wait", InstallOptions(), stop, cancelled)
    except TwinslotError as e:
        print(e.code)
"""


def test_whoever_may_offer_an_image_stops_the_own_install_and_no_other(tmp_path: Path) -> None:
    with private_bus() as address, service_on(address), authority(address, {"offer": [NOBODY, 1]}):
        script = STOPPED.format(path=sys.path, user=NOBODY, address=address)
        command = [sys.executable, "-c", script]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=waits.HANG, check=True)
        assert ended.stdout == "cancelled\n"
        (job,) = Caller(address).call("Install", "sa{sv}", "http://server/wait", {})
        cancel = OTHER_CANCELS.format(path=sys.path, user=1, address=address, job=job)
        ended = subprocess.run([sys.executable, "-c", cancel], capture_output=True, text=True, timeout=waits.HANG)
        assert "may not activate, commit, roll back or cancel" in ended.stdout + ended.stderr
        assert Caller(address).get("CurrentJob") == job


OTHER_CANCELS = """
import os, sys
sys.path[:0] = {path!r}
from bus_bench import Answered, Caller
from twinslot.bus import names
os.setgroups([])
os.setgid({user})
os.setuid({user})
try:
    Caller({address!r}).call("Cancel", path={job!r}, interface=names.JOB)
except Answered as e:
    print(e.words)
"""


@contextlib.contextmanager
def real_polkit(address: str, directory: Path, *rules: Path) -> Iterator[None]:
    """Polkit itself on this bus, with our actions, these rules, and `nobody` in the group `twinslot`.

    All of it in a mount namespace of its own, so that nothing of this machine changes.
    """
    places = {"actions": Path("/usr/share/polkit-1/actions"), "rules.d": Path("/usr/share/polkit-1/rules.d")}
    for name in places:
        (directory / name).mkdir(parents=True)
    shutil.copy(SYSTEMD / "org.twinslot.update1.policy", directory / "actions")
    for rule in rules:
        shutil.copy(rule, directory / "rules.d")
    (directory / "group").write_text(Path("/etc/group").read_text() + "twinslot:x:4242:nobody\n")
    binds = [f"mount --bind {directory / name} {place}" for name, place in places.items()]
    binds += [f"mount --bind {directory}/group /etc/group", f"exec {POLKITD} --no-debug"]
    environment = {"PATH": os.environ["PATH"], "DBUS_SYSTEM_BUS_ADDRESS": address}
    process = subprocess.Popen(["unshare", "--mount", "sh", "-c", " && ".join(binds)], env=environment)
    try:
        waits.until(lambda: owned(address, NAME))
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(waits.HANG)


@pytest.mark.verifies("S21")
@pytest.mark.skipif(not POLKITD.exists(), reason="polkitd is not installed")
def test_polkit_itself_gives_the_group_what_the_shipped_rules_say_and_a_products_rule_more(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)  # it gives up root before it reads
    (tmp_path / "fleet").mkdir()
    product = tmp_path / "10-product.rules"
    product.write_text(
        'polkit.addRule(function (action, subject) { if (action.id == "org.twinslot.update1.override" && '
        'subject.user == "nobody") { return polkit.Result.YES; } });\n'
    )
    shipped = SYSTEMD / "org.twinslot.update1.rules"
    for number, (rules, may) in enumerate(
        [
            ((), set()),
            ((shipped,), OFFER | OPERATE | INHIBIT),
            ((shipped, product), OFFER | OPERATE | INHIBIT | OVERRIDE),
        ]
    ):
        with (
            private_bus() as address,
            service_on(address),
            real_polkit(address, tmp_path / str(number), *rules),
        ):
            assert allowed(codes_of(address, tmp_path)) == may
            assert allowed(codes_of(address, tmp_path, user=1)) == set(), "a user beside the group"
