"""A repository in a directory, for example on a stick: the same documents, asked for as from a server.

Whoever asks judges what came; here it is only bounded, and read by nobody: bytes are handed on. Nothing outside of the
directory is read: no link is followed and no way up, and what is not a regular file counts as absent, so that a pipe or
a device on a hostile stick holds nobody up.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Final, Protocol

from twinslot.core.errors import TransportError
from twinslot.transport.http.small_file import MISSING, OK, SmallFile

METADATA: Final = "metadata"  # folder of the documents; a directory without it is no repository
NO_REPOSITORY: Final = "transport.directory"
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


class Fetcher(Protocol):
    """What brings small files: `worker.file_fetcher.FileFetcher`, or a directory.

    Attributes:
        wait: Seconds for which the source wanted to be left alone in its last answer; 0: it did not say so.
    """

    wait: float

    def get(self, url: str, limit: int, etag: str = "", modified: str = "") -> SmallFile:
        """One file of at most `limit` bytes.

        Raises:
            TwinslotError: It cannot be had.
        """
        ...

    def close(self) -> None:
        """Let go of what is held."""
        ...


class DirectoryFetcher:
    """Files below one directory.

    Args:
        directory: With `metadata`, `targets` and `images`, as `twinslot-image repository publish` makes it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.wait = 0.0

    # keeps: REQ-REP-05
    def get(self, url: str, limit: int, etag: str = "", modified: str = "") -> SmallFile:  # noqa: ARG002 - has none
        """One file of at most `limit` bytes; a file that is not there is an answer, as from a server.

        Args:
            url: Path of the file, which begins with the directory's.
            limit: Bytes.
            etag: Not used: a file has no validator, and reading it costs nothing.
            modified: Likewise.

        Raises:
            TransportError: `transport.directory`: there is no repository; `transport.too-long`; `transport.read`.
        """
        names = url.removeprefix(str(self._directory)).strip("/").split("/")
        with contextlib.ExitStack() as opened:
            try:
                descriptor = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
                opened.callback(os.close, descriptor)
                os.stat(METADATA, dir_fd=descriptor)
            except OSError as e:
                raise _no_repository(self._directory, e.strerror) from e
            if ".." in names:
                return SmallFile(MISSING[-1])
            try:
                for name in names:
                    descriptor = os.open(name, _FLAGS, dir_fd=descriptor)
                    opened.callback(os.close, descriptor)
            except OSError:  # a link, too, and a file where a folder should be
                return SmallFile(MISSING[-1])
            return _content(descriptor, url, limit)

    def close(self) -> None:
        """Nothing is held between files."""


def _no_repository(directory: Path, found: str | None) -> TransportError:
    """There is none in this directory, or the stick is gone."""
    hint = "is the stick mounted? The directory is the one with 'metadata', 'targets' and 'images' in it"
    return TransportError(f"'{directory}' holds no repository", code="directory", found=found, hint=hint)


def _content(descriptor: int, path: str, limit: int) -> SmallFile:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return SmallFile(MISSING[-1])
    content = b""
    try:
        while len(content) <= limit and (chunk := os.read(descriptor, limit + 1 - len(content))):
            content += chunk
    except OSError as e:
        raise TransportError(f"'{path}' cannot be read", code="read", found=e.strerror) from e
    if len(content) > limit:
        what = f"the file '{path}' is too long"
        raise TransportError(what, code="too-long", expected=f"at most {limit} bytes", found="more")
    return SmallFile(OK, content)
