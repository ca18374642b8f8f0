"""Where an image comes from: a file that this process opens, a URL, or standard input."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from typing import Final

from twinslot.core.address import parse_address
from twinslot.core.errors import TransportError, UsageError

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")  # RFC 3986, section 3
SCHEMES: Final = ("http", "https")
_TYPED: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO})


@contextlib.contextmanager
def opened(image: str) -> Iterator[str | int]:
    """The URL as it stands, or an open descriptor, closed afterwards (standard input stays open).

    A file is opened here, with the caller's rights, so that a service never opens a path for somebody else.

    Raises:
        UsageError: `usage.file`, `usage.scheme`, `usage.url`, `usage.terminal`: what was typed is no image.
        TransportError: `transport.file`: the medium fails.
    """
    if image == "-":
        yield _standard_input()
        return
    if found := _URL.match(image):
        _check_address(found[1], image)
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
        raise UsageError("standard input is closed", code="file", found=e.strerror) from e
    raise UsageError(
        "standard input is a terminal",
        code="terminal",
        expected="an image",
        hint="pipe an image in, or name a file",
    )


def _check_address(scheme: str, url: str) -> None:
    if scheme.lower() not in SCHEMES:
        raise UsageError(
            "this kind of address is not known", code="scheme", expected=" or ".join(SCHEMES), found=scheme
        )
    try:
        parse_address(url)
    except TransportError as e:
        raise UsageError(e.message, code="url", expected=e.expected, hint=e.hint) from e


def _open(path: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    except ValueError as e:  # a NUL in the name
        raise UsageError(f"the image '{path}' cannot be opened", code="file", found="no name of a file") from e
    except OSError as e:
        kind = UsageError if e.errno in _TYPED else TransportError
        raise kind(f"the image '{path}' cannot be opened", code="file", found=e.strerror) from e
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"the image '{path}' cannot be read", code="file", expected="a file", found="a directory")
    return descriptor
