"""Every key of the configuration changes something: for each, where the difference is seen."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import typing
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fakes.rigs import UBootRig
from image_samples import FACTS, make_sample
from twinslot.app.local import LocalUpdater
from twinslot.bootloader.select import open_bootloader
from twinslot.cli import options as cli_options
from twinslot.config.options import Config, load
from twinslot.core.backoff import Moment
from twinslot.core.canonical import encode
from twinslot.core.errors import DeviceError
from twinslot.core.inhibitors import Inhibitor
from twinslot.core.model import Floors, SlotName
from twinslot.core.origin import Origin
from twinslot.core.policy import Gate, Question, Wish
from twinslot.core.recall import Holding, OnRecall, Recall, answer_to
from twinslot.core.requests import InstallOptions
from twinslot.core.stream import ImageHead
from twinslot.engine import assemble, facts, poll, report, streams, trust_time, verifier
from twinslot.engine.device_key import retire_plan
from twinslot.engine.offered import chosen
from twinslot.engine.report_state import ReportPlace
from twinslot.fleet import assemble as fleet
from twinslot.health.selection import configured_checks
from twinslot.payloads.select import find_places
from twinslot.policy import conditions, local
from twinslot.policy.consent import LocalConsent
from twinslot.policy.local import LocalPolicy
from twinslot.policy.watch import LocalWatch
from twinslot.queries import preview
from twinslot.queries.doctor import doctor
from twinslot.repository.state import PollState
from twinslot.storage.record.audit_trail import AuditRow
from twinslot.storage.running_slot import RunningSlot
from twinslot.system import priority
from twinslot.transport.http.options import HttpSettings
from twinslot.worker import launch

BASE = """
[device]
compatible = "acme,pump-3"
[slots.a]
rootfs = "{0}/slot_a"
[slots.b]
rootfs = "{0}/slot_b"
[trust]
root = "{0}/root.json"
roles = ["engineering"]
[boot]
fw_env_config = "{0}/fw_env.config"
[record]
directory = "{0}/data"
[[health.command]]
name = "pump"
argv = ["true"]
[[health.http]]
name = "web"
url = "http://127.0.0.1:9/"
[[watch.program]]
name = "current"
argv = ["sh", "-c", "sleep 0.4; echo 5"]
low = 1
high = 9
timeout = 30
[[policy.fetch_window]]
calendar = "*-*-* 11:00"
duration = 7200
timezone = "UTC"
[[policy.restart_window]]
calendar = "*-*-* 11:00"
duration = 7200
timezone = "UTC"
"""
HAWKBIT = "[hawkbit]\nurl = 'https://server'\ncontroller = '/proc/sys/kernel/ostype'"
LISTS = ("health.command", "health.http", "policy.fetch_window", "policy.restart_window", "watch.program")
WHERE = RunningSlot(SlotName.A, frozenset(), ("said by the test",))
MANIFEST = make_sample(facts=dataclasses.replace(FACTS, hardware=("rev-c",), variants=("icu",), checks=()))


def diagnosis(config: Config) -> object:
    """What `doctor` says."""
    found = doctor(config, root=Path("/nonexistent"), running=lambda *_: WHERE, now=datetime(2026, 1, 1, tzinfo=UTC))
    return [(each.name, each.text) for each in found.findings]


def erased(config: Config) -> object:
    """What goes when the device is taken out of service."""
    return retire_plan(config).erase


def judgement(config: Config) -> object:
    """What is said of an image for hardware 'rev-c', variant 'icu'; trust is not asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preview, "_ask_trust", lambda *_: (None, ()))
        patch.setattr(facts, "find_running_slot", lambda *_: WHERE)
        return preview.preview(config, b"", MANIFEST.manifest_bytes).refusals


def policy(config: Config) -> object:
    """What the engine goes by."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assemble, "find_running_slot", lambda *_: WHERE)
        device = assemble.open_device(config, lambda _: pytest.fail("no worker is needed"), Origin())
        most = device.documents._most if device.documents else None
        return device.reinstall, device.delta, device.group_size_max, device.demands, most


def request(config: Config) -> object:
    """What relay and fetching worker are told, as they read it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "open_remote", lambda _, given, *__: given)
        patch.setattr(launch, "start", lambda _: None)
        given: Any = streams.open_stream(config, "https://server/x.twin", service_workers=False)
        return {**given, "http": HttpSettings.from_dict(given["http"])}


