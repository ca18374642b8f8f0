"""Where an image comes from: a file that this process opens, a URL, or standard input."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from typing import Final

from twinslot.core.errors import TransportError

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")  # RFC 3986, section 3
SCHEMES: Final = ("http", "https")


@contextlib.contextmanager
def opened(image: str) -> Iterator[str | int]:
    """The URL as it stands, or an open descriptor, closed afterwards (standard input stays open).

    A file is opened here, with the caller's rights, so that a service never opens a path for somebody else.

    Raises:
        TransportError: `transport.file`, `transport.scheme`, `transport.terminal`.
    """
    if image == "-":
        yield _standard_input()
        return
    if found := _URL.match(image):
        _check_scheme(found[1])
        yield image
        return
    descriptor = _open(image)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _standard_input() -> int:
    descriptor = 0  # POSIX: STDIN_FILENO
    try:
        if not os.isatty(descriptor):
            os.fstat(descriptor)
            return descriptor
    except OSError as e:
        raise TransportError("standard input is closed", code="file", found=e.strerror) from e
    raise TransportError(
        "standard input is a terminal",
        code="terminal",
        expected="an image",
        hint="pipe an image in, or name a file",
    )


def _check_scheme(scheme: str) -> None:
    if scheme.lower() not in SCHEMES:
        raise TransportError(
            "this kind of address is not known", code="scheme", expected=" or ".join(SCHEMES), found=scheme
        )


def _open(path: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as e:  # ValueError: a NUL in the name
        found = e.strerror if isinstance(e, OSError) else e
        raise TransportError(f"the image '{path}' cannot be opened", code="file", found=found) from e
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise TransportError(f"the image '{path}' cannot be read", code="file", expected="a file", found="a directory")
    return descriptor
