"""What the operating system refused, in words for people: no numbers, no names that nobody gave."""

from __future__ import annotations

import errno
from pathlib import Path

from twinslot.core.errors import DeviceError


def system_error(error: OSError) -> DeviceError:
    """The error for a file that cannot be used; `device.file`."""
    name = error.filename if isinstance(error.filename, str) else None
    if name is None and isinstance(error.filename, bytes):
        name = error.filename.decode(errors="replace")
    if name is None:
        return DeviceError("the system refused", code="file", found=error.strerror or str(error))
    what = _SENTENCES.get(error.errno or 0)
    if error.errno == errno.ENOENT and not Path(name).parent.is_dir():
        return DeviceError(f"there is no directory '{Path(name).parent}'", code="file", found=name)
    if what is None:
        return DeviceError(f"'{name}' cannot be used", code="file", found=error.strerror or str(error))
    return DeviceError(what.format(name=name), code="file")


_SENTENCES = {
    errno.ENOENT: "there is no file '{name}'",
    errno.EISDIR: "'{name}' is a directory, not a file",
    errno.ENOTDIR: "a part of the path '{name}' is no directory",
}
