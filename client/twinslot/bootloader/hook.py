"""Any other boot loader, reached through an executable with RAUC's verbs and three more.

`get-environment` and `set-environment` carry the whole boot contract; what they must guarantee stands in
bootloader_hooks/README.md. The hook keeps its own copies and says by the exit status of `get-environment` whether they
agree. `describe` says what the boot loader does by itself. How a write ended proves nothing: the environment is read
again, and `get-primary` and `get-state` must say the same of the slots.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from twinslot.bootloader.base import CopyState, Environment, EnvironmentCopy, Place
from twinslot.bootloader.env_lines import make_script, read_default
from twinslot.bootloader.traits import parse_traits
from twinslot.core.circumstance import is_shortage, shortage
from twinslot.core.errors import DeviceError, LifecycleError
from twinslot.core.model import UBOOT, LoaderTraits, SlotName, SlotState
from twinslot.system import process

WRONG_CALL: Final = 2  # exit status of any verb: nothing was done
LOST: Final = 3  # exit status of get-environment: every copy is damaged or missing, the boot loader's default is in use
UNSETTLED: Final = 4  # of get-environment: printed, but another copy is damaged or says something else
OUTPUT_LIMIT: Final = 1 << 18  # bytes; more than any environment


class Hook:
    """Implements `ConfiguredBootloader`.

    Args:
        hook: The executable.
        default_env: Default environment, name=value lines, for `reset`.
        timeout: Seconds for one call.
    """

    def __init__(self, hook: Path, *, default_env: Path | None = None, timeout: float = 30.0) -> None:
        self._hook, self._default, self._timeout = hook, default_env, timeout
        self._traits: LoaderTraits | None = None

    def describe(self) -> LoaderTraits:
        """Ask the hook, once; see `Bootloader`. A hook of before, which does not know the verb, is as U-Boot is.

        Raises:
            DeviceError: `device.env-hook`.
        """
        if self._traits is None:
            ended = self._call("describe")
            if ended.status not in (0, WRONG_CALL) or ended.cut:
                raise self._error("describe", "what the boot loader does, or status 2", ended.complaint())
            try:
                self._traits = UBOOT if ended.status == WRONG_CALL else parse_traits(ended.stdout.decode())
            except ValueError as e:
                raise self._error("describe", "lines of name=yes, name=no or copies=NUMBER", str(e)[:100]) from e
        return self._traits

    def read(self) -> Environment:
        """Ask the hook; see `Bootloader`.

        Raises:
            DeviceError: `device.env-hook`: it could not be run, or what it says cannot be used.
        """
        ended = self._call("get-environment")
        if ended.status == LOST:
            return Environment({}, (EnvironmentCopy(str(self._hook), CopyState.CORRUPT),))
        if ended.status not in (0, UNSETTLED) or ended.cut:
            raise self._error("get-environment", "the environment", ended.complaint())
        variables = self._parse(ended.stdout)
        copies = [EnvironmentCopy(str(self._hook), CopyState.CURRENT, None, variables)]
        if ended.status == UNSETTLED:
            copies.append(EnvironmentCopy(f"{self._hook}, another copy", CopyState.CORRUPT))
        return Environment(variables, tuple(copies))

    def write(self, changes: Mapping[str, str], since: Environment | None = None) -> Environment:
        """Change variables, all or none; see `Bootloader`.

        Raises:
            LifecycleError: A name or value that the tools would not carry unchanged.
            DeviceError: `device.env-lost`, `env-hook`, `env-write`.
        """
        script = make_script(changes)
        before = since or self.read()
        if before.lost:
            raise DeviceError("the boot environment is lost", code="env-lost", hint="the default must be written first")
        return self._store(script, dict(before.variables) | dict(changes))

    def settle(self, since: Environment | None = None) -> Environment:
        """Have the hook write what stands there once more, if a copy differs; see `Bootloader`."""
        now = since or self.read()
        if now.lost:
            raise _lost()
        if now.settled:
            return now
        now = self._store(make_script({}), now.variables)
        if not now.settled:
            raise self._error("set-environment", "every copy the same", "copies that still differ")
        return now

    def reset(self, changes: Mapping[str, str], since: Environment | None = None) -> Environment:
        """Write default environment and changes; see `Bootloader`.

        Raises:
            LifecycleError: The environment is not lost.
            DeviceError: `device.env-default`, or as for `write`.
        """
        if self._default is None:
            raise DeviceError(
                "the boot environment is lost and there is no default",
                code="env-default",
                hint="set 'boot.default_env'",
            )
        wanted = read_default(self._default) | dict(changes)
        script = make_script(wanted)
        if not (since or self.read()).lost:
            raise LifecycleError("the boot environment is not lost, so there is nothing to reset", code="env-reset")
        return self._store(script, wanted)

    def places(self) -> tuple[Place, ...]:
        """None that the client knows: a hook keeps its copies where and how it wants."""
        return ()

    def exposed(self, below: Callable[[Path], Path]) -> Iterator[tuple[Path, str]]:  # noqa: ARG002
        """None: the client calls no other tool than the hook."""
        return iter(())

    def _store(self, script: bytes, wanted: Mapping[str, str]) -> Environment:
        ended = self._call("set-environment", stdin=script)
        now = self.read()
        expected = {name: value for name, value in wanted.items() if value}
        wrong = sorted(n for n in expected.keys() | now.variables.keys() if expected.get(n) != now.variables.get(n))
        if wrong:
            raise DeviceError(
                "the decision did not reach the boot environment",
                code="env-write",
                expected=", ".join(f"{name}={expected.get(name, '')}" for name in wrong),
                found=", ".join(f"{name}={now.variables.get(name, '')}" for name in wrong),
                hint=f"'{self._hook}' set-environment {ended.complaint()}",
            )
        self._cross_check(expected)
        return now

    def _cross_check(self, expected: Mapping[str, str]) -> None:
        """The boot loader's own words for slots must say what the environment says."""
        questions: dict[tuple[str, ...], str | None] = {("get-primary",): expected.get("slot")}
        questions |= {("get-state", slot): _rauc_state(expected.get(f"slot_{slot}")) for slot in SlotName}
        for words, answer in questions.items():
            if answer is None:
                continue
            said = self._call(*words)
            if said.status != 0 or process.last_line(said.stdout) != answer:
                raise DeviceError(
                    f"the boot loader's '{' '.join(words)}' contradicts the decision",
                    code="env-write",
                    expected=answer,
                    found=process.last_line(said.stdout) or said.complaint(),
                    hint=f"'{self._hook}' must keep its verbs together (bootloader_hooks/README.md)",
                )

    def _parse(self, output: bytes) -> dict[str, str]:
        try:
            lines = output.decode().split("\n")  # as the shell deadline does it: nothing else ends a line
        except UnicodeDecodeError as e:
            raise self._error("get-environment", "UTF-8", e) from e
        if not lines[-1]:
            lines.pop()
        variables = {}
        for line in lines:
            name, separator, value = line.partition("=")
            if not name or not separator or name in variables:
                raise self._error("get-environment", "lines of name=value, each name once", line[:100])
            variables[name] = value
        return variables

    def _call(self, *words: str, stdin: bytes = b"") -> process.ProgramResult:
        argv = [os.fspath(self._hook), *words]
        try:
            return process.run(argv, timeout=self._timeout, stdin=stdin, limit=OUTPUT_LIMIT)
        except OSError as e:
            if is_shortage(e):
                raise shortage(f"the hook '{self._hook}' cannot be started now", e) from e
            raise self._error(words[0], "an executable", e.strerror) from e

    def _error(self, verb: str, expected: str, found: object) -> DeviceError:
        return DeviceError(
            f"the hook '{self._hook}' fails at '{verb}'", code="env-hook", expected=expected, found=found
        )


def _lost() -> DeviceError:
    return DeviceError("the boot environment is lost", code="env-lost", hint="the default must be written first")


def _rauc_state(state: str | None) -> str | None:
    """RAUC knows two words; a slot on trial may boot, so it is good."""
    return None if state is None else "good" if state in (SlotState.GOOD, SlotState.TRIAL) else "bad"
