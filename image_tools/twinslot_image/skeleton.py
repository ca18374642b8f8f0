"""The first image.toml of a product and the first config.toml of its device, to be edited."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from twinslot.core.errors import Refusal, RefusedError
from twinslot_image.key_files import NewFile, write_together

IMAGE: Final = """# What an image is made of, for 'twinslot-image build image.toml -o NAME.twin'.
# Every key: docs/image-toml.md. Paths are relative to this file.

product = "My Product"          # for people
release = "1.0"                 # for people; '--release' overrides it
sequence = 1                    # orders releases; raise it for each one
compatible = ["acme,board-1"]   # the same as 'device.compatible' in config.toml
architecture = "arm64"          # of the programs in the root file system; amd64, armhf, ...
trust = "keys"                  # made by 'twinslot-image keys init keys'
# checks = ["10-application"]   # health checks that a device must have to take this release

[payloads.rootfs]
file = "rootfs.img"             # an ext4 or erofs file system with the twinslot package in it
# check = "none"                  # for a first try: then the file is not looked into

# [attachments."release-notes.md"]
# file = "notes.md"
"""

CONFIG: Final = """# The configuration of a device: /usr/lib/twinslot/config.toml in its root file system.
# Every key: twinslot-config(5).

[device]
compatible = "acme,board-1"     # an image must be made for it

[slots.a]
rootfs = "/dev/disk/by-partlabel/slot_a"

[slots.b]
rootfs = "/dev/disk/by-partlabel/slot_b"

[trust]
roles = ["engineering", "clinical"]   # each of them must have signed; 1.root.json goes to /usr/lib/twinslot/root.json
# build_time = 2026-11-01T00:00:00Z   # when the root file system was built: no earlier time is believed

# [health]
# units = ["my-product.service"]      # must be active before a release is kept

[trial]
deadline = 180                  # seconds after which a release that was not kept is left
"""


def write_skeletons(directory: Path) -> tuple[Path, ...]:
    """Both files, all or nothing; the directory is made if need be.

    Raises:
        RefusedError: `refused.output-exists`: one of them is there already.
    """
    files = (NewFile(directory / "image.toml", IMAGE.encode()), NewFile(directory / "config.toml", CONFIG.encode()))
    for file in files:
        if file.path.exists():
            hint = "name another directory, or move it away"
            raise RefusedError(Refusal("output-exists", f"'{file.path}' is there already", hint=hint))
    write_together(files)
    return tuple(file.path for file in files)
