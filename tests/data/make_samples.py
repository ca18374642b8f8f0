"""Writes one sample of each format that a later version will meet: `make_samples.py DIRECTORY`, as root.

Dates are fixed. Keys are drawn, used once and thrown away, so the files are not reproducible; they need not be.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import enum
import hashlib
import json
import lzma
import os
import random
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from data import hook_calls, json_lines
from elf_samples import a64_program
from elf_samples_code import ARM, X86_64, arm_slot, code_program, thumb_slot, x86_slot
from image_samples import make_sample
from twinslot.bootloader.uboot import rawenv
from twinslot.bus.names import DESCRIPTION
from twinslot.cli.parser import make_parser
from twinslot.config.options import load
from twinslot.core import errors, events, lifecycle, model, outcome, transaction
from twinslot.core.attestation import KIND, RETIREMENT, attested
from twinslot.core.audit_export import end_line, head_line, row_line
from twinslot.core.audit_statements import EXPORT_END, ExportEnd
from twinslot.core.boot_variables import arm, read_state, rebuild
from twinslot.core.envelope import sign
from twinslot.core.model import CheckResult, Floors, Release, SlotName, SlotRecord, SlotState, StoredPayload
from twinslot.core.origin import Origin, OriginKind
from twinslot.core.report import PAYLOAD_TYPE, envelope, report_id
from twinslot.core.transaction import Outcome, Transaction
from twinslot.image.wire_patch import PIECE_COLUMNS
from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.storage.record.record import Record
from twinslot.trust.device_key import make_device_key
from twinslot_image.cli import main
from twinslot_image.cli_parser import make_parser as make_image_parser
from twinslot_image.outputs import Target
from twinslot_image.patch import make_patch

HERE: Final = Path(__file__).parent
MADE: Final = "1795910400"  # seconds: 2026-11-29T00:00:00Z
AT: Final = "2026-11-29T00:00:00Z"
COPY: Final = 0x4000  # bytes of one copy of the environment
DESCRIPTION_OF_IMAGE: Final = """
product = "Pump"
release = "{release}"
sequence = {sequence}
epoch = 1
type = "security"
compatible = ["acme,pump-3", "acme,pump-4"]
hardware = "rev-c"
variants = "icu"
checks = ["pump-motor"]
trust = "keys"
expires = 2035-01-01T00:00:00Z
group_size = 8192
[from]
lowest = 40
[source]
commit = "0123456789abcdef0123456789abcdef01234567"
tag = "v{release}"
build = "job 17"
builder = "https://ci.example/pump"
[payloads.rootfs]
file = "rootfs.{sequence}"
check = "none"
[payloads.firmware]
file = "firmware"
check = "none"
[attachments."release-notes.md"]
file = "notes.md"
"""


def run(*arguments: object) -> None:
    """One verb of the image tool; a failure ends everything."""
    if status := main([str(argument) for argument in arguments]):
        raise SystemExit(status)


def content(seed: int) -> bytes:
    """Groups of every encoding: text, zeros, noise; two seeds differ in a part."""
    noise = random.Random(7).randbytes(20_000)
    text = "".join(f"line {number} of {seed if number % 40 == 0 else 0}\n" for number in range(4000))
    return b"superblock".ljust(4096, b"\1") + text.encode() + bytes(20_480) + noise


def write_images(target: Path) -> None:
    """Two releases, a patch from the one to the other, a block list, and the root that devices trust."""
    with tempfile.TemporaryDirectory() as name:
        bench = Path(name)
        run("keys", "init", bench / "keys", "--roles", "engineering,clinical")
        (bench / "firmware").write_bytes(b"\x7fboot" * 30)
        (bench / "notes.md").write_text("# Alarm is louder\n")
        for release, sequence in (("2026.10", 41), ("2026.11", 42)):
            (bench / f"rootfs.{sequence}").write_bytes(content(sequence))
            (bench / "image.toml").write_text(DESCRIPTION_OF_IMAGE.format(release=release, sequence=sequence))
            image = target / f"pump-{release}.twin"
            run("build", bench / "image.toml", "-o", image)
            for role in ("engineering", "clinical"):
                (key,) = (bench / "keys/private").glob(f"{role}.*.pem")
                run("sign", image, "--role", role, "--key", key)
        old, new = target / "pump-2026.10.twin", target / "pump-2026.11.twin"
        run("patch", old, new, "-o", target)
        run("blocks", new, "-o", target)
        shutil.copy(bench / "keys/1.root.json", target / "root.json")


def write_patches(target: Path) -> None:
    """A patch of each format, from programs of all machines to the same programs after something moved."""
    folder = target / "patches"
    folder.mkdir()
    with tempfile.TemporaryDirectory() as name:
        bench = Path(name)
        old, new = (b"".join(_programs(insert)) for insert in ({}, {9: 24, 21: 8, 40: 64}))
        (bench / "old").write_bytes(old)
        (bench / "new.twin").write_bytes(make_sample({"rootfs": new}, group_size=65536).data)
        (folder / "programs.xz").write_bytes(lzma.compress(old))
        for newest in PIECE_COLUMNS:
            make_patch(bench / "old", bench / "new.twin", Target(folder / f"format-{newest}.twinpatch"), newest=newest)


def _programs(insert: Mapping[int, int]) -> Iterator[bytes]:
    """At pages; with some code that is compiled anew where something is inserted."""
    a64 = a64_program(1, dict(insert))
    others = ((ARM, arm_slot), (ARM, thumb_slot), (X86_64, x86_slot))
    for program in (a64, *(code_program(*one, 1, dict(insert), 60) for one in others)):
        content = bytearray(program.build())
        if insert:
            content[0x3000:0x3400] = bytes(byte ^ (index % 7 == 0) for index, byte in enumerate(content[0x3000:0x3400]))
        yield bytes(content) + bytes(-len(content) % 4096)


def write_evidence(target: Path) -> None:
    """An image, an approval of it, and a dossier, with the root document that both are verified with."""
    with tempfile.TemporaryDirectory() as directory:
        bench = Path(directory)
        run("keys", "init", bench / "keys", "--roles", "engineering,clinical")
        (bench / "rootfs").write_bytes(content(1)[:20_000])
        head = 'product = "Pump"\nrelease = "2026.11"\nsequence = 42\ncompatible = ["acme,pump-3"]\ntrust = "keys"\n'
        payload = 'expires = 2035-01-01T00:00:00Z\n[payloads.rootfs]\nfile = "rootfs"\ncheck = "none"\n'
        (bench / "image.toml").write_text(head + payload)
        (bench / "summary.md").write_text("The alarm is louder.\n")
        (bench / "dossier.toml").write_text('image = "pump.twin"\n[documents]\nsummary = "summary.md"\n')
        run("build", bench / "image.toml", "-o", bench / "pump.twin")
        keys = {role: next((bench / "keys/private").glob(f"{role}.*.pem")) for role in ("engineering", "clinical")}
        approved = ("--role", "clinical", "--as", "A. Weber", "--meaning", "approval", "--sign")
        run("approve", bench / "pump.twin", *approved, "--key", keys["clinical"])
        signed = ("--role", "engineering", "--key", keys["engineering"])
        run("sign", bench / "pump.twin", *signed)
        (target / "evidence").mkdir()
        run("dossier", "make", bench / "dossier.toml", "-o", target / "evidence/dossier", *signed)
        for path in (bench / "pump.twin", *bench.glob("*.approval.json")):
            shutil.copy(path, target / "evidence")
        shutil.copy(bench / "keys/1.root.json", target / "evidence/root.json")


def write_sealed(target: Path) -> None:
    """An image for two recipients, whose private keys stand beside it, its block list, and the root to trust."""
    (place := target / "sealed").mkdir()
    with tempfile.TemporaryDirectory() as name:
        bench = Path(name)
        run("keys", "init", bench / "keys", "--roles", "engineering")
        for kind in ("x25519", "p256"):
            run("recipients", "new", bench / f"{kind}.pem", "--kind", kind)
            shutil.copy(bench / f"{kind}.pem", place)
        (bench / "rootfs.43").write_bytes(content(43))
        (bench / "firmware").write_bytes(b"\x7fboot" * 30)
        (bench / "notes.md").write_text("# Nobody else reads this\n")
        sealed = '[encryption]\nrecipients = ["x25519.pub.pem", "p256.pub.pem"]\n'
        (bench / "image.toml").write_text(DESCRIPTION_OF_IMAGE.format(release="2026.12", sequence=43) + sealed)
        image = place / "pump-2026.12.twin"
        run("build", bench / "image.toml", "-o", image)
        (key,) = (bench / "keys/private").glob("engineering.*.pem")
        run("sign", image, "--role", "engineering", "--key", key)
        run("blocks", image, "-o", place, "--identity", bench / "x25519.pem")
        shutil.copy(bench / "keys/1.root.json", place / "root.json")


def write_record(target: Path) -> None:
    """A device that took two releases, of which the second rolled back, and that is installing a third."""
    payload = StoredPayload(size=100_000, group_size=4096, digest="a" * 64)
    (target / "record").mkdir()
    with Record(target / "record", lambda: AT) as record:
        record.save_slot(SlotRecord(SlotName.A, Release("2026.10", 41, 1, "b" * 64), {"rootfs": payload}, "c" * 32, AT))
        record.raise_floors(Floors(sequence=41, epoch=1, root=1))
        ended = Transaction(
            id="d" * 32,
            state=lifecycle.State.IDLE,
            target=SlotName.B,
            release=Release("2026.11", 42, 1, "e" * 64),
            payloads={"rootfs": payload},
            boots={"f" * 32: "checks"},
            checks=(CheckResult("pump-motor", required=True, passed=False, detail="no answer", seconds=3.5, tries=3),),
            bytes_fetched=1000,
            seconds={"write": 1.5},
            started=AT,
            ended=AT,
            outcome=Outcome.ROLLED_BACK,
            reason="unhealthy",
            armed=True,
            origin=Origin(OriginKind.CLI, uid=1000, login="maria"),
        )
        record.save(ended, "accepted")
        record.add_failed(42, "unhealthy", ended.id)
        open_ = Transaction("1" * 32, lifecycle.State.WRITING, SlotName.B, Release("2026.12", 43, 1, "2" * 64))
        record.save(open_, "accepted", origin=Origin(OriginKind.SERVER, action="17").as_dict())


def write_environment(target: Path) -> None:
    """Both copies as U-Boot has them after a commit of slot a."""
    variables = rebuild(SlotName.A, SlotState.BAD, "c" * 32, 9, Floors(41, 1, 1), trial=None, failed=42)
    for number in (1, 2):
        (target / f"environment-{number}.bin").write_bytes(rawenv.encode(variables, COPY, number))
    release = Release("2026.11", 42, 1, "e" * 64)
    armed = variables | arm(read_state(variables), SlotName.B, "d" * 32, release, SlotName.A)
    for number, content in ((1, variables), (2, armed)):  # arming is one write of one copy (S4)
        (target / f"environment-on-trial-{number}.bin").write_bytes(rawenv.encode(content, COPY, number))


def write_descriptions(target: Path) -> None:
    """A configuration and a description of an image with every key; a key directory, and a change of it."""
    (device := target / "etc/twinslot").mkdir(parents=True)
    shutil.copy(HERE / "written/config.toml", device)
    table = tomllib.loads((device / "config.toml").read_text())
    absent = list(absent_keys(table, load(target)))
    assert not absent, f"tests/data/written/config.toml lacks {absent}"
    shutil.rmtree(target / "etc")
    for name in ("config.toml", "image.toml"):
        shutil.copy(HERE / "written" / name, target)
    run("keys", "init", target / "keys", "--roles", "engineering,clinical=2/3")
    shutil.rmtree(target / "keys/private")
    run("keys", "propose", target / "keys", "clinical", "--threshold", "1", "-o", target / "change.json")


def absent_keys(table: Mapping[str, Any], config: Any) -> Iterator[str]:
    """Keys of a configuration that the file does not have."""
    for each in dataclasses.fields(config):
        value, written = getattr(config, each.name), table.get(each.name)
        if written is None:
            yield each.name
        elif dataclasses.is_dataclass(value):
            yield from absent_keys(written, value)
        elif isinstance(value, tuple) and dataclasses.is_dataclass(value[0]):
            yield from absent_keys(written[0], value[0])


def write_json(target: Path) -> None:
    """What every verb of both tools prints with `--json`."""
    from data.of_a_device import of_a_device

    (target / "json").mkdir()
    with tempfile.TemporaryDirectory() as bench, contextlib.chdir(bench):
        lines = json_lines.of_the_build_host(Path(bench))
        json_lines.write(target / "json/twinslot-image.json", lines)
        json_lines.write(target / "json/twinslot.json", of_a_device(Path(bench)))


def words() -> Iterator[tuple[str, list[str]]]:
    """Lists of words that are stored or that programs compare with."""
    kinds: tuple[type[enum.StrEnum], ...] = (
        events.AuditEvent,
        lifecycle.State,
        model.Reason,
        model.SlotState,
        outcome.JobOutcome,
        transaction.Outcome,
        OriginKind,
    )
    for kind in kinds:
        yield kind.__name__, sorted(map(str, kind))
    families = errors.TwinslotError.__subclasses__()
    yield "exit statuses", sorted(f"{kind.family} {kind.exit_status}" for kind in families)
    yield "keys of an error", list(errors.FIELDS)
    yield "error codes", sorted(tomllib.loads((HERE.parents[1] / "docs/errors.toml").read_text()))
    yield "message ids", [f"{event} {event.message_id}" for event in events.AuditEvent]
    yield "fields of events", [f"{event} {name}" for event in events.AuditEvent for name in event.fields]
    yield "options of twinslot", list(_options("twinslot", make_parser()))
    yield "options of twinslot-image", list(_options("twinslot-image", make_image_parser()))


def _options(words: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Each verb with each of its options, and with the number of its operands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb, below in action.choices.items():
                yield f"{words} {verb}"
                yield from _options(f"{words} {verb}", below)
        else:
            yield from (f"{words} {name}" for name in action.option_strings)


def write_repository(target: Path) -> None:
    """What a repository lists and devices read of it: offers, waves, approvals, recalls."""
    folder = target / "repository"
    folder.mkdir()
    with tempfile.TemporaryDirectory() as place:
        fleet = Path(place) / "fleet"
        run("repository", "init", fleet, "--approver", "clinical")
        run("repository", "add", fleet, target / "pump-2026.10.twin")
        run("repository", "add", fleet, target / "pump-2026.11.twin")
        more = "approved-by=clinical,end=2026-12-20T00:00:00Z,network=ethernet+wifi"
        waves = (
            "0%,2026-12-01T00:00:00Z,ring=ward-7",
            f"1%,2026-12-01T08:00:00Z,6h,{more}",
            "99%,2026-12-08T08:00:00Z,5d",
        )
        run("repository", "wave", fleet, "2026.11", *waves)
        run("repository", "barrier", fleet, "2026.10")
        run(
            "repository",
            "recall",
            fleet,
            "2026.09",
            "--sequence",
            40,
            "--reason",
            "alarm too quiet",
            "--successor",
            "2026.11",
        )
        run("repository", "approve", fleet, "2026.11", "--role", "clinical", "--wave", 2, "--by", "A. Meyer")
        run("repository", "publish", fleet)
        shutil.copy(fleet / "repository.json", folder)
        shutil.copy(fleet / "approvals/clinical.json", folder / "approvals-signed.json")
        for kind in ("approvals", "offers"):
            shutil.copy(min((fleet / "public/targets").glob(f"*.{kind}.json")), folder / f"{kind}.json")


def write_stick(target: Path) -> None:
    """What `publish` has readers find, on a server or a stick, without the images; and the root to trust."""
    with tempfile.TemporaryDirectory() as place:
        fleet = Path(place) / "fleet"
        run("repository", "init", fleet)
        run("repository", "add", fleet, target / "pump-2026.11.twin")
        run("repository", "wave", fleet, "2026.11", "100%,2026-11-28T00:00:00Z")
        run("repository", "publish", fleet)
        for name in ("metadata", "targets"):
            shutil.copytree(fleet / "public" / name, target / "stick" / name)
        shutil.copy(fleet / "keys/1.root.json", target / "stick")


def write_report(target: Path) -> None:
    """One signed report of a device."""
    with tempfile.TemporaryDirectory() as place:
        key, _ = make_device_key(DeviceKeyFiles(Path(place), ""))
    fields = {"transaction": "0" * 32, "outcome": "committed", "reason": "", "release": "2026.11"}
    body = json.dumps(fields, sort_keys=True)
    link = hashlib.sha256(f"{'0' * 64}\n{AT}\nboot\ncommitted\n{body}".encode()).hexdigest()
    row = {"number": 1, "at": AT, "boot": "boot", "event": "committed", "fields": fields, "hash": link}
    release = {"name": "2026.11", "sequence": 42, "epoch": 1, "manifest": "ab" * 32}
    device = {"id": "device-1", "key": key.public.fingerprint, "public": key.public.pem, "compatible": ["acme,pump-3"]}
    status = {"running": "b", "state": "idle", "slots": {"b": {"release": release, "state": "good"}}}
    update = {"id": "0" * 32, "outcome": "committed", "release": release, "checks": []}
    document = {"format": 1, "at": AT, "device": device, "status": status, "before": "", "dropped": 0, "telemetry": {}}
    document |= {"id": report_id(key.public.fingerprint, [row], AT), "rows": [row], "updates": [update]}
    payload = json.dumps(document, sort_keys=True).encode()
    signature = key.sign(PAYLOAD_TYPE, payload)
    (target / "report.json").write_bytes(envelope(payload, key.public.fingerprint, signature))


def write_audit(target: Path) -> None:
    """What a device's key vouches for: an export of the audit with an update in it, and the receipt of its end."""
    folder = target / "audit"
    folder.mkdir()
    with tempfile.TemporaryDirectory() as place:
        key, _ = make_device_key(DeviceKeyFiles(Path(place), ""))
        with Record(Path(place), lambda: AT) as record:
            for event, state in (("accepted", "writing"), ("verified", "written"), ("activate", "armed")):
                record.audit(event, transaction="d" * 32, state=state, release="2026.11", sequence=42)
            rows, end = list(record.chain()), record.audit_end()
    (folder / "pump.pem").write_text(key.public.pem)
    told = ExportEnd(end, rows[1].end, AT, key.public.fingerprint, "0.1.0")
    signed = sign(EXPORT_END, told.as_dict(), key.public, key.sign)
    export = (head_line(key.public, None), *map(row_line, rows), end_line(signed))
    (folder / "pump.audit").write_bytes(b"".join(export))
    last = {"at": AT, "audit": end.text, "destroys": ["/etc/tls.pem"], "erases": [], "nonce": "", "reason": "sold"}
    receipt = sign(KIND, attested(last, key.public.fingerprint, None, RETIREMENT), key.public, key.sign)
    (folder / "retirement.json").write_text(json.dumps(receipt.as_dict(), sort_keys=True) + "\n")


