"""Finding and merging configuration files, in the manner of systemd: /etc over /run over /usr/lib, and drop-ins.

The first `config.toml` that exists is the main file. Then every `config.d/*.toml` of all three directories, sorted by
name, adds to it; a name in /etc hides the same name in /run and /usr/lib (an empty file or a link to /dev/null masks).
Hidden files, whose names begin with a dot, count for nothing, and neither does any other suffix: what editors and
package tools leave behind. What has the right name and is no file is left out with a warning.
Tables merge key by key; anything else, lists too, is replaced.
"""

from __future__ import annotations

import logging
import os
import tomllib
from pathlib import Path
from typing import Any, Final

from twinslot.config.fields import KeyPath
from twinslot.core.circumstance import is_shortage
from twinslot.core.errors import DeviceError

DIRECTORIES: Final = ("etc/twinslot", "run/twinslot", "usr/lib/twinslot")
log = logging.getLogger(__name__)

SUFFIX: Final = ".toml"
FILE_LIMIT: Final = 1 << 20  # bytes; a configuration is a few hundred lines, anything larger is a mistake


def find(root: Path) -> tuple[Path, ...]:
    """The files that count, in the order in which they are merged.

    Raises:
        DeviceError: `device.config-missing`: there is no main file.
    """
    places = [root / directory for directory in DIRECTORIES]
    main = next((place / "config.toml" for place in places if (place / "config.toml").exists()), None)
    if main is None:
        raise DeviceError(
            "there is no configuration",
            code="config-missing",
            expected=" | ".join(str(place / "config.toml") for place in places),
            hint="twinslot-config(5) lists every key",
        )
    drop_ins: dict[str, Path] = {}
    for place in reversed(places):  # so that /etc is put last and wins
        drop_ins.update(_drop_ins(place / "config.d"))
    return (main, *(path for _, path in sorted(drop_ins.items()) if path != _MASK))


_MASK: Final = Path(os.devnull)


def _drop_ins(directory: Path) -> dict[str, Path]:
    """Files of one directory that count, by name; a link to /dev/null is that."""
    found = {}
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208 - a directory that cannot be listed is told
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as e:
        log.warning("the drop-ins in '%s' cannot be listed: %s", directory, e.strerror)
        return {}
    for name in names:
        path = directory / name
        if not name.endswith(SUFFIX) or name.startswith("."):
            continue
        if path.is_symlink() and os.path.realpath(path) == os.devnull:
            found[name] = _MASK
        elif path.is_file():
            found[name] = path
        else:
            log.warning("'%s' is left out of the configuration: it is no file, or a link to nowhere", path)
    return found


def merge(files: tuple[Path, ...]) -> tuple[dict[str, Any], dict[KeyPath, Path]]:
    """Read and merge; the second value says which file said each key."""
    merged: dict[str, Any] = {}
    origins: dict[KeyPath, Path] = {}
    for path in files:
        _merge_table(merged, _parse(path), origins, (), path)
    return merged, origins


def merge_readable(files: tuple[Path, ...]) -> tuple[dict[str, Any], dict[KeyPath, Path], list[DeviceError]]:
    """As `merge`, leaving out drop-ins that cannot be read; the third value says what is wrong with them.

    Raises:
        DeviceError: The main file cannot be read, or a drop-in whose text speaks of health.
    """
    merged: dict[str, Any] = {}
    origins: dict[KeyPath, Path] = {}
    faults: list[DeviceError] = []
    for path in files:
        try:
            table = _parse(path)
        except DeviceError as e:
            if path == files[0] or _speaks_of_health(path):
                raise
            faults.append(e)
        else:
            _merge_table(merged, table, origins, (), path)
    return merged, origins, faults


def _speaks_of_health(path: Path) -> bool:
    """Whether a file that is no TOML may have named a health check."""
    try:
        with path.open("rb") as stream:
            return b"health" in stream.read(FILE_LIMIT)
    except OSError as e:
        return is_shortage(e)  # what could be read a moment later may name one


def _parse(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            data = stream.read(FILE_LIMIT + 1)
        if len(data) > FILE_LIMIT:
            raise DeviceError(
                f"the configuration '{path}' is too large",
                code="config-syntax",
                expected=f"at most {FILE_LIMIT} bytes",
                found="more",
            )
        return tomllib.loads(data.decode())
    except OSError as e:
        raise DeviceError(f"the configuration '{path}' cannot be read", code="config-unreadable", found=e) from e
    except tomllib.TOMLDecodeError as e:
        raise _no_toml(path, e) from e
    except UnicodeDecodeError as e:
        raise _no_toml(path, "bytes that are no UTF-8 text") from e
    except RecursionError as e:
        raise _no_toml(path, "tables too deep in each other") from e


def _no_toml(path: Path, found: object) -> DeviceError:
    return DeviceError(
        f"the configuration '{path}' is not TOML", code="config-syntax", expected="TOML 1.0", found=found
    )


def _merge_table(
    into: dict[str, Any], table: dict[str, Any], origins: dict[KeyPath, Path], at: KeyPath, path: Path
) -> None:
    for key, value in table.items():
        origins[(*at, key)] = path
        if isinstance(value, dict):
            if not isinstance(into.get(key), dict):
                into[key] = {}
            _merge_table(into[key], value, origins, (*at, key), path)
        else:
            into[key] = value