def opening(config: Config) -> object:
    """How an encrypted image is opened."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "open_remote", lambda *given: given[-1])
        patch.setattr(launch, "start", lambda _: None)
        given: Any = streams.open_stream(config, "https://server/x.twin", service_workers=False)
        with pytest.raises(DeviceError) as error:
            given.unlock(b"")
        return str(error.value)


def trust_request(config: Config) -> object:
    """What the trust process is asked."""
    asked: list[object] = []

    def ask(_: object, given: object, *_dropped: object) -> None:
        asked.append(given)
        raise DeviceError("enough")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verifier, "verify_in_worker", ask)
        patch.setattr(trust_time, "utc_now", lambda: datetime(2026, 1, 1, tzinfo=UTC))
        head = ImageHead(b"", b"")
        with pytest.raises(DeviceError, match="enough"):
            assemble.verify_head(
                config, head, None, Floors(), lambda _: pytest.fail("none"), ignore_expiry=False, dropped=print
            )
    return asked


def asks(config: Config) -> object:
    """What a poll goes by."""
    setting = poll._setting(config, config.repository.url)
    return setting.silence, setting.roles, setting.identity


def offered(config: Config) -> object:
    """Why a device that runs nothing known, at 2026, takes an offer or does not."""
    names = {"networks": ["wifi"], "rings": ["ward-7"], "share": 0, "spread": 0, "start": "2026-01-01T00:00:00Z"}
    entry: dict[str, Any] = {"epoch": 0, "image": "images/x.twin", "manifest": "0" * 64, "name": "x", "size": 1}
    entry |= {"sequence": 2}
    document = encode({"format": 1, "offers": [entry | {"waves": [names]}]}).decode()
    state = PollState(offers={"acme,pump-3": document})
    return chosen(config, facts.Facts(SlotName.A, None, None), state, datetime(2026, 2, 1, tzinfo=UTC)).why


def destinations(config: Config) -> object:
    """Whether there is anybody to tell, and what keeps it from being told here."""
    try:
        return report.report(config, lambda _: pytest.fail("none is needed"), if_due=True).why
    except DeviceError as e:
        return f"{e} {config.reports}"


def tells(config: Config) -> object:
    """What a device tells of 150 rows after an hour and a half."""
    rows = [AuditRow(n, "", "", "checked", {}, f"{n}") for n in range(1, 151)]
    record: Any = SimpleNamespace(audit_from=lambda after, _: [row for row in rows if row.number > after])
    reporter = report.ReportMaker(config, typing.cast(Any, None), record, typing.cast(Any, None))
    ago = ReportPlace(150, "150", f"{datetime.now(UTC) - timedelta(hours=3):%Y-%m-%dT%H:%M:%SZ}")
    return len(reporter.waiting(ReportPlace())[0]), reporter.is_due(ago, datetime.now(UTC))


def recalled(config: Config) -> object:
    """What is done about a recall of what runs."""
    running = Recall("1.0", 10, "x")
    return answer_to(OnRecall(config.repository.on_recall), Holding(running, back_is_good=True))


def waits(config: Config) -> object:
    """What policy says on a day at noon, of a device whose clock no server has set, and of one in 1970."""
    found: list[object] = []
    for now in (datetime(2026, 5, 5, 12, tzinfo=UTC), datetime(1970, 1, 1, 12, tzinfo=UTC)):
        here = LocalPolicy(config, itertools.repeat(now).__next__, root=Path("/nonexistent"))
        found += [here.window(step, "2026-01-01T00:00:00+00:00") for step in ("fetch", "restart")]
        found += [here.obstacles(Question(gate, Wish(remote=True))) for gate in Gate]
    return found


def watches(config: Config) -> object:
    """What is looked at, and what follows from a first look that failed."""
    here = LocalWatch(config.watch, config.record.directory, itertools.repeat(Moment(1e9, "1", 0)).__next__)
    seen = [(each.name, each.passed, each.detail) for each in here.signals()]
    return seen, here.judge("a", failed=True), here.is_over("a")


def agrees(config: Config) -> object:
    """What is missing of an update that nobody has said anything of."""
    asked = LocalConsent(config.policy.consent, config.record.directory, itertools.repeat(Moment(1e9, "1", 0)).__next__)
    found = [asked.obstacle("2026.11", change) for change in ("feature", "security")]
    return [(each.why, each.until) if each else None for each in found]


def costs(config: Config) -> object:
    """What becomes of a download over a modem."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conditions, "ways_out", lambda _: ("wwan0",))
        here = LocalPolicy(config, itertools.repeat(datetime(2026, 5, 5, 12, tzinfo=UTC)).__next__)
        return here.budget(), here.obstacles(Question(Gate.FETCH, Wish(remote=True)))


