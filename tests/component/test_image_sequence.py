"""A release whose sequence is far too high closes a device for ever: `build` asks first."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinslot_image.cli import main

TOML = """
product = "Pump"
release = "1"
sequence = {sequence}
compatible = "acme,pump-3"
trust = "keys"
[payloads.firmware]
file = "firmware.bin"
check = "none"
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys, a payload, and the image of release 41."""
    bench = tmp_path_factory.mktemp("bench")
    assert main(["keys", "init", str(bench / "keys"), "--roles", "engineering"]) == 0
    (bench / "firmware.bin").write_bytes(b"content")
    assert build(bench, 41, "old.twin") == 0
    return bench


def build(bench: Path, sequence: int, output: str, *more: str) -> int:
    (bench / "image.toml").write_text(TOML.format(sequence=sequence))
    return main(["build", str(bench / "image.toml"), "-o", str(bench / output), *more])


@pytest.mark.parametrize(("sequence", "status"), [(42, 0), (1_000_041, 0), (1_000_042, 4), (2**53 - 1, 4), (7, 0)])
def test_a_jump_of_more_than_a_million_is_refused(
    bench: Path, capsys: pytest.CaptureFixture[str], sequence: int, status: int
) -> None:
    previous = ["--previous", str(bench / "old.twin")]
    assert build(bench, sequence, "new.twin", *previous, "--force") == status
    error = capsys.readouterr().err
    assert ("the sequence jumps far above the release before, 41: expected 'at most 1000041'" in error) is bool(status)
    assert ("'--allow-jump'" in error) is bool(status)
    (bench / "new.twin").unlink(missing_ok=True)
    assert build(bench, sequence, "new.twin", *previous, "--allow-jump") == 0
    (bench / "new.twin").unlink()


def test_the_image_that_is_replaced_is_the_release_before(bench: Path) -> None:
    assert build(bench, 50, "same.twin") == 0
    before = (bench / "same.twin").read_bytes()
    assert build(bench, 50_000_000, "same.twin") == 4
    assert build(bench, 1, "same.twin", "--sequence", "50000000") == 4
    assert (bench / "same.twin").read_bytes() == before
    assert build(bench, 51, "same.twin") == 0


@pytest.mark.parametrize(("sequence", "status"), [(20261129153000, 0), (10**14, 0), (10**14 + 1, 4), (2**53 - 1, 4)])
def test_without_a_release_before_a_date_to_the_second_is_the_highest(bench: Path, sequence: int, status: int) -> None:
    assert build(bench, sequence, "first.twin") == status
    assert (bench / "first.twin").exists() is not bool(status)
    (bench / "first.twin").unlink(missing_ok=True)


def test_a_release_before_that_is_none_is_an_error(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(bench, 42, "new.twin", "--previous", str(bench / "absent.twin")) == 6
    assert "there is no file" in capsys.readouterr().err
    assert build(bench, 42, "new.twin", "--previous", str(bench / "firmware.bin")) == 3
    assert "is no .twin image" in capsys.readouterr().err