def write_attestation(target: Path) -> None:
    """What a device says of itself when it is asked, and its key; the verb is asked, as root."""
    from twinslot_lab.try_device.cli import workbench
    from twinslot_lab.try_device.releases import FACTORY

    folder = target / "attestation"
    folder.mkdir()
    with tempfile.TemporaryDirectory() as place, workbench(Path(place) / "device", (FACTORY,), FACTORY) as bench:
        device = bench.machine
        device.power_on()
        for words in ("boot", "device-key init"):
            device.run("twinslot", *words.split())
        public = json.loads(device.run("twinslot", "device-key", "show", "--json").stdout)["public"]
        (folder / "pump.pem").write_text(public)
        (folder / "pump.json").write_text(device.run("twinslot", "attest", "--nonce", "5ca1ab1e").stdout)
        device.off()


if __name__ == "__main__":
    os.environ["SOURCE_DATE_EPOCH"] = MADE
    directory = Path(sys.argv[1])
    directory.mkdir()
    write_images(directory)
    write_patches(directory)
    write_evidence(directory)
    write_sealed(directory)
    write_record(directory)
    write_environment(directory)
    write_descriptions(directory)
    hook_calls.write_calls(directory / "hooks")
    write_json(directory)
    write_repository(directory)
    write_stick(directory)
    write_report(directory)
    write_audit(directory)
    write_attestation(directory)
    shutil.copy(DESCRIPTION, directory)
    (directory / "record/record.sqlite-journal").unlink()
    (directory / "words.json").write_text(json.dumps(dict(words()), indent=1) + "\n")
