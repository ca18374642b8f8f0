"""A server's order on the whole product: it waits for whoever uses the device, and the server hears how it ended.

The server is hawkBit on paper (tests/fakes/hawkbit.py), asked over the board's network by the units that a device has.
"""

from __future__ import annotations

import configparser
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import waits
from fakes.hawkbit import Deployment, FakeHawkbit, Module, Reply, serving
from twinslot_lab.command import ROOT
from twinslot_lab.deadline import Deadline
from twinslot_lab.demo import BAD
from twinslot_lab.product import Product
from twinslot_lab.qemu_board import HOST, QemuBoard
from twinslot_lab.release import Image, LabRelease, ReleaseTeam

pytestmark = pytest.mark.board

CONTROLLER = "pump-17"
FRONT = 1 << 20  # bytes; what comes behind them is of a payload
TOKEN = "s3cr3t-token-of-this-device"
CONFIGURATION = """
[hawkbit]
url = "{url}"
controller = "/var/lib/pump/id"
token = "/var/lib/pump/token"
[install]
reboot = "automatic"
"""
SERVES = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c '[ ! -e /run/twinslot/trial ]'\n"
SCREEN = """
[Unit]
After=twinslot-trial.target dbus.service
Before=twinslot-check.service multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'cat /run/twinslot/trial; systemctl is-active twinslot-trial.target multi-user.target; {asks}'
StandardOutput=file:/run/screen
"""
ASKS = "busctl get-property org.twinslot.Update1 /org/twinslot/Update1 org.twinslot.Update1 OnTrial"
MONITOR = """
import time
from twinslot.bus.client.client import connect
held = connect(None).inhibit("restart", "monitor", "a patient is connected")
time.sleep(1 << 20)
"""


def guide_unit() -> str:
    """The unit of docs/guide-policy.md that serves nobody before the commit."""
    (text,) = re.findall(
        r"^```ini unit\n(.*?)^```$", (ROOT / "docs/guide-policy.md").read_text(), re.MULTILINE | re.DOTALL
    )
    return str(text)


def waits_for_the_commit(tree: Path) -> None:
    """A product of which one unit serves nobody before the commit, and another shows that it is tried."""
    units, text = tree / "usr/lib/systemd/system", guide_unit()
    (units / "pump-serves.service").write_text(text + SERVES)
    (units / "pump-screen.service").write_text(SCREEN.format(asks=ASKS))
    parser = configparser.ConfigParser()
    parser.read_string(text)
    wanted = dict.fromkeys(parser["Install"]["WantedBy"].split(), "pump-serves.service")
    for target, unit in (*wanted.items(), ("twinslot-trial.target", "pump-screen.service")):
        wants = units / f"{target}.wants"
        wants.mkdir(exist_ok=True)
        (wants / unit).symlink_to(f"../{unit}")


SERVING = LabRelease("2.1", 21, change=waits_for_the_commit, marker=f"serves {guide_unit()} {SERVES} {SCREEN} {ASKS}")


class Site:
    """The server, which may be away, and the unit on the board that asks it."""

    def __init__(self, board: QemuBoard, stack: ExitStack) -> None:
        self.board, self.hawkbit, self._stack = board, FakeHawkbit(), stack
        self.hawkbit.device(CONTROLLER)
        self.hawkbit.targets[CONTROLLER].token = TOKEN
        self._up = ExitStack()
        self._port = 0
        stack.callback(self._up.close)
        self.come()

    def come(self) -> None:
        """It answers, at the same address as before."""
        web = self._up.enter_context(serving(self.hawkbit, self._port))
        self._port = web.server_address[1]
        self.hawkbit.url = f"http://{HOST}:{self._port}"

    def go(self) -> None:
        """It answers no more."""
        self._up.close()

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """No byte of a payload is given before the end."""
        over = threading.Event()

        def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
            if int(headers.get("range", "bytes=0-")[6:].partition("-")[0]) > FRONT:
                over.wait(waits.HANG)
            return FakeHawkbit.answer(self.hawkbit, method, path, headers, body)

        self.hawkbit.answer = answer  # type: ignore[method-assign] # outside of the lock of the server's answers
        try:
            yield
        finally:
            over.set()

    def order(self, image: Image) -> Deployment:
        """A forced one."""
        name = image.release.name
        return self.hawkbit.assign(CONTROLLER, Module("pump-os", name, {f"{name}.twin": image.path.read_bytes()}))

    def configure(self) -> None:
        """The device knows its server; in this boot, since its root file system cannot be written."""
        self.board.check("mkdir", "-p", "/var/lib/pump", "/run/twinslot/config.d")
        self.board.put("/var/lib/pump/id", f"{CONTROLLER}\n".encode())
        self.board.put("/var/lib/pump/token", f"{TOKEN}\n".encode(), 0o400)
        self.board.check("chown", "twinslot-relay:", "/var/lib/pump/token")
        text = CONFIGURATION.format(url=self.hawkbit.url)
        self.board.put("/run/twinslot/config.d/50-hawkbit.toml", text.encode())

    def ask(self) -> str:
        """One run of the unit; what it said. Systemd knows that a server may be away."""
        self.board.check("systemctl", "start", "twinslot-fleet.service", timeout=900)
        return self.board.check("journalctl", "-b", "-u", "twinslot-fleet.service", "-o", "cat")


