"""What came with a release is read on the device without its image, of both slots, until the slot is written anew."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import multiprocessing
import random
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bus_bench import Caller, private_bus
from file_web import serving_files
from host_device import CONFIG, HostDevice, HostUpdater
from release_bench import ReleaseBench

import waits
from twinslot.bus.client.client import connect
from twinslot.bus.server.server import serve
from twinslot.cli.main import main
from twinslot.core.errors import ImageError, RefusedError
from twinslot.core.manifest import Attachment, parse_manifest
from twinslot.core.model import SlotName
from twinslot.core.requests import InstallOptions
from twinslot.core.stream import AttachmentPart
from twinslot.engine import facts
from twinslot.engine.documents import Documents
from twinslot.engine.edges import Device
from twinslot.payloads.local_content import LocalContent
from twinslot.storage.attachments import AttachmentStore
from twinslot.storage.running_slot import RunningSlot
from twinslot_image.compose import read_front

pytestmark = pytest.mark.slow

NOTES, ANOMALIES = b"# 2.0\n\nThe alarm is louder.\n", b"None.\n" * 3000
MORE = """
[change]
class = "corrective"
[attachments."notes.md"]
file = "notes.md"
type = "release-notes"
[attachments."anomalies.md"]
file = "anomalies.md"
type = "known-anomalies"
"""
CONTENT = b"superblock".ljust(4096, b"\1") + random.Random(1).randbytes(200_000)


class Documented(HostDevice):
    """A device that keeps what comes with its releases."""

    most = 4 << 20

    def store(self) -> AttachmentStore:
        """On the data partition."""
        return AttachmentStore(self.directory / "data/attachments", self.most)

    def edges(self) -> Device:
        """With the store."""
        return replace(super().edges(), documents=self.store())


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    bench = ReleaseBench.make(tmp_path_factory.mktemp("bench"))
    (bench.directory / "notes.md").write_bytes(NOTES)
    (bench.directory / "anomalies.md").write_bytes(ANOMALIES)
    bench.image("2.0", 20, CONTENT, more=MORE)
    bench.image("3.0", 30, CONTENT[:-1])
    bench.image("9.0", 90, CONTENT, more=MORE)
    return bench


@pytest.fixture
def device(tmp_path: Path, bench: ReleaseBench) -> Documented:
    device = Documented(tmp_path, bench)
    (tmp_path / "etc/twinslot").mkdir(parents=True)
    (tmp_path / "etc/twinslot/config.toml").write_text(CONFIG.format(directory=tmp_path, root=bench.root))
    return device


@pytest.fixture
def ask(device: Documented, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`twinslot info --running` on the device, which says that it runs from the slot that it runs from."""

    def running(*_: object) -> RunningSlot:
        return RunningSlot(device.running, frozenset(), ("said by the test",))

    monkeypatch.setattr(facts, "find_running_slot", running)
    return lambda *more: main(["info", "--running", *more, "--config-root", str(device.directory)])


def start(device: Documented) -> None:
    """Into the trial, and keep it."""
    device.running, device.boots = SlotName.B, device.boots + 1
    device.engine().boot()
    device.engine().commit()


