"""U-Boot for a board: Debian's source, our patch, our configuration, our boot script."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from twinslot_lab.apt import PrivateApt
from twinslot_lab.cache import cached, fingerprint
from twinslot_lab.command import BUILD, ROOT, run, run_logged
from twinslot_lab.description import BoardDescription
from twinslot_lab.errors import BuildError

HOOKS = ROOT / "bootloader_hooks" / "uboot"
_EPOCH = "1700000000"  # any fixed time: it ends up in the version banner
# docs/boot-contract.md section 2; the patch lists the same as what the card may set, with a pattern for ts_*.
CONTRACT = (
    *(
        "slot",
        "slot_a",
        "slot_b",
        "upgrade_available",
        "bootcount",
        "ts_generation",
        "ts_txn",
        "ts_release",
        "ts_release_epoch",
    ),
    *("ts_sequence", "ts_epoch", "ts_root", "ts_failed", "ts_reason", "ts_back", "ts_audit", "ts_retired"),
)


def flatten(text: str) -> list[str]:
    """The environment text with one line for each variable: comments gone, indented lines joined to the one before.

    Raises:
        BuildError: A line is neither a variable nor the continuation of one.
    """
    lines: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line[0].isspace() and lines:
            lines[-1] += " " + line.strip()
        elif "=" in line and not line[0].isspace():
            lines.append(line.rstrip())
        else:
            raise BuildError(f"environment text: '{line}' is not name=value")
    return lines


def default_environment(board: BoardDescription) -> dict[str, str]:
    """U-Boot's built-in environment for this board: the common script and the board's part."""
    text = (HOOKS / "common.env").read_text() + (board.hooks / "board.env").read_text()
    return dict(line.partition("=")[::2] for line in flatten(text))


def initial_environment(board: BoardDescription) -> str:
    """The text of /etc/u-boot-initial-env: what libubootenv starts from when both copies are lost."""
    pairs = default_environment(board).items()
    return "".join(f"{name}={value}\n" for name, value in pairs if name in CONTRACT)


def build(board: BoardDescription) -> Path:
    """The U-Boot image, from the cache or built (about two minutes on two cores)."""
    own = [HOOKS / "common.env", HOOKS / "common.config", HOOKS / "patches", board.hooks]
    key = fingerprint(*own, vars_of(board), Path(__file__))
    return cached(f"uboot-{board.name}", key, lambda work: _build(board, work)) / board.firmware.image


def vars_of(board: BoardDescription) -> list[str]:
    """What of the description goes into U-Boot."""
    firmware = board.firmware
    return [firmware.source, firmware.suite, firmware.defconfig, firmware.cross_compile, firmware.image]


def _source(board: BoardDescription) -> Path:
    """Debian's source, unpacked once for each suite and set of patches."""

    def make(work: Path) -> None:
        apt = PrivateApt(work / "apt", board.firmware.suite)
        apt.unpack_source(board.firmware.source, work / "source")
        for patch in sorted((HOOKS / "patches").glob("*.patch")):
            run("patch", "-p1", "-s", "-i", patch, cwd=work / "source")

    key = fingerprint(board.firmware.source, board.firmware.suite, HOOKS / "patches")
    return cached("uboot-source", key, make) / "source"


def _build(board: BoardDescription, work: Path) -> None:
    source = _source(board)
    objects = BUILD / "work" / f"uboot-{board.name}"
    shutil.rmtree(objects, ignore_errors=True)
    objects.mkdir(parents=True)
    log = BUILD / "log" / f"uboot-{board.name}.log"
    env = {"CROSS_COMPILE": board.firmware.cross_compile, "SOURCE_DATE_EPOCH": _EPOCH}
    text = "".join(f"{name}={value}\n" for name, value in default_environment(board).items())
    (objects / "default.env").write_text(text)
    (objects / "path.config").write_text(f'CONFIG_DEFAULT_ENV_FILE="{objects}/default.env"\n')
    make: list[str | Path] = ["make", "-s", "-C", source, f"O={objects}"]
    fragments = [HOOKS / "common.config", board.hooks / "board.config", objects / "path.config"]
    run_logged(log, *make, board.firmware.defconfig, env=env)
    merge: list[str | Path] = [
        "sh",
        "scripts/kconfig/merge_config.sh",
        "-m",
        "-O",
        objects,
        objects / ".config",
        *fragments,
    ]
    run_logged(log, *merge, cwd=source, env=env | {"KCONFIG_CONFIG": str(objects / ".config")})
    run_logged(log, *make, "olddefconfig", env=env)
    _check_configuration(objects / ".config", fragments)
    run_logged(log, *make, f"-j{os.cpu_count() or 1}", env=env)
    for name in (board.firmware.image, ".config", "default.env"):
        shutil.copy(objects / name, work / name.lstrip("."))
    shutil.rmtree(objects)


def _check_configuration(result: Path, fragments: list[Path]) -> None:
    """U-Boot drops settings whose dependencies are missing, silently; a boot contract must not."""
    have = set(result.read_text().splitlines())
    for fragment in fragments:
        for line in fragment.read_text().splitlines():
            if not _taken(line, have):
                raise BuildError(f"U-Boot's configuration did not take '{line}' from {fragment.name}")


def _taken(line: str, have: set[str]) -> bool:
    if line.startswith("CONFIG_"):
        return line in have
    if line.startswith("# CONFIG_"):  # "# CONFIG_X is not set": absent is as good
        return not any(entry.startswith(line.split()[1] + "=") for entry in have)
    return True