@pytest.fixture
def site(board: QemuBoard) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(board, stack)


def closed(action: Deployment) -> list[str]:
    """How the server heard that it ended."""
    return [finished for word, finished, *_ in action.entries if word == "closed"]


def start_of(board: QemuBoard) -> str:
    return board.check("cat", "/proc/sys/kernel/random/boot_id")


def moment(board: QemuBoard, unit: str, what: str) -> int:
    """When systemd did this with a unit; microseconds of this start."""
    return int(board.check("systemctl", "show", "-P", f"{what}TimestampMonotonic", unit))


def until(what: str, happened: Callable[[], object]) -> None:
    Deadline(waits.HANG, what).poll(happened, every=1)


@pytest.mark.verifies("S10", "S20", "S23", "REQ-POL-05")
def test_an_order_waits_for_who_uses_the_device_and_is_a_success_after_the_commit_though_server_and_power_go(
    board: QemuBoard, team: ReleaseTeam, site: Site
) -> None:
    image = team.image(SERVING)
    site.configure()
    board.check("sh", "-c", "echo 'an infusion runs' > /run/twinslot/inhibit.d/therapy")
    board.check("systemd-run", "--quiet", "--unit=monitor", "python3", "-I", "-c", MONITOR)
    until("the monitor uses the device", lambda: board.run("sh", "-c", "ls /run/twinslot/inhibitors/*.ref").exit == 0)
    action, before = site.order(image), start_of(board)
    site.ask()
    waiting = board.check("twinslot", "status")
    assert "waits     'therapy' uses the device: found 'an infusion runs'" in waiting
    assert "waits     'monitor' uses the device: found 'a patient is connected'" in waiting
    board.check("rm", "/run/twinslot/inhibit.d/therapy")
    until("it was asked again", lambda: "therapy" not in board.check("cat", "/run/twinslot/waits.json"))
    waiting = board.check("twinslot", "status")
    assert "waits     'monitor' uses the device: found 'a patient is connected'" in waiting
    assert "waits in slot b" in waiting, "it is written and nothing arms"
    assert board.card.variables().get("upgrade_available", "0") == "0"
    assert (start_of(board), closed(action), action.status) == (before, [], "running")
    board.check("systemctl", "stop", "monitor.service")
    board.wait_up(slot="b")
    until("it serves", lambda: board.run("systemctl", "is-active", "pump-serves.service").exit == 0)
    shown, active, reached, on_bus = board.check("cat", "/run/screen").splitlines()
    assert json.loads(shown)["release"] == SERVING.name
    assert (active, on_bus) == ("active", "b true")
    assert reached != "active", "it is told before the default target is reached"
    served = moment(board, "pump-serves.service", "ActiveEnter")
    assert served > moment(board, "twinslot-commit.service", "ExecMainStart"), "nobody is served before the commit"
    assert board.run("systemctl", "is-active", "twinslot-trial.target").stdout.strip() == "inactive"
    assert board.card.variables()["slot_b"] == "good"
    site.go()
    site.configure()
    assert "gives no answer: found 'connection refused'" in site.ask()
    assert closed(action) == [], "no word of it has left"
    board.cut()
    board.power_on()
    board.wait_up(slot="b")
    board.check("date", "-s", "3 days")
    site.come()
    site.configure()
    site.ask()
    assert (closed(action), action.status) == (["success"], "finished")
    assert site.hawkbit.targets[CONTROLLER].attributes["twinslot.release"] == SERVING.name


def test_power_that_goes_while_an_order_is_written_costs_a_try_and_a_bad_release_is_a_failure_from_the_old_slot(
    board: QemuBoard, team: ReleaseTeam, site: Site, product: Product
) -> None:
    site.configure()
    action = site.order(team.image(BAD))
    with site.stalled():
        board.check("systemctl", "start", "--no-block", "twinslot-fleet.service")
        until("it is being written", lambda: action.entries)
        board.cut()
    board.power_on()
    board.wait_up(slot="a")
    site.configure()
    board.check("systemctl", "start", "--no-block", "twinslot-fleet.service")
    board.wait_up(slot="a", through_failures=True)
    assert closed(action) == []
    site.configure()
    site.ask()
    (details,) = (details for word, _, details, _ in action.entries if word == "closed")
    assert (closed(action), action.status) == (["failure"], "error")
    assert "checks that failed: 10-pump-motor" in details
    assert product.status()["failed"] == {str(BAD.sequence): "unhealthy"}
