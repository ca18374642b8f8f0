"""A release team in a directory: keys, and signed images of any content, made by the real tools."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from twinslot_image.cli import main

TOML = """
product = "Pump"
release = "{release}"
sequence = {sequence}
epoch = {epoch}
compatible = {compatible}
checks = {checks}
hardware = {hardware}
variants = {variants}
trust = "{trust}"
expires = {expires}
group_size = {group_size}
[payloads.rootfs]
file = "{file}"
check = "none"
"""


@dataclass(frozen=True)
class ReleaseBench:
    """Makes images. `directory/keys/1.root.json` is what a device trusts."""

    directory: Path

    @staticmethod
    def make(directory: Path) -> ReleaseBench:
        """With fresh keys: one for engineering, one for clinical."""
        assert main(["keys", "init", str(directory / "keys"), "--roles", "engineering,clinical"]) == 0
        return ReleaseBench(directory)

    @property
    def root(self) -> Path:
        """The root of trust."""
        return self.directory / "keys/1.root.json"

    def recipient(self, name: str, kind: str = "x25519") -> Path:
        """The private key of a new recipient; its public key stands beside it."""
        private = self.directory / f"{name}.pem"
        assert main(["recipients", "new", str(private), "--kind", kind]) == 0
        return private

    def image(
        self,
        name: str,
        sequence: int,
        content: bytes,
        *,
        epoch: int = 0,
        compatible: tuple[str, ...] = ("acme,pump-3",),
        checks: tuple[str, ...] = (),
        hardware: tuple[str, ...] = (),
        variants: tuple[str, ...] = (),
        roles: tuple[str, ...] = ("engineering", "clinical"),
        expires: datetime = datetime(2099, 1, 1, tzinfo=UTC),
        group_size: int = 65536,
        trust: str = "keys",
        recipients: tuple[Path | str, ...] = (),
        cipher: str = "chacha20-poly1305",
        more: str = "",
    ) -> Path:
        """One image, signed by these roles with the keys of the directory `trust`."""
        content_file = self.directory / f"{name}.bin"
        content_file.write_bytes(content)
        description = self.directory / f"{name}.toml"
        description.write_text(
            TOML.format(
                release=name,
                sequence=sequence,
                epoch=epoch,
                compatible=list(compatible),
                checks=list(checks),
                hardware=list(hardware),
                variants=list(variants),
                expires=expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
                file=content_file.name,
                group_size=group_size,
                trust=trust,
            )
        )
        with description.open("a") as file:
            file.write(more)
        if recipients:
            with description.open("a") as file:
                file.write(f"[encryption]\ncipher = '{cipher}'\nrecipients = {[str(each) for each in recipients]}\n")
        image = self.directory / f"{name}.twin"
        assert main(["build", str(description), "-o", str(image), "--force"]) == 0
        self.sign(image, roles, trust)
        return image

    def sign(self, image: Path, roles: tuple[str, ...] = ("engineering", "clinical"), trust: str = "keys") -> None:
        """By these roles, with the keys of the directory `trust`."""
        for role in roles:
            (key,) = (self.directory / trust / "private").glob(f"{role}.*.pem")
            assert main(["sign", str(image), "--role", role, "--key", str(key)]) == 0
