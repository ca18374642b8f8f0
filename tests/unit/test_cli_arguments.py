"""Both command lines: nothing that was given is forgotten, and a mistake is named with what was probably meant."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Callable, Iterator

import pytest

from twinslot.cli import main as cli
from twinslot.cli import parser as cli_parser
from twinslot.cli.arguments import Parser, read
from twinslot.core.errors import UsageError
from twinslot_image import cli as image_cli
from twinslot_image import cli_parser as image_parser

TOOLS: dict[str, Callable[[], Parser]] = {
    "twinslot": cli_parser.make_parser,
    "twinslot-image": image_parser.make_parser,
}


def leaves(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Parser]]:
    """Every parser of a tree with the words that lead to it."""
    assert isinstance(parser, Parser)
    yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from leaves(below, (*words, name))


def all_options() -> list[tuple[str, tuple[str, ...], str]]:
    """Each option of each verb of both tools."""
    return [
        (tool, words, option)
        for tool, make in TOOLS.items()
        for words, parser in leaves(make())
        for action in parser._actions
        for option in action.option_strings
        if not isinstance(action, argparse._HelpAction | argparse._VersionAction)
    ]


USUAL = {
    "KEY=VALUE": "key=7",
    "K/N": "2/3",
    "ROLE=N": "offers=7",
    "NAME=FILE": "recipes=7",
    "HEX": "6f1e",
    "NUMBER-HASH": f"7-{'0' * 64}",
    "TIME": "2d",
}


def value_for(action: argparse.Action) -> list[str]:
    """Something that the option takes."""
    if action.nargs == 0:
        return []
    if action.choices:
        return [str(next(iter(action.choices)))]
    usual = USUAL.get(action.metavar if isinstance(action.metavar, str) else "", "7")
    return [usual] * (action.nargs if isinstance(action.nargs, int) else 1)


def collects(action: argparse.Action) -> bool:
    return isinstance(action, argparse._AppendAction | argparse._ExtendAction)


def only_says_yes(action: argparse.Action) -> bool:
    """Twice yes is yes: nothing is lost."""
    return isinstance(action, argparse._StoreTrueAction | argparse._StoreFalseAction)


@pytest.mark.parametrize(("tool", "words", "option"), all_options(), ids=str)
def test_an_option_given_twice_is_collected_or_refused(tool: str, words: tuple[str, ...], option: str) -> None:
    parser = TOOLS[tool]()
    (here,) = (below for path, below in leaves(parser) if path == words)
    action = here._option_string_actions[option]
    once = [option, *value_for(action)]
    namespace = argparse.Namespace()
    here._actions = [each for each in here._actions if each.option_strings]  # what else is required is not asked here
    for each in here._actions:
        each.required = False
    for group in here._mutually_exclusive_groups:
        group.required = False
    if only_says_yes(action):
        assert vars(here.parse_args([*once, *once], namespace)) == vars(here.parse_args(once, argparse.Namespace()))
        return
    if collects(action):
        found = here.parse_args([*once, *once], namespace)
        assert len(getattr(found, action.dest)) == 2
        return
    with pytest.raises(UsageError) as caught:
        here.parse_args([*once, *once], namespace)
    assert caught.value.code == "usage.repeated"
    assert option in caught.value.message


def test_an_option_before_and_behind_the_verb_is_given_twice() -> None:
    with pytest.raises(UsageError, match="'--config-root' is given twice"):
        cli_parser.parse(["--config-root", "/a", "status", "--config-root", "/b"])
    assert cli_parser.parse(["--json", "status", "--json"]).json


def test_a_switch_and_its_opposite_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="'--reboot' and '--no-reboot' exclude each other"):
        cli_parser.parse(["install", "x", "--reboot", "--no-reboot"])


@pytest.mark.verifies("REQ-CLI-04")
@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        ("instal x", "install"),
        ("stats", "status"),
        ("status --jsn", "--json"),
        ("install --dryrun x", "--dry-run"),
        ("help instal", "install"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_nearest(
    argv: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv.split()) == 2
    assert f"did you mean '{meant}'?" in capsys.readouterr().err


def test_a_word_near_to_nothing_is_answered_with_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["qqq"]) == 2
    assert "'twinslot' has no command 'qqq': expected 'install, activate," in capsys.readouterr().err


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("usage: twinslot ")
    assert err == "twinslot: no command is given\n  hint: see 'twinslot --help'\n"


def test_help_of_a_verb_is_the_verbs_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", "install"]) == 0
    by_word = capsys.readouterr().out
    assert cli.main(["install", "--help"]) == 0
    assert capsys.readouterr().out == by_word
    assert cli.main(["help"]) == 0


def test_a_wrong_command_line_is_an_object_where_one_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--json", "instal"]) == 2
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["type"], told["code"], told["exit_status"], err) == ("error", "usage.verb", 2, "")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--one"], "'--one': needs a value"),
        ([], "missing on the command line: 'FILE', '--two'"),
        (["a", "b", "--two", "x"], "too many arguments: 'b'"),
        (["a", "--two", "y"], "'--two' does not take 'y'"),
        (["a", "--two", "x", "--number", "0"], "'--number': expected 'a whole number from 1 to 9', found '0'"),
    ],
)
def test_what_argparse_finds_is_said_in_our_words(argv: list[str], message: str) -> None:
    from twinslot.cli.arguments import whole_number

    parser = Parser(prog="tool")
    verb = parser.add_subparsers(parser_class=Parser).add_parser("verb")
    verb.add_argument("file", metavar="FILE")
    verb.add_argument("--one")
    verb.add_argument("--two", choices=["x"], required=True)
    verb.add_argument("--number", type=whole_number(1, 9))
    with pytest.raises(UsageError) as caught:
        read(parser, ["verb", *argv], argparse.Namespace())
    assert caught.value.message == message
    assert caught.value.hint == "see 'tool verb --help'"


MAINS: dict[str, Callable[[list[str]], int]] = {"twinslot": cli.main, "twinslot-image": image_cli.main}


@pytest.mark.parametrize("tool", TOOLS)
def test_every_help_says_in_sentences_what_is_done_and_explains_every_argument(tool: str) -> None:
    for words, parser in leaves(TOOLS[tool]()):
        assert parser.description is not None, words
        assert re.fullmatch(r"[A-Z'].*\.", parser.description, re.DOTALL), words
        assert "examples:\n" in parser.format_help(), words
        for action in parser._actions:
            assert action.help or isinstance(action, argparse._SubParsersAction), (words, action.dest)


@pytest.mark.parametrize("tool", TOOLS)
def test_every_example_of_a_help_text_is_a_command(tool: str) -> None:
    for words, parser in leaves(TOOLS[tool]()):
        for example in (parser.epilog or "").removeprefix("examples:").strip().splitlines():
            command = shlex.split(example.partition(" > ")[0].partition(" | ")[0])
            if tool not in command:  # a sentence below the examples
                continue
            command = command[command.index(tool) :]  # without 'sudo'
            read(TOOLS[tool](), command[1:], argparse.Namespace())
            assert command[1 : 1 + len(words)] == list(words)


@pytest.mark.parametrize("tool", TOOLS)
def test_the_siblings_treat_a_wrong_command_line_alike(tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = MAINS[tool]
    for argv, code in (
        (["--json", "nonesuch"], "usage.verb"),
        (["nonesuch", "--json"], "usage.verb"),
        (["--json", "--nonesuch"], "usage.option"),
        (["--json"], "usage.missing"),
    ):
        assert main(argv) == 2
        out, err = capsys.readouterr()
        told = json.loads(out)
        assert (told["type"], told["code"], told["exit_status"], err) == ("error", code, 2, "")
        assert out.count("\n") == 1
        assert main([word for word in argv if word != "--json"]) == 2
        out, err = capsys.readouterr()
        assert err.startswith(f"{tool}: ")
        assert f"\n  hint: see '{tool} --help'\n" in err
    for option in ("-V", "--version", "--help", "help"):
        assert main([option]) == 0
        assert tool in capsys.readouterr().out
