"""U-Boot's redundant environment, written by libubootenv's `fw_setenv -s`, judged by the raw copies alone (S4).

Each decision is one run of the tool. Its exit status proves nothing in either direction: it ignores the result of its
fsync, skips variables that their attributes protect, and may be killed after the data landed. So both copies are read
past the page cache before and after, and exactly one of them may have changed, to exactly what was asked.

What libubootenv 0.3.2 (Debian 12) to 0.3.7 do, read in src/fw_printenv.c and src/uboot_env.c:
- `-s` always writes, even when nothing changed: that is how `settle` gets the other copy written.
- When the environment cannot be read, be it one bad sector, it silently starts from /etc/u-boot-initial-env and
  writes that. `-f` with a path that cannot exist makes it stop instead; only `reset` names a real file.
- Script lines are cut at 1023 bytes, and a line without '=' is skipped; `name=` removes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from twinslot.bootloader.base import CopyState, Environment, Place
from twinslot.bootloader.env_lines import make_script, read_default
from twinslot.bootloader.uboot import rawenv
from twinslot.bootloader.uboot import tool_lock as toollock
from twinslot.bootloader.uboot.copies import read_copies
from twinslot.bootloader.uboot.medium import Medium
from twinslot.core.circumstance import is_shortage, shortage
from twinslot.core.errors import DeviceError, LifecycleError
from twinslot.core.model import UBOOT, LoaderTraits
from twinslot.system import process

NO_DEFAULT: Final = "/dev/null/none"  # below a device there can be no file


class _PartlyWrittenError(Exception):
    """The tool left out some of the changes, for example because their attributes protect them."""

    def __init__(self, index: int, names: set[str]) -> None:
        super().__init__("not written: " + ", ".join(sorted(names)))
        self.index = index


class UBoot:
    """Implements `ConfiguredBootloader`.

    Args:
        fw_env_config: Where the copies stand; read anew each time, the tool reads it too.
        fw_setenv: The program.
        default_env: Default environment, name=value lines, for `reset`.
        timeout: Seconds for one run of the program.
    """

    def __init__(
        self,
        fw_env_config: Path,
        *,
        fw_setenv: str = "fw_setenv",
        default_env: Path | None = None,
        timeout: float = 30.0,
    ) -> None:
        self._config, self._program = fw_env_config, fw_setenv
        self._default, self._timeout = default_env, timeout

    def describe(self) -> LoaderTraits:
        """U-Boot counts, hands over and tells why: the script does (bootloader_hooks/uboot/common.env)."""
        return UBOOT

    def read(self) -> Environment:
        """Read both copies past the page cache; see `Bootloader`.

        Raises:
            DeviceError: `device.env-config`, `env-medium`, `env-gone` (nothing could be read) or `env-size` (U-Boot
                wrote with another size).
        """
        with Medium(self.places()) as medium:
            return read_copies(medium)

    def write(self, changes: Mapping[str, str], since: Environment | None = None) -> Environment:
        """Change variables in one redundant write; see `Bootloader`.

        Raises:
            LifecycleError: A name or value that the tools would not carry unchanged.
            DeviceError: `device.env-lost` (call `reset`), `env-redundant`, `env-unreadable`, `env-tool`, `env-write`.
        """
        return self._store(changes, since)

    def settle(self, since: Environment | None = None) -> Environment:
        """Write the current variables once more when the copies differ; see `Bootloader`."""
        now = self._store({}, since, unless_settled=True)
        if not now.settled:
            raise _not_landed("the copies of the boot environment still differ", now, None)
        return now

    def reset(self, changes: Mapping[str, str], since: Environment | None = None) -> Environment:
        """Write default environment and changes to both copies, which are lost; see `Bootloader`.

        Raises:
            LifecycleError: A copy is good.
            DeviceError: `device.env-default`: no default, or it cannot be used; or as for `write`.
        """
        if self._default is None:
            raise DeviceError(
                "the boot environment is lost and there is no default",
                code="env-default",
                hint="set 'boot.default_env'",
            )
        return self.settle(self._store(changes, since, read_default(self._default)))

    def places(self) -> tuple[Place, ...]:
        """As fw_env.config says it now; see `ConfiguredBootloader`."""
        try:
            text = self._config.read_text()
        except OSError as e:
            raise DeviceError(f"'{self._config}' cannot be read", code="env-config", found=e) from e
        except UnicodeDecodeError as e:
            found = "bytes that are not UTF-8"
            raise DeviceError(
                f"'{self._config}' cannot be read", code="env-config", expected="text", found=found
            ) from e
        return rawenv.parse_config(text, str(self._config))

    def exposed(self, below: Callable[[Path], Path]) -> Iterator[tuple[Path, str]]:
        """The locks of the tools; see `ConfiguredBootloader`."""
        for path in toollock.TOOL_LOCKS:
            if (why := toollock.fault(below(path))) is not None:
                yield path, why

    def _store(
        self,
        changes: Mapping[str, str],
        since: Environment | None,
        default: Mapping[str, str] | None = None,
        *,
        unless_settled: bool = False,
    ) -> Environment:
        """One run of the tool, on top of the current copy or, if that is lost, of a default."""
        script = make_script(changes)
        with Medium(self.places()) as medium:
            before = since if since and _is_of(since, medium) else read_copies(medium)
            if unless_settled and before.settled:
                return before
            _check_writable(before, fresh=default is not None)
            base = before.variables if default is None else default
            wanted = {
                name: value for name, value in (dict(base) | dict(changes)).items() if value or name not in changes
            }
            ended = self._run(script, self._default if default is not None else None)
            flushed = _flush(medium)
            now = self._accept(medium, before, wanted, set(changes), ended)
            if flushed is not None:
                raise _not_landed("the boot environment was written, but may not last", now, ended, flushed.strerror)
            return now

    def _accept(
        self, medium: Medium, before: Environment, wanted: dict[str, str], asked: set[str], ended: str
    ) -> Environment:
        """Judge what stands there now; a decision that was written in part is undone."""
        try:
            return _judge(before, read_copies(medium), wanted, asked, ended)
        except _PartlyWrittenError as e:
            medium.restore(e.index, before.raw[e.index] or b"")  # readable: checked before the write
            now = read_copies(medium)
            raise _not_landed("part of the decision was written and is undone again", now, ended, e) from e

    def _run(self, script: bytes, default: Path | None) -> str:
        """Run the tool; returns how it ended, for messages only."""
        argv = [self._program, "-c", str(self._config), "-f", str(default or NO_DEFAULT), "-s", "-"]
        toollock.make_private()
        try:
            ended = process.run(argv, timeout=self._timeout, stdin=script, umask=0o077)
            return f"'{self._program}' {ended.complaint()}"
        except OSError as e:
            if is_shortage(e):
                raise shortage(f"the program '{self._program}' cannot be started now", e) from e
            raise DeviceError(
                f"the program '{self._program}' cannot be started",
                code="env-tool",
                found=e.strerror,
                hint="is the package libubootenv-tool installed?",
            ) from e


def _flush(medium: Medium) -> OSError | None:
    try:
        medium.flush()
    except OSError as e:
        return e
    return None


def _is_of(seen: Environment, medium: Medium) -> bool:
    """What was seen stood at these places, as fw_env.config names them now, and its bytes are known."""
    return len(seen.raw) == len(seen.copies) and [each.place for each in seen.copies] == [*map(str, medium.places)]


def _check_writable(before: Environment, *, fresh: bool) -> None:
    if len(before.copies) < 2:
        raise DeviceError(
            "the boot environment has one copy: a power cut inside a write would lose it",
            code="env-redundant",
            expected="two lines in fw_env.config and a redundant environment in U-Boot",
        )
    if fresh and not before.lost:
        raise LifecycleError(
            "a good copy of the boot environment stands, so there is nothing to reset", code="env-reset"
        )
    if not fresh and before.lost:
        raise DeviceError(
            "both copies of the boot environment are lost", code="env-lost", hint="the default must be written first"
        )
    for copy in before.copies:
        if copy.state is CopyState.UNREADABLE:
            raise DeviceError(
                f"the boot environment's copy {copy.place} cannot be read, so none is written",
                code="env-unreadable",
                hint="the medium is failing",
            )


# keeps: S4
def _judge(before: Environment, now: Environment, wanted: dict[str, str], asked: set[str], ended: str) -> Environment:
    """Exactly one copy changed, it was not the current one, and it now counts and says what was asked."""
    changed = [index for index, raw in enumerate(now.raw) if raw != before.raw[index]]
    if not changed:
        raise _not_landed("nothing was written to the boot environment", now, ended)
    old, new = before.copies[changed[0]], now.copies[changed[0]]
    if len(changed) > 1 or old.state is CopyState.CURRENT:
        raise _not_landed("the current copy of the boot environment was overwritten", now, ended)
    if new.state is not CopyState.CURRENT:
        raise _not_landed(f"the copy {new.place} was written, but does not count", now, ended, new.state)
    wrong = {name for name in wanted.keys() | new.variables.keys() if wanted.get(name) != new.variables.get(name)}
    if wrong and wrong <= asked:
        raise _PartlyWrittenError(changed[0], wrong)
    if wrong:  # then somebody else has written, and it is not ours to undo
        raise _not_landed("something else was written to the boot environment", now, ended, ", ".join(sorted(wrong)))
    return now


def _not_landed(message: str, now: Environment, ended: str | None, found: object = None) -> DeviceError:
    stands = ", ".join(f"{copy.place}: {copy.state}" for copy in now.copies)
    return DeviceError(
        message,
        code="env-write",
        expected="one copy changed, as asked",
        found=found or ended or stands,
        hint=f"{ended}; {stands}" if ended and found else stands,
    )
