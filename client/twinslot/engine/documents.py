"""The documents of a release on their way to the data partition, beside the bytes that go into the slot."""

from __future__ import annotations

from twinslot.core.attachments import check_attachment
from twinslot.core.errors import ImageError
from twinslot.core.manifest import Manifest
from twinslot.core.stream import AttachmentPart
from twinslot.payloads.local_content import LocalContent
from twinslot.storage.attachments import FOR_ALL, FOR_ROOT


class Documents:
    """Those of one install. They never decide about it: what cannot be stored is only missing.

    Args:
        local: Knows the target, and where documents are kept.
        manifest: Verified and accepted.
        document: The same, as it came.
    """

    def __init__(self, local: LocalContent, manifest: Manifest, document: bytes) -> None:
        self._store, self._target, self._document = local.documents, local.target, document
        self._mode = FOR_ROOT if manifest.encrypted else FOR_ALL
        fitting = self._store.fitting(manifest.attachments) if self._store else ()
        self._wanted = {each.name: each for each in fitting}

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of those that are kept."""
        return tuple(self._wanted)

    def drop(self) -> None:
        """Those of the release before are of no slot any more."""
        if self._store:
            self._store.drop(self._target)

    # keeps: S2
    def take(self, part: AttachmentPart) -> None:
        """Keep one, if it is what was signed.

        Raises:
            ImageError: `image.order`: it was not asked for, or comes twice; `image.attachment`: it is another one.
        """
        attachment = self._wanted.pop(part.name, None)
        if attachment is None or self._store is None:
            raise ImageError(f"the worker sent the attachment '{part.name}', which was not requested", code="order")
        self._store.save(self._target, part.name, check_attachment(attachment, part.data), self._mode)

    def complete(self) -> None:
        """The slot holds the release: from here on its documents count."""
        if self._store:
            self._store.complete(self._target, self._document)
