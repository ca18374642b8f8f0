"""What can go wrong, sorted by who must act.

The class says who must act; `code` is a stable word for programs (JSON, D-Bus, logs); `exit_status` is what the
command line ends with. Every message states what was expected and what was found, in quotes, and where possible a
hint.
Codes and exit statuses are part of the public interface: add, never change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

# Keys of an error on every surface, and what each says (docs/decisions/0046-one-shape-of-an-error.md)
FIELDS: Final[Mapping[str, str]] = {
    "family": "who must act: the part of `code` before the dot",
    "code": "stable code of the error",
    "message": "the sentence",
    "expected": "what should have been there",
    "found": "what was there",
    "hint": "what to do",
    "reasons": "of a refusal: every reason, each with these fields",
}


class TwinslotError(Exception):
    """Base of every expected failure; never raised itself.

    Args:
        message: One sentence, no full stop, values quoted.
        code: Stable word, `family.detail`, for example `image.truncated`.
        expected: What should have been there, as text.
        found: What was there, as text.
        hint: What the reader can do next.
    """

    family: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1
    announced = False  # in audit or journal already
    unhealthy = False  # came after a required health check had failed: the trial ends whatever else failed (S6)

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        expected: object = None,
        found: object = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = f"{self.family}.{code}" if code else self.family
        self.expected = None if expected is None else str(expected)
        self.found = None if found is None else _words(found)
        self.hint = hint
        self.unknown: Mapping[str, object] = {}  # keys that a newer process sent: they are handed on (S18)

    def __str__(self) -> str:
        text = self.message
        if self.expected is not None:
            text += f": expected {in_quotes(self.expected)}"
            text += f", found {in_quotes(self.found)}" if self.found is not None else ""
        elif self.found is not None:
            text += f": found {in_quotes(self.found)}"
        return text + (f" (hint: {self.hint})" if self.hint else "")

    def as_dict(self) -> dict[str, object]:
        """The error as JSON-ready data: the keys of `FIELDS`, the same on every surface."""
        return _shape(self, self.code)

    # keeps: S18
    @staticmethod
    def from_dict(data: dict[str, object]) -> TwinslotError:
        """Rebuild an error that crossed a process border.

        A family that this version does not have becomes a `DeviceError`, with its code as it came. Keys that it does
        not know are kept.
        """
        error = TwinslotError._of(data)
        error.unknown = _unknown(data)
        return error

    @staticmethod
    def _of(data: dict[str, object]) -> TwinslotError:
        code = str(data.get("code", ""))
        family, _, detail = code.partition(".")
        kind = _FAMILIES.get(family, DeviceError)
        reasons = data.get("reasons")
        if kind is RefusedError:
            given = reasons if isinstance(reasons, list) else []
            usable = tuple(Refusal.from_dict(reason) for reason in given if isinstance(reason, dict))
            return RefusedError(usable or Refusal.from_dict(data))
        error = kind(
            str(data.get("message", code or "no message")),
            code=detail or None,
            expected=data.get("expected"),
            found=data.get("found"),
            hint=None if data.get("hint") is None else str(data["hint"]),
        )
        error.code = code or error.code
        return error


def in_quotes(text: str) -> str:
    """A value in a sentence: in single quotes, in double ones if it has single quotes itself."""
    return f'"{text}"' if "'" in text and '"' not in text else f"'{text}'"


def _words(found: object) -> str:
    """What was found, as text: of an error of the system only its words, since the message names the file."""
    return found.strerror if isinstance(found, OSError) and found.strerror else str(found)


class ImageError(TwinslotError):
    """The image is wrong: whoever made or carried it must act. Nothing unverified was written."""

    family = "image"
    exit_status = 3


class TransportError(TwinslotError):
    """The way to the image failed: try again later."""

    family = "transport"
    exit_status = 5


class DeviceError(TwinslotError):
    """This device cannot do it: a technician must look (storage, boot environment, configuration)."""

    family = "device"
    exit_status = 6


class LifecycleError(TwinslotError):
    """Our own mistake: an event that the table does not allow. The state is unchanged."""

    family = "lifecycle"
    exit_status = 1


class UsageError(TwinslotError):
    """The command line is wrong: whoever typed it must act. Nothing was begun."""

    family = "usage"
    exit_status = 2


class CancelledError(TwinslotError):
    """Somebody asked to stop. The target slot stays unbootable; the next install starts clean."""

    family = "cancelled"
    exit_status = 8


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason for saying no: the code, the sentence and what to do; and what a newer process added (S18)."""

    code: str
    message: str
    expected: str | None = None
    found: str | None = None
    hint: str | None = None
    unknown: Mapping[str, object] = field(default_factory=dict, repr=False, compare=False)

    def __str__(self) -> str:
        return str(TwinslotError(self.message, expected=self.expected, found=self.found, hint=self.hint))

    def as_dict(self) -> dict[str, object]:
        """The refusal as JSON-ready data, as an error of its own would be."""
        return _shape(self, f"{RefusedError.family}.{self.code}")

    @staticmethod
    def from_dict(data: dict[str, object]) -> Refusal:
        """Rebuild a refusal that crossed a process border."""

        def text(key: str) -> str | None:
            return None if data.get(key) is None else str(data[key])

        code = str(data.get("code", "unknown")).removeprefix("refused.")
        message = str(data.get("message", code))
        return Refusal(code, message, text("expected"), text("found"), text("hint"), _unknown(data))


class RefusedError(TwinslotError):
    """Policy says no; nothing is broken and nothing was written. Carries every reason, not the first one."""

    family = "refused"
    exit_status = 4

    def __init__(self, reasons: tuple[Refusal, ...] | Refusal) -> None:
        self.reasons = reasons if isinstance(reasons, tuple) else (reasons,)
        first = self.reasons[0]
        super().__init__(
            "; ".join(str(reason) for reason in self.reasons) if len(self.reasons) > 1 else first.message,
            code=first.code,
            expected=first.expected if len(self.reasons) == 1 else None,
            found=first.found if len(self.reasons) == 1 else None,
            hint=first.hint if len(self.reasons) == 1 else None,
        )

    def as_dict(self) -> dict[str, object]:
        """The error with all its reasons."""
        return super().as_dict() | {"reasons": [reason.as_dict() for reason in self.reasons]}


def _unknown(data: dict[str, object]) -> dict[str, object]:
    """What this version has no field for."""
    return {key: value for key, value in data.items() if key not in FIELDS}


def _shape(error: TwinslotError | Refusal, code: str) -> dict[str, object]:
    """What every surface shows of an error: no key for what is not known, and what a newer process added (S18)."""
    head: dict[str, object] = {"family": code.partition(".")[0], "code": code, "message": error.message}
    known = {"expected": error.expected, "found": error.found, "hint": error.hint}
    return dict(error.unknown) | head | {key: value for key, value in known.items() if value is not None}


_FAMILIES: dict[str, type[TwinslotError]] = {
    kind.family: kind for kind in (ImageError, TransportError, DeviceError, LifecycleError, UsageError, CancelledError)
}
_FAMILIES["refused"] = RefusedError
