"""The repository's trusted documents, as a device keeps them: `ROLE.json`, and each root as `roots/N.json`.

Nothing of it is believed: the trust process judges each document again in each refresh, from the root that the device
was built with. A file that is missing, damaged or forged is fetched anew; what it must protect from going back is then
protected by what is left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from twinslot.core.bounds import DOCUMENT_LIMIT
from twinslot.core.errors import DeviceError
from twinslot.storage.sync import make_directory, write_whole
from twinslot.trust.repository_messages import DocumentRequest, quoted

ROOTS: Final = "roots"


class DocumentStore:
    """A directory of documents, made when the first one is saved.

    Args:
        directory: On the data partition.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, request: DocumentRequest) -> bytes | None:
        """What was kept; None: nothing, or it cannot be read."""
        try:
            with self._path(request).open("rb") as file:
                data = file.read(DOCUMENT_LIMIT + 1)
        except OSError:
            return None
        return data if len(data) <= request.limit else None

    def save(self, request: DocumentRequest, data: bytes) -> None:
        """Keep a document: whole or not at all, also through a power cut.

        Raises:
            DeviceError: `device.repository`: the medium does not take it.
        """
        path = self._path(request)
        try:
            make_directory(path.parent, 0o700)
            write_whole(path, data, 0o600)
        except OSError as e:
            hint = "is the data partition mounted, and is there room?"
            raise DeviceError(f"'{path}' cannot be written", code="repository", found=e.strerror, hint=hint) from e

    def _path(self, request: DocumentRequest) -> Path:
        """A quoted name has no separator and an ending, so no role leads out of the directory."""
        if request.role == "root":
            return self._directory / ROOTS / f"{request.version}.json"
        return self._directory / f"{quoted(request.role)}.json"
