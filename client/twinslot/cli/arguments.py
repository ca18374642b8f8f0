"""How the command lines of `twinslot` and `twinslot-image` are read: one parser class, so that the two are siblings.

What it adds to argparse: no abbreviations, an option that is given twice is refused unless it collects values, the
nearest name for a mistyped verb or option, errors as `UsageError`, examples below each help text, `help VERB`.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn

from twinslot.cli.output import Output
from twinslot.core.errors import UsageError

if TYPE_CHECKING:  # looking loads neither the chain nor statements
    from twinslot.core.audit_chain import ChainEnd

_ARGUMENT: Final = re.compile(r"argument (?P<name>.+?): (?P<what>.*)", re.DOTALL)
_EXAMPLES: Final = "examples:"
_AGO: Final = re.compile(r"(\d{1,6})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

Since = tuple[int, str]  # number of the row before the first, and the earliest time; one of them says nothing


class Parser(argparse.ArgumentParser):
    """A command line or one verb of it.

    Args:
        examples: Whole commands, shown below the help text.
        arguments: As argparse takes them; `description` says in whole sentences what the verb does.
    """

    def __init__(self, *, examples: Iterable[str] = (), **arguments: Any) -> None:
        lines = "".join(f"\n  {example}" for example in examples)
        epilog = {"epilog": f"{_EXAMPLES}{lines}"} if lines else {}
        given: dict[str, Any] = {"allow_abbrev": False, "formatter_class": _Help} | epilog | arguments
        super().__init__(**given)
        self.given: dict[str, str] = {}  # what was given so far, by destination; shared by a verb and its tool
        self.register("action", None, _Once)
        self.register("action", "store", _Once)
        self.register("action", "parsers", _Verbs)

    def explain(self, description: str, examples: Iterable[str]) -> None:
        """Say in whole sentences what it does, and show whole commands below the help text."""
        self.description = description
        self.epilog = _EXAMPLES + "".join(f"\n  {example}" for example in examples)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, but what is not known is refused here, where the options of the verb are known.

        Raises:
            UsageError: `usage.option` or `usage.argument`.
        """
        if args is not None:
            self._refuse_unknown(args)
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            more = "', '".join(rest)
            raise self._wrong("argument", f"too many arguments: '{more}'")
        return found, rest

    def spelled_out(self, argv: Sequence[str]) -> list[str]:
        """The words with `--help` for `help`, which may stand behind options without a value."""
        for at, word in enumerate(argv):
            if word == "help":
                return [*argv[:at], *argv[at + 1 :], "--help"]
            option = self._option_string_actions.get(word)
            if option is None or option.nargs != 0:
                break
        return list(argv)

    def _print_message(self, message: str, _file: Any = None) -> None:
        """Help and version: an answer as any other.

        Raises:
            SystemExit: It could not be written, or nobody reads it.
        """
        output = Output(as_json=False, program=self.prog)
        output.text(message.splitlines())
        if output.lost is not None:
            raise SystemExit(output.lost_status())

    def error(self, message: str) -> NoReturn:
        """Argparse's own complaint, in our words.

        Raises:
            UsageError: Always.
        """
        if match := _ARGUMENT.fullmatch(message):
            raise self._wrong("argument", f"'{match['name']}': {_REWORDED.get(match['what'], match['what'])}")
        required = "the following arguments are required: "
        if message.startswith(required):
            names = message.removeprefix(required).replace(", ", "', '")
            raise self._wrong("missing", f"missing on the command line: '{names}'")
        raise self._wrong("argument", message)

    def nearest(self, word: str, known: Iterable[str], code: str, what: str) -> UsageError:
        """The error for a word that is none of those known: with the nearest of them, or with all.

        Args:
            word: What was given.
            known: What could have been given.
            code: Of the error.
            what: The sentence, up to the word.
        """
        names = list(known)
        near = difflib.get_close_matches(word, names, 1, 0.5)
        if near:
            return self._wrong(code, f"{what} '{word}'; did you mean '{near[0]}'?")
        return self._wrong(code, f"{what} '{word}'", expected=", ".join(names))

    def _wrong(self, code: str, what: str, **more: str) -> UsageError:
        return UsageError(what, code=code, **({"hint": f"see '{self.prog} --help'"} | more))

    def _refuse_unknown(self, words: Sequence[str]) -> None:
        """Before argparse looks: it would first complain of what is missing instead."""
        verbs = self._subparsers is not None
        for word in words:
            if word == "--" or (verbs and not word.startswith("-")):
                return
            name = word.partition("=")[0]
            if not name.startswith("--") or " " in word or name in self._option_string_actions:
                continue
            known = [option for option in self._option_string_actions if option.startswith("--")]
            raise self.nearest(name, known, "option", f"'{self.prog}' has no option")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        if isinstance(action, argparse._SubParsersAction):
            raise self.nearest(str(value), action.choices, "verb", f"'{self.prog}' has no command")
        name = action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest)
        raise self.nearest(str(value), map(str, action.choices), "value", f"'{name}' does not take")


