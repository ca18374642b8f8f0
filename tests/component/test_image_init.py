"""What 'init' writes builds as it stands, and a device that is configured so takes what was built."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootfs_samples import make_ext4, make_tree
from twinslot.config.options import load
from twinslot.core.manifest import parse_manifest
from twinslot_image.cli import main
from twinslot_image.file_kind import read_image_front


def test_the_first_description_builds_and_the_first_configuration_takes_it(tmp_path: Path) -> None:
    product = tmp_path / "product"
    assert main(["init", str(product)]) == 0
    assert main(["keys", "init", str(product / "keys")]) == 0
    make_ext4(make_tree(tmp_path / "tree"), product / "rootfs.img")
    image = product / "pump.twin"
    assert main(["build", str(product / "image.toml"), "-o", str(image)]) == 0
    (tmp_path / "root/etc/twinslot").mkdir(parents=True)
    (product / "config.toml").rename(tmp_path / "root/etc/twinslot/config.toml")
    config = load(str(tmp_path / "root"))
    manifest = parse_manifest(read_image_front(image).manifest)
    assert set(config.device.compatible) & set(manifest.compatible)
    assert {payload.name for payload in manifest.payloads} == set(config.slots.a) == set(config.slots.b)
    for role in config.trust.roles:
        (key,) = (product / "keys/private").glob(f"{role}.*.pem")
        assert main(["sign", str(image), "--role", role, "--key", str(key)]) == 0
    roles = [word for role in config.trust.roles for word in ("--role", role)]
    assert main(["verify", str(image), "--root", str(product / "keys/1.root.json"), *roles]) == 0


def test_files_that_are_there_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.toml").write_text("mine")
    assert main(["init", str(tmp_path)]) == 4
    assert f"'{tmp_path}/config.toml' is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]
    assert (tmp_path / "config.toml").read_text() == "mine"