def asks_programs(config: Config) -> object:
    """What programs of the product have to say."""
    here = LocalPolicy(config, itertools.repeat(datetime(2026, 5, 5, 12, tzinfo=UTC)).__next__)
    return here.obstacles(Question(Gate.RESTART, Wish()))


def uses(config: Config) -> object:
    """Who uses a device whose logind does not answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "logind_inhibitors", lambda _: (Inhibitor("logind", "it does not answer"),))
        return LocalPolicy(config, itertools.repeat(datetime(2026, 5, 5, tzinfo=UTC)).__next__).inhibitors()


def serves(config: Config) -> object:
    """What a run of the fleet process goes by."""
    setting = fleet._setting(config, fleet._home(config))
    return dataclasses.replace(setting, moment=Moment(0, "", 0), jitter=0.0)


def gives_way(config: Config) -> object:
    """How the priority of an install is lowered."""
    given: list[object] = []

    def noted(*arguments: object) -> None:
        given.append(arguments)
        raise DeviceError("enough")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(priority, "lower_priority", noted)
        with pytest.raises(DeviceError, match="enough"):
            LocalUpdater(config).install(0, InstallOptions(), lambda _: None)
    return given


def reboots(config: Config) -> object:
    """Whether an install reboots when nobody says so."""
    return cli_options.reboots(argparse.Namespace(reboot=None), config)


def written(config: Config) -> object:
    """How a write to the environment ends."""
    try:
        return open_bootloader(config.boot).write({"x": "y"})
    except DeviceError as e:
        return str(e)


def types(config: Config) -> object:
    """What becomes of each payload."""
    try:
        return {name: type(place) for name, place in find_places(config.slots, WHERE)[SlotName.A].items()}
    except DeviceError as e:
        return str(e)


def checks(config: Config) -> object:
    """What is asked, and how."""
    return configured_checks(config.health)


# Key -> what is set beside it, its changed value, and where that is seen.
KEYS: dict[str, tuple[str, str, Callable[[Config], object]]] = {
    "device.compatible": ("", '"acme,pump-9"', judgement),
    "device.hardware": ("", '"rev-c"', judgement),
    "device.variant": ("", '"icu"', judgement),
    "device.key": ("", '"pkcs11:object=k?module-path=/lib/a.so&pin-source=/pin"', diagnosis),
    "slots.a": ("", '{ rootfs = "/elsewhere/a" }', diagnosis),
    "slots.b": ("", '{ rootfs = "/elsewhere/b" }', diagnosis),
    "slots.types": ("", '{ rootfs = "file" }', types),
    "trust.root": ("", '"/elsewhere/root.json"', diagnosis),
    "trust.roles": ("", '["engineering", "clinical"]', trust_request),
    "trust.build_time": ("", "2026-02-01T00:00:00Z", trust_request),
    "decryption.key": ("", '"/elsewhere/key.pem"', opening),
    "boot.backend": ("[boot]\nhook = '/elsewhere/hook'", '"hook"', diagnosis),
    "boot.hook": ("[boot]\nbackend = 'hook'\nhook = '/x'", '"/elsewhere/hook"', diagnosis),
    "boot.fw_env_config": ("", '"/elsewhere/fw_env.config"', diagnosis),
    "boot.default_env": ("", '"/elsewhere/default"', diagnosis),
    "boot.fw_setenv": ("", '"/elsewhere/fw_setenv"', written),
    "boot.timeout": ("[boot]\nfw_setenv = '{0}/slow'\ntimeout = 30", "1", written),
    "install.reboot": ("", '"automatic"', reboots),
    "install.max_image_size": ("", "2000000", request),
    "install.max_group_size": ("", "65536", request),
    "install.allow_reinstall": ("", "true", policy),
    "install.keep_attachments": ("", "0", policy),
    "install.nice": ("", "7", gives_way),
    "install.io_priority": ("", '"idle"', gives_way),
    "acceptance.classes": ("", '["security"]', judgement),
    "acceptance.market": ("", '"eu"', policy),
    "acceptance.regulatory": ("", '["510k"]', judgement),
    "delta.reuse": ("", "false", policy),
    "delta.patches": ("", "false", request),
    "delta.budget": ("", "1000", request),
    "delta.on_failure": ("", '"fail"', policy),
    "http.connect_timeout": ("", "1", request),
    "http.read_timeout": ("", "1", request),
    "http.rate_floor": ("", "1", request),
    "http.retries": ("", "1", request),
    "http.retry_wait": ("", "1", request),
    "http.deadline": ("", "1", request),
    "http.ca_file": ("", '"/x"', request),
    "http.client_cert": ("", '"/x"', request),
    "http.client_key": ("", '"/x"', request),
    "http.rate_limit": ("", "1", request),
    "http.pins": ("", f'["{"0" * 64}"]', request),
    "http.schemes": ("", '["https", "http"]', request),
    "http.proxy": ("", '"http://proxy:3128"', request),
    "http.no_proxy": ("", '["localhost"]', request),
    "repository.url": ("", '"https://server/fleet"', diagnosis),
    "repository.root": ('[repository]\nurl = "https://server/fleet"', '"/elsewhere/root.json"', diagnosis),
    "repository.silence": ('[repository]\nroot = "/proc/version"', "7200", asks),
    "repository.device_id": ('[repository]\nroot = "/proc/version"', '"/proc/version"', asks),
    "repository.ring": ("", '"ward-7"', offered),
    "repository.network_class": ("[repository]\nring = 'ward-7'", "'{0}/network'", offered),
    "repository.approved_by": ('[repository]\nroot = "/proc/version"', '["clinical"]', asks),
    "reports.url": ("", '"https://server/reports"', destinations),
    "reports.directory": ("", "'{0}/health.d'", destinations),
    "reports.beside_repository": ("", "true", destinations),
    "reports.every": ("", "7200", tells),
    "reports.backlog": ("", "100", tells),
    "repository.on_recall": ("", '"back"', recalled),
    "hawkbit.url": (HAWKBIT, '"https://hawkbit"', serves),
    "hawkbit.tenant": (HAWKBIT, '"pumps"', serves),
    "hawkbit.controller": (HAWKBIT, '"/proc/sys/kernel/random/boot_id"', serves),
    "hawkbit.authentication": (HAWKBIT, '"gateway-token"', request),
    "hawkbit.token": (HAWKBIT, '"/elsewhere/token"', request),
    "hawkbit.downloads": (HAWKBIT, '["cdn"]', serves),
    "hawkbit.soft": (HAWKBIT, '"write"', serves),
    "hawkbit.confirmation": (HAWKBIT, '"deny"', serves),
    "hawkbit.tries": (HAWKBIT, "7", serves),
    "hawkbit.attributes": (HAWKBIT, '{ ward = "icu" }', serves),
    "health.units": ("", '["dbus.service"]', checks),
    "health.no_failed_units": ("", "true", checks),
    "health.timeout": ("[health]\nunits = ['dbus.service']", "5", checks),
    "health.directories": ("", '["{0}/health.d"]', checks),
    "health.command.name": ("", '"motor"', checks),
    "health.command.argv": ("", '["false"]', checks),
    "health.command.timeout": ("", "5", checks),
    "health.command.retries": ("", "5", checks),
    "health.command.delay": ("", "5", checks),
    "health.command.required": ("", "false", checks),
    "health.http.name": ("", '"status"', checks),
    "health.http.url": ("", '"http://127.0.0.1:10/"', checks),
    "health.http.status": ("", "204", checks),
    "health.http.timeout": ("", "5", checks),
    "health.http.retries": ("", "7", checks),
    "health.http.delay": ("", "5", checks),
    "health.http.required": ("", "false", checks),
    "trial.deadline": ("", "77", diagnosis),
    "watch.time": ("", "3600", watches),
    "watch.failures": ("[watch]\ntime = 3600\naction = 'rollback'", "1", watches),
    "watch.action": ("[watch]\ntime = 3600\nfailures = 1", '"rollback"', watches),
    "watch.units": ("", '["no-such-unit.service"]', watches),
    "watch.program.name": ("", '"drain"', watches),
    "watch.program.argv": ("", '["false"]', watches),
    "watch.program.low": ("", "7", watches),
    "watch.program.high": ("", "3", watches),
    "watch.program.timeout": ("", "0.1", watches),
    "policy.in_use.directories": ("", '["{0}/busy.d"]', asks_programs),
    "policy.in_use.timeout": ("[policy.in_use]\ndirectories = ['{0}/slow.d']", "0.1", asks_programs),
    "policy.in_use.logind": ("", "false", uses),
    "policy.consent.mode": ("", '"required"', agrees),
    "policy.consent.notice": ("[policy.consent]\nmode = 'notify'", "7200", agrees),
    "policy.consent.limit": ("[policy.consent]\nmode = 'required'", "86400", agrees),
    "policy.consent.limit_security": ("[policy.consent]\nmode = 'required'", "86400", agrees),
    "policy.power.mains": ("", "true", waits),
    "policy.power.battery": ("", "50", waits),
    "policy.network.metered": ("[policy.network]\non_metered = 'wait'", '["wwan*"]', costs),
    "policy.network.on_metered": ("[policy.network]\nmetered = ['wwan*']", '"wait"', costs),
    "policy.network.budget": ("[policy.network]\nmetered = ['wwan*']\non_metered = 'budget'", "1000", costs),
    "policy.free_space": ("", "1000000000000", waits),
    "policy.fallback_proven": ("", "86400", waits),
    "policy.clock": ("", '"synchronized"', waits),
    "policy.clock_unknown": ("", '"open"', waits),
    "policy.fetch_window.calendar": ("", '"*-*-* 13:00"', waits),
    "policy.fetch_window.duration": ("", "5400", waits),
    "policy.fetch_window.timezone": ("", '"Asia/Tokyo"', waits),
    "policy.restart_window.calendar": ("", '"*-*-* 13:00"', waits),
    "policy.restart_window.duration": ("", "5400", waits),
    "policy.restart_window.timezone": ("", '"Asia/Tokyo"', waits),
    "record.directory": ("", '"/proc"', diagnosis),
    "retire.erase": ("", '["/srv/product/data"]', erased),
}


def keys(kind: type[Any], at: str = "") -> Iterator[str]:
    """Every key of a table and of those below it."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint, path = hints[field.name], f"{at}{field.name}"
        below = hint if dataclasses.is_dataclass(hint) else next(iter(typing.get_args(hint)), None)
        if dataclasses.is_dataclass(below):
            yield from keys(typing.cast(type[Any], below), f"{path}.")
        else:
            yield path


