"""What changes the front of an image first sees that the rest is there: nothing is signed that nobody can install."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from twinslot.image.wire import HEADER_SIZE, TrustDocuments, build_header, build_trust, parse_header, parse_trust
from twinslot_image import cli_encryption
from twinslot_image.cli import main
from twinslot_image.replacement import write_whole


def ends_early(data: bytes) -> bytes:
    return data[:-1]


def goes_on(data: bytes) -> bytes:
    return data + b"\n"


def has_other_lengths(data: bytes) -> bytes:
    """The file is as long as its header says, and not as long as its manifest does."""
    header = parse_header(data[:HEADER_SIZE])
    return build_header(replace(header, groups=header.groups + 1)) + data[HEADER_SIZE:] + b"\0"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys of two recipients, an image that is not signed, and the same encrypted for both."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["keys", "init", "keys", "--roles", "engineering"]) == 0
        next(Path("keys/private").glob("engineering.*")).rename("engineering.pem")
        for name in ("one", "two"):
            assert main(["recipients", "new", f"{name}.pem"]) == 0
        Path("content").write_bytes(b"firmware" * 1000)
        Path("image.toml").write_text(
            'product = "Pump"\nrelease = "1"\nsequence = 1\ncompatible = "acme,pump-3"\ntrust = "keys"\n'
            '[payloads.firmware]\nfile = "content"\ncheck = "none"\n'
        )
        assert main(["build", "image.toml", "-o", "pump.twin"]) == 0
        shutil.copy("pump.twin", "sealed.twin")
        assert main(["encrypt", "sealed.twin", "--recipient", "one.pub.pem", "--recipient", "two.pub.pem"]) == 0
    return folder


@pytest.fixture
def bench(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("damage", [ends_early, goes_on, has_other_lengths])
@pytest.mark.parametrize(
    ("image", "verb"),
    [
        ("pump.twin", "sign pump.twin --role engineering --key engineering.pem"),
        ("sealed.twin", "sign sealed.twin --role engineering --key engineering.pem"),
        ("sealed.twin", "recipients remove sealed.twin two.pub.pem"),
    ],
)
def test_an_image_that_is_not_whole_is_refused_and_stays_as_it_is(
    bench: Path, capsys: pytest.CaptureFixture[str], image: str, verb: str, damage: Callable[[bytes], bytes]
) -> None:
    damaged = damage(Path(image).read_bytes())
    Path(image).write_bytes(damaged)
    names = set(bench.iterdir())
    assert main(verb.split()) == 3
    assert "expected" in capsys.readouterr().err
    assert Path(image).read_bytes() == damaged
    assert set(bench.iterdir()) == names


@pytest.mark.parametrize("name", ["", ".", "..", "keys", "/"])
def test_a_recipients_key_needs_the_name_of_a_file(bench: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["recipients", "new", name]) in (4, 6)
    assert "a directory" in capsys.readouterr().err


def test_a_recipients_key_whose_public_half_cannot_be_written_is_not_left_alone(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes, *mode: int) -> None:
        if ".pub" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_whole(path, data, *mode)

    monkeypatch.setattr(cli_encryption, "write_whole", full)
    assert main(["recipients", "new", "new.pem"]) == 6
    assert not list(bench.glob("new*"))
    monkeypatch.undo()
    monkeypatch.chdir(bench)
    assert main(["recipients", "new", "new.pem"]) == 0


def test_a_recipients_key_does_not_take_the_place_of_a_link(bench: Path) -> None:
    Path("link.pem").symlink_to("elsewhere.pem")
    assert main(["recipients", "new", "link.pem"]) == 4
    assert not Path("elsewhere.pem").exists()


def test_no_device_is_made_with_a_targets_document_that_it_cannot_read(
    bench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would refuse every image, since each is compared with the document that came from the factory (S24)."""
    data = Path("pump.twin").read_bytes()
    header = parse_header(data[:HEADER_SIZE])
    targets = parse_trust(data[HEADER_SIZE : HEADER_SIZE + header.trust]).targets
    for other in (targets.replace(b'"threshold"', b'"thr\xffshold"'), targets[:-1]):
        trust = build_trust(TrustDocuments((), other))
        front = build_header(replace(header, trust=len(trust))) + trust
        Path("pump.twin").write_bytes(front + data[HEADER_SIZE + header.trust :])
        assert main(["provision", "pump.twin", "--record", "record.sqlite"]) == 3
        assert "trust" in capsys.readouterr().err
        assert not Path("record.sqlite").exists()
