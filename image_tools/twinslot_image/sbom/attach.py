"""The bills of materials that `build` makes by itself (`sbom = "auto"` in image.toml)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from twinslot.core.attachments import MEDIA_TYPES, SBOM
from twinslot.core.bounds import ATTACHMENT_SIZE_MAX
from twinslot.core.errors import ImageError
from twinslot_image.compose import AttachedFile
from twinslot_image.description import Description, PayloadSource
from twinslot_image.file_digest import file_digest
from twinslot_image.progress import ProgressLine
from twinslot_image.sbom.document import BillSubject, make_sbom
from twinslot_image.sbom.files import open_root
from twinslot_image.sbom.inventory import take_inventory
from twinslot_image.sbom.spdx import read_spdx

NAME: Final = "sbom.cdx.json"  # CycloneDX, "Recognized file patterns"


def sbom_names(description: Description) -> list[str]:
    """Names of the attachments to come, one for each root file system."""
    names = [source.name for source in _sources(description)]
    return [NAME if len(names) == 1 else f"sbom-{name}.cdx.json" for name in names]


# keeps: REQ-IMG-26
def make_sboms(description: Description, now: datetime) -> Iterator[AttachedFile]:
    """Read each root file system, and attach what it consists of.

    Args:
        description: Of the image.
        now: When it is built, UTC.

    Raises:
        ImageError: A database cannot be read, or the bill is larger than an attachment may be.
        RefusedError: `refused.library-missing`.
    """
    others = read_spdx(description.spdx) if description.spdx else []
    for source, name in zip(_sources(description), sbom_names(description), strict=True):
        digests = {source.name: file_digest(source.file)}
        label = f"listing {source.name}"
        with open_root(source.file) as root, ProgressLine(label, 0, "files") as progress:
            inventory = take_inventory(root, source.foreign, progress.update)
        data = make_sbom(inventory, BillSubject(description.product, description.release, digests, now), others)
        if len(data) > ATTACHMENT_SIZE_MAX:
            what = f"the bill of materials of payload '{source.name}' is too large to be attached"
            raise ImageError(what, code="sbom", expected=f"at most {ATTACHMENT_SIZE_MAX} bytes", found=len(data))
        yield AttachedFile(name, MEDIA_TYPES[SBOM], data, SBOM)


def _sources(description: Description) -> list[PayloadSource]:
    found = [source for source in description.payloads if source.check == "rootfs"]
    return sorted(found, key=lambda source: source.name) if description.sbom == "auto" else []