@pytest.mark.verifies("REQ-IMG-30")
@pytest.mark.parametrize("way", ["file", "pipe"])
def test_after_the_update_the_running_release_tells_what_came_with_it(
    device: Documented,
    bench: ReleaseBench,
    way: str,
    ask: Callable[..., int],
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    assert ask() == 6, "the release of the factory has nothing here"
    assert b"is not kept on this device" in capfdbinary.readouterr().err
    image = bench.directory / "2.0.twin"
    if way == "file":
        device.install(image)
    else:
        with subprocess.Popen(["cat", image], stdout=subprocess.PIPE) as source:
            assert source.stdout
            device.install(source.stdout.fileno())
    start(device)
    capfdbinary.readouterr()
    assert ask() == 0
    told = capfdbinary.readouterr().out
    assert b"change    corrective" in told
    assert b"known-anomalies" in told
    assert ask("--attachment", "release-notes") == 0
    assert capfdbinary.readouterr().out == NOTES
    assert ask("--attachment", "anomalies.md") == 0
    assert capfdbinary.readouterr().out == ANOMALIES
    assert ask("--json") == 0
    found = json.loads(capfdbinary.readouterr().out)
    assert (found["slot"], found["image"]["release"]) == ("b", "2.0")
    assert found["kept"] == {"anomalies.md": True, "notes.md": True}
    assert ask("--attachment", "sbom") == 4
    assert b"expected 'anomalies.md, notes.md', found 'sbom'" in capfdbinary.readouterr().err


@pytest.mark.verifies("REQ-IMG-30")
def test_documents_stay_while_the_other_slot_is_written_and_go_with_their_own(
    device: Documented, bench: ReleaseBench, ask: Callable[..., int], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    device.install(bench.directory / "2.0.twin")
    start(device)
    device.install(bench.directory / "3.0.twin")
    assert ask("--attachment", "notes.md") == 0
    capfdbinary.readouterr()
    kept = sorted(path.name for path in (device.directory / "data/attachments").iterdir())
    assert kept == ["a~manifest", "b.anomalies.md", "b.notes.md", "b~manifest"]
    device.running, device.boots = SlotName.A, device.boots + 1
    device.engine().boot()
    device.engine().commit()
    device.install(bench.image("4.0", 40, CONTENT[:-2]))
    assert sorted(path.name for path in (device.directory / "data/attachments").iterdir()) == [
        "a~manifest",
        "b~manifest",
    ]


@pytest.mark.verifies("REQ-POL-02")
def test_people_read_the_notes_of_the_update_that_waits_for_them_and_those_of_the_running_one_after_the_commit(
    device: Documented, bench: ReleaseBench, ask: Callable[..., int], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    waiting = ["info", "--waiting", "--config-root", str(device.directory)]
    device.engine().boot()
    assert main(waiting) == 4
    assert b"no update waits to be started" in capfdbinary.readouterr().err
    device.install(bench.directory / "2.0.twin", InstallOptions(activate=False))
    assert main(waiting) == 0
    assert b"known-anomalies" in capfdbinary.readouterr().out
    for kind, content in (("release-notes", NOTES), ("known-anomalies", ANOMALIES)):
        assert main([*waiting, "--attachment", kind]) == 0
        assert capfdbinary.readouterr().out == content
    assert main([*waiting, "--attachment", "sbom"]) == 4
    assert ask("--attachment", "release-notes") == 6, "those of the running one are others"
    device.engine().activate()
    assert main([*waiting, "--attachment", "release-notes"]) == 0
    start(device)
    capfdbinary.readouterr()
    assert main(waiting) == 4
    assert ask("--attachment", "release-notes") == 0
    assert capfdbinary.readouterr().out == NOTES
    (device.directory / "data/attachments/b~manifest").unlink()
    assert ask() == 6


@pytest.mark.parametrize("ranges", [True, False], ids=["parts", "whole"])
def test_notes_and_known_anomalies_are_read_from_an_address_before_anything_is_written(
    device: Documented, bench: ReleaseBench, ranges: bool, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    device.engine().boot()
    with (device.directory / "etc/twinslot/config.toml").open("a") as file:
        file.write('[http]\nschemes = ["http"]\nretries = 1\n')
    before = {name: device.content(name) for name in SlotName}
    with serving_files(bench.directory) as web:
        web.ranges = ranges
        argv = ["info", web.url("2.0.twin"), "--config-root", str(device.directory), "--attachment"]
        for kind, content in (("release-notes", NOTES), ("known-anomalies", ANOMALIES)):
            web.sent.clear()
            assert main([*argv, kind]) == 0
            assert capfdbinary.readouterr().out == content
            if ranges:
                assert web.sent["2.0.twin"] < (bench.directory / "2.0.twin").stat().st_size // 2, "no payload comes"
        assert main([*argv, "sbom"]) == 4
        assert b"expected 'anomalies.md, notes.md', found 'sbom'" in capfdbinary.readouterr().err
        assert main([*argv, "notes.md", "--json"]) == 0
        told = json.loads(capfdbinary.readouterr().out)
        assert (told["trusted"], told["accepted"], told["name"]) == (True, True, "notes.md")
    assert {name: device.content(name) for name in SlotName} == before
    assert main([*argv, "notes.md"]) == 5, "the server is gone"


def test_an_attachment_from_an_address_is_held_to_the_manifest(
    device: Documented, bench: ReleaseBench, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    device.engine().boot()
    with (device.directory / "etc/twinslot/config.toml").open("a") as file:
        file.write('[http]\nschemes = ["http"]\nretries = 1\n')
    folder = tmp_path / "web"
    folder.mkdir()
    data = (bench.directory / "2.0.twin").read_bytes()
    (folder / "changed.twin").write_bytes(data.replace(b"The alarm is louder", b"The alarm is softer"))
    (folder / "cut.twin").write_bytes(data[: data.index(b"The alarm is louder")])
    with serving_files(folder) as web:
        for name in ("changed.twin", "cut.twin"):
            argv = ["info", web.url(name), "--config-root", str(device.directory), "--attachment", "notes.md"]
            assert main(argv) in (3, 5)
            out, err = capfdbinary.readouterr()
            assert out == b""
            assert b"Traceback" not in err


def test_what_was_changed_on_the_data_partition_is_not_told(
    device: Documented, bench: ReleaseBench, ask: Callable[..., int], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    device.install(bench.directory / "2.0.twin")
    start(device)
    notes = device.directory / "data/attachments/b.notes.md"
    notes.write_bytes(NOTES.replace(b"louder", b"softer"))
    assert ask("--attachment", "notes.md") == 6
    assert b"is not kept on this device" in capfdbinary.readouterr().err
    manifest = device.directory / "data/attachments/b~manifest"
    manifest.write_bytes(manifest.read_bytes().replace(b"corrective", b"correctivE"))
    assert ask() == 6


def test_what_does_not_fit_is_left_out_and_told(
    device: Documented, bench: ReleaseBench, ask: Callable[..., int], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    device.most = 1000
    device.install(bench.directory / "2.0.twin")
    start(device)
    assert ask() == 0
    assert b"not kept on this device: anomalies.md" in capfdbinary.readouterr().out
    assert ask("--attachment", "notes.md") == 0
    device.most = 0
    device.install(bench.directory / "3.0.twin")
    assert not list((device.directory / "data/attachments").glob("a*"))


@pytest.mark.verifies("REQ-IMG-30")
def test_the_service_reads_them_for_a_caller(
    device: Documented, bench: ReleaseBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.install(bench.directory / "2.0.twin")
    start(device)
    where = RunningSlot(device.running, frozenset(), ("said by the test",))
    monkeypatch.setattr(facts, "find_running_slot", lambda *_: where)
    with private_bus() as address:
        updater_of = functools.partial(HostUpdater, device)
        service = multiprocessing.get_context("fork").Process(
            target=serve, args=(updater_of,), kwargs={"address": address}
        )
        service.start()
        try:
            waits.until(lambda: Caller(address).owned())
            with connect(address) as client:
                assert client.running_release()["image"]["release"] == "2.0"
                attachment, content = client.running_attachment("release-notes")
                assert (attachment.name, attachment.media_type, content) == ("notes.md", "text/markdown", NOTES)
                with pytest.raises(RefusedError, match="no such attachment"):
                    client.running_attachment("sbom")
                with pytest.raises(RefusedError, match="no update waits"):
                    client.waiting_release()
                device.install(bench.directory / "9.0.twin")
                assert client.waiting_release()["image"]["release"] == "9.0"
                assert client.running_release()["image"]["release"] == "2.0"
                attachment, content = client.waiting_attachment("release-notes")
                assert (attachment.name, content) == ("notes.md", NOTES)
        finally:
            service.kill()
            service.join(waits.HANG)


@pytest.mark.parametrize(
    ("argv", "found"),
    [([], "none"), (["--running", "x.twin"], "more than one"), (["--running", "--waiting"], "more than one")],
    ids=["none", "image and running", "running and waiting"],
)
def test_info_is_of_one_thing(argv: list[str], found: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", *argv]) == 2
    assert f"found '{found}'" in capsys.readouterr().err


class CutError(Exception):
    """Power went."""


class Fragile(AttachmentStore):
    """Power goes at a write: before it, or right after."""

    at, after, calls = -1, False, 0

    def _write(self, path: Path, data: bytes, mode: int) -> None:
        self.calls += 1
        if self.calls - 1 == self.at and not self.after:
            raise CutError
        super()._write(path, data, mode)
        if self.calls - 1 == self.at:
            raise CutError


def parts_of(image: Path) -> tuple[bytes, list[AttachmentPart]]:
    with image.open("rb") as file:
        manifest = read_front(file).manifest
    contents = {"notes.md": NOTES, "anomalies.md": ANOMALIES}
    return manifest, [AttachmentPart(each.name, contents[each.name]) for each in parse_manifest(manifest).attachments]


@pytest.mark.verifies("REQ-IMG-30")
@pytest.mark.parametrize(("at", "after"), list(itertools.product(range(4), (False, True))))
def test_a_power_cut_leaves_the_documents_of_a_slot_whole_or_none(
    tmp_path: Path, bench: ReleaseBench, at: int, after: bool
) -> None:
    document, parts = parts_of(bench.directory / "2.0.twin")
    manifest = parse_manifest(document)
    store = Fragile(tmp_path / "attachments", 1 << 20)

    def install() -> None:
        documents = Documents(LocalContent(SlotName.B, SlotName.A, documents=store), manifest, document)
        documents.drop()
        for part in parts:
            documents.take(part)
        documents.complete()

    store.at, store.after = at, after
    with contextlib.suppress(CutError):
        install()
    found = store.manifest(SlotName.B, manifest.digest)
    if found is not None:
        assert all(store.attachment(SlotName.B, each) for each in manifest.attachments)
    store.at, store.calls = -1, 0
    install()
    assert store.manifest(SlotName.B, manifest.digest) == document


def hostile(manifest: Any) -> Iterator[AttachmentPart]:
    first: Attachment = manifest.attachments[0]
    yield AttachmentPart(first.name, b"another")
    yield AttachmentPart("../../etc/shadow", b"x")


@pytest.mark.verifies("REQ-IMG-30", "S2")
def test_the_engine_keeps_nothing_that_was_not_signed(tmp_path: Path, bench: ReleaseBench) -> None:
    document, parts = parts_of(bench.directory / "2.0.twin")
    manifest = parse_manifest(document)
    local = LocalContent(SlotName.B, SlotName.A, documents=AttachmentStore(tmp_path / "attachments", 1 << 20))
    for part in (*hostile(manifest), AttachmentPart("sbom", b"x")):
        with pytest.raises(ImageError):
            Documents(local, manifest, document).take(part)
    documents = Documents(local, manifest, document)
    documents.take(parts[0])
    with pytest.raises(ImageError, match="was not requested"):
        documents.take(parts[0])
    assert not (tmp_path / "attachments/b~manifest").exists()


def test_documents_of_an_encrypted_image_are_for_root_alone(tmp_path: Path, bench: ReleaseBench) -> None:
    document, parts = parts_of(bench.directory / "2.0.twin")
    manifest = replace(parse_manifest(document), requires=("encryption",))
    store = AttachmentStore(tmp_path / "attachments", 1 << 20)
    Documents(LocalContent(SlotName.B, SlotName.A, documents=store), manifest, document).take(parts[1])
    assert stat.S_IMODE((tmp_path / "attachments/b.notes.md").stat().st_mode) == 0o600
    assert datetime.now(UTC) > manifest.built