class _Once(argparse.Action):
    """Stores a value; a second one would silently take the place of the first, so it is refused."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        refuse_again(parser, self, option_string)
        setattr(namespace, self.dest, values)


class Switch(argparse.BooleanOptionalAction):
    """`--x` or `--no-x`, once."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Store which of the two it was."""
        refuse_again(parser, self, option_string)
        super().__call__(parser, namespace, values, option_string)


def refuse_again(parser: argparse.ArgumentParser, action: argparse.Action, option: str | None) -> None:
    """Remember that an option was given.

    Raises:
        UsageError: `usage.repeated`: it was given before, in front of the verb or behind it.
    """
    assert isinstance(parser, Parser)
    if option is not None and action.dest in parser.given:
        first = parser.given[action.dest]
        what = f"'{option}' is given twice" if option == first else f"'{first}' and '{option}' exclude each other"
        raise UsageError(what, code="repeated", hint=f"see '{parser.prog} --help'")
    if option is not None:
        parser.given[action.dest] = option


class _Verbs(argparse._SubParsersAction):  # type: ignore[type-arg]  # it takes no argument when it runs
    """Hands down to the verb what stood in front of it."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        if isinstance(parser, Parser) and values[0] in self.choices:
            self.choices[values[0]].given = parser.given
        super().__call__(parser, namespace, values, option_string)


class _Help(argparse.HelpFormatter):
    """Sentences are wrapped, examples stand as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(_EXAMPLES) else super()._fill_text(text, width, indent)


def read(parser: Parser, argv: Sequence[str], defaults: argparse.Namespace) -> argparse.Namespace:
    """The arguments; `help VERB` is `VERB --help`, and nothing at all prints the help before it fails.

    Raises:
        UsageError: The command line is wrong.
        SystemExit: Help or the version was asked for and printed (0).
    """
    parser.given.clear()
    if not argv:
        parser.print_help()
        raise UsageError("no command is given", code="missing", hint=f"see '{parser.prog} --help'")
    return parser.parse_args(parser.spelled_out(argv), defaults)


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A converter for `type=`: a whole number from `low` to `high`."""

    def convert(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(high)) else low - 1
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"expected 'a whole number from {low} to {high}', found '{text}'")
        return number

    return convert


def since(text: str) -> Since:
    """A converter for `type=`: a row's number, a time, or how long ago."""
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return max(int(text) - 1, 0), ""
    try:
        if ago := _AGO.fullmatch(text):
            moment = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            moment = datetime.fromisoformat(text)
            moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        expected = "a row's number, a time such as 2026-11-21 or 2026-11-21T08:00Z, or 15m, 2h, 3d"
        raise argparse.ArgumentTypeError(f"expected '{expected}', found '{text}'") from None
    return 0, moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def until(text: str) -> float:
    """A converter for `type=`: seconds from now to a time, or those of 15m, 2h, 3d."""
    now = datetime.now(UTC)
    try:
        if later := _AGO.fullmatch(text):
            moment = now + timedelta(**{_UNITS[later[2]]: int(later[1])})
        else:
            moment = datetime.fromisoformat(text)
            moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        moment = now
    if moment <= now:
        expected = "a time to come such as 2026-11-21T08:00Z, or 15m, 2h, 3d"
        raise argparse.ArgumentTypeError(f"expected '{expected}', found '{text}'")
    return (moment - now).total_seconds()


def anchored(text: str) -> ChainEnd:
    """A converter for `type=`: the end of an audit."""
    from twinslot.core.audit_chain import ChainEnd

    end = ChainEnd.parse(text)
    if end is None:
        raise argparse.ArgumentTypeError(f"expected 'NUMBER-HASH', found '{text}'")
    return end


def nonce_of(text: str) -> str:
    """A converter for `type=`: a nonce, in lower case."""
    from twinslot.core.attestation import NONCE

    if not NONCE.fullmatch(text.lower()):
        raise argparse.ArgumentTypeError(f"expected '2 to 128 hex digits, an even number', found '{text}'")
    return text.lower()


_REWORDED: Final = {
    "expected one argument": "needs a value",
    "expected at least one argument": "needs a value",
}