@pytest.mark.verifies("REQ-CLI-07")
def test_every_key_is_seen_somewhere() -> None:
    assert set(keys(Config)) == KEYS.keys()


@pytest.mark.verifies("REQ-CLI-07")
@pytest.mark.parametrize("key", KEYS)
def test_changing_a_key_changes_what_is_done(tmp_path: Path, key: str) -> None:
    beside, value, seen = KEYS[key]
    (tmp_path / "health.d").mkdir()
    (tmp_path / "network").write_text("wifi\n")
    (tmp_path / "health.d/10-motor").write_text("#!/bin/sh\n")
    (tmp_path / "health.d/10-motor").chmod(0o755)
    (tmp_path / "root.json").write_text("{}")
    (tmp_path / "slow").write_text("#!/bin/sh\nsleep 1.5\n")
    (tmp_path / "slow").chmod(0o755)
    for name, program in (("slow.d", "../slow"), ("busy.d", "/bin/false")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "program").symlink_to(program)
    (tmp_path / "card").write_bytes(bytes(0x8000))
    UBootRig(tmp_path, tmp_path / "card").boot.reset({"slot": "a", "slot_a": "good", "slot_b": "bad"})
    place = tmp_path / "etc/twinslot"
    (place / "config.d").mkdir(parents=True)
    (place / "config.toml").write_text(BASE.format(tmp_path))
    (place / "config.d/10-beside.toml").write_text(beside.format(tmp_path))
    before = seen(load(tmp_path))
    table, _, name = key.rpartition(".")
    text = f"[{table}]\n{name} = {value}\n"
    if table in LISTS:  # they are replaced whole
        whole = BASE.partition(f"[[{table}]]")[2].partition("[[")[0]
        lines = [line for line in whole.strip().splitlines() if not line.startswith(f"{name} =")]
        text = "\n".join([f"[[{table}]]", *lines, f"{name} = {value}", ""])
    (place / "config.d/20-changed.toml").write_text(text.format(tmp_path) if "{0}" in text else text)
    assert seen(load(tmp_path)) != before
