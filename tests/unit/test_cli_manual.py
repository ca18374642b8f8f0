"""The manual pages say what the programs do: every verb, option and exit status, no more and no less."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinslot.cli import help as cli_help
from twinslot.cli import output as cli_output
from twinslot.cli import parser as cli_parser
from twinslot.cli import trial as cli_trial
from twinslot.cli.verbs import look as cli_look
from twinslot.config.options import load
from twinslot.core.errors import TwinslotError
from twinslot_image.cli_parser import make_parser as make_image_parser
from twinslot_lab import cli_parser as lab_parser

ROOT = Path(__file__).parents[2]
MANUAL = ROOT / "docs/man"


def verbs_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The verbs below a parser, `keys init` as two words."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                deeper = verbs_of(below)
                found |= {f"{name} {rest}": each for rest, each in deeper.items()} or {name: below}
    return found


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Every option of a parser."""
    return {option for action in parser._actions for option in action.option_strings} - {"-h", "--help"}


def synopsis_of(page: str) -> Iterator[tuple[str, set[str]]]:
    """Verb and options of each line of the synopsis; mdoc writes `--json` as `Fl -json`."""
    text = (MANUAL / page).read_text().split(".Sh SYNOPSIS\n")[1].split(".Sh ")[0]
    for line in text.split(".Nm\n")[1:]:
        verb = re.search(r"^\.Cm ([a-z -]+)$", line, re.MULTILINE)
        yield verb[1] if verb else "", {f"-{flag}" for flag in re.findall(r"\bFl (\S+)", line)}


def merged(page: str) -> dict[str, set[str]]:
    """The synopsis, lines of the same verb together."""
    found: dict[str, set[str]] = {}
    for verb, options in synopsis_of(page):
        found[verb] = found.get(verb, set()) | options
    return found


def test_twinslot_1_names_every_verb_and_option() -> None:
    parser = cli_parser.make_parser()
    everywhere = options_of(parser) - {"-V", "--version"}
    page = merged("twinslot.1")
    assert page.pop("") == {"-V", "--version"}
    assert page == {verb: options_of(below) - everywhere for verb, below in verbs_of(parser).items()}


def test_twinslot_1_explains_each_option() -> None:
    parser = cli_parser.make_parser()
    text = (MANUAL / "twinslot.1").read_text().split(".Sh DESCRIPTION")[1]
    items = " ".join(line for line in text.splitlines() if line.startswith((".It Fl", ".Fl")))
    wanted = set.union(options_of(parser), *map(options_of, verbs_of(parser).values()))
    assert not {option for option in wanted if f"Fl {option[1:]}" not in items}
    for verb in verbs_of(parser):
        assert re.search(rf"^\.It Cm {verb}\b", text, re.MULTILINE), verb


COMPLETIONS = {
    "twinslot": "client/twinslot.bash-completion",
    "twinslot-image": "image_tools/twinslot-image.bash-completion",
}


def completed(*words: str, program: str = "twinslot", folder: Path = ROOT) -> set[str]:
    """What bash offers for the last word, in a folder."""
    function = f"_{program.replace('-', '_')}"
    place = shlex.quote(str(ROOT / COMPLETIONS[program]))
    script = f'source {place}; COMPREPLY=(); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); {function}; '
    command = ["bash", "-uc", script + "printf '%s\\n' \"${COMPREPLY[@]}\"", "-", program, *words]
    return set(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.split())


def test_bash_completes_every_verb_and_option() -> None:
    parser = cli_parser.make_parser()
    verbs = verbs_of(parser)
    assert completed("") == verbs.keys() | (options_of(parser) - {"-V"}) | {"--help"}
    assert completed("--json", "ro") == {"rollback"}
    for verb, below in verbs.items():
        long = {option for option in options_of(below) if option.startswith("--")}
        assert completed("--json", verb, "--") == long | {"--help"}, verb


def test_bash_completes_every_verb_action_and_option_of_the_image_tool() -> None:
    parser = make_image_parser()
    verbs = verbs_of(parser)
    first = {verb.split()[0] for verb in verbs}
    everywhere = {option for option in options_of(parser) if option.startswith("--")} | {"--help"}
    assert completed("", program="twinslot-image") == first | everywhere
    assert completed("--json", "provi", program="twinslot-image") == {"provision"}
    for group in {verb.split()[0] for verb in verbs if " " in verb}:
        actions = {verb.split()[1] for verb in verbs if verb.startswith(f"{group} ")}
        assert completed(group, "", program="twinslot-image") == actions | {"--help"}
    for verb, below in verbs.items():
        long = {option for option in options_of(below) if option.startswith("--")}
        assert completed("--quiet", *verb.split(), "--", program="twinslot-image") == long | {"--help"}, verb


def test_bash_completes_the_files_that_a_command_of_the_image_tool_takes(tmp_path: Path) -> None:
    for name in ("pump.twin", "image.toml", "1.root.json", "notes.md"):
        (tmp_path / name).touch()
    (tmp_path / "keys").mkdir()

    def offered(*words: str) -> set[str]:
        return completed(*words, program="twinslot-image", folder=tmp_path)

    assert offered("build", "") == {"image.toml", "keys"}
    assert offered("verify", "pump.twin", "--root", "") == {"1.root.json", "keys"}
    assert offered("sign", "") == offered("build", "image.toml", "--previous", "") == {"pump.twin", "keys"}
    assert offered("sign", "pump.twin", "--key", "") == {"pump.twin", "image.toml", "1.root.json", "notes.md", "keys"}
    assert offered("keys", "list", "") == {"keys"}
    assert offered("provision", "--slot", "") == {"a", "b"}
    assert offered("sign", "pump.twin", "--role", "") == set(), "a word of one's own"


def test_twinslot_image_1_names_every_verb_and_option() -> None:
    parser = make_image_parser()
    page, text = merged("twinslot-image.1"), (MANUAL / "twinslot-image.1").read_text()
    assert page.pop("") == {"-V", "--version"}
    assert page.keys() == verbs_of(parser).keys()
    for verb, below in verbs_of(parser).items():
        assert page[verb] <= options_of(below), verb
        assert not {option for option in options_of(below) if f"Fl {option[1:]}" not in text}, verb


def test_twinslot_1_lists_the_exit_statuses_of_the_code() -> None:
    text = (MANUAL / "twinslot.1").read_text().split(".Sh EXIT STATUS")[1].split(".Sh ")[0]
    listed = {int(number) for number in re.findall(r"^\.It (\d+)$", text, re.MULTILINE)}
    families = {kind.exit_status for kind in TwinslotError.__subclasses__()}
    interrupted = {128 + 2, 128 + 15}  # SIGINT, SIGTERM (signal(7))
    assert listed == families | interrupted | {0, cli_trial.UNDECIDED, cli_output.EXIT_PIPE, cli_look.FAULTY}


@pytest.mark.parametrize(
    ("printer", "page"), [("make_config_page.py", "twinslot-config.5"), ("make_image_page.py", "twinslot-image-toml.5")]
)
def test_the_pages_of_configuration_and_image_toml_are_printed(printer: str, page: str) -> None:
    printed = subprocess.run([sys.executable, MANUAL / printer], capture_output=True, text=True, check=True)
    assert printed.stdout == (MANUAL / page).read_text(), "print it anew: see its first line"


def test_twinslot_lab_1_names_every_verb_and_option() -> None:
    parser = lab_parser.make_parser()
    page = merged("twinslot-lab.1")
    assert page.pop("") == {"-V", "--version"}
    [verbs] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    above = {"matrix": options_of(verbs.choices["matrix"])}  # that stand between it and what it is to do
    wanted = {verb: options_of(below) | above.get(verb.split()[0], set()) for verb, below in verbs_of(parser).items()}
    assert page == wanted


def test_each_verb_of_the_lab_says_what_it_does_and_its_examples_are_command_lines() -> None:
    parser = lab_parser.make_parser()
    for verb, below in verbs_of(parser).items():
        assert below.description, verb
        assert below.description.endswith("."), verb
        lines = [line.strip() for line in below.format_help().split("examples:")[1].splitlines() if line.strip()]
        for line in lines:
            words = shlex.split(line.removeprefix(f"{lab_parser.PROGRAM} "))
            assert lab_parser.parse(words).verb == verb.split()[0], line


def test_a_wrong_command_line_of_the_lab_is_refused_as_the_other_tools_refuse_theirs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("serial", reason="the lab is not installed here")
    from twinslot_lab.__main__ import VERBS, main

    assert {verb.split()[0] for verb in verbs_of(lab_parser.make_parser())} == VERBS.keys()
    for argv, said in (
        (["biuld"], "did you mean 'build'?"),
        (["build", "--bord", "x"], "did you mean '--board'?"),
        (["boot", "--board", "a", "--board", "b"], "'--board' is given twice"),
        (["powercut", "--cuts", "many"], "a whole number"),
        (["crash"], "missing on the command line"),
        ([], "no command is given"),
    ):
        assert main(argv) == 2
        assert said in capsys.readouterr().err
    assert main(["help", "crash"]) == 0
    assert "explore" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("twinslot-lab ")


@pytest.mark.parametrize("renderer", ["mandoc -T ascii -O width=200", "groff -mandoc -T ascii -P-cbou -rLL=200n"])
def test_each_line_of_the_synopsis_of_twinslot_lab_1_is_shown_as_it_is_typed(renderer: str) -> None:
    argv = [*renderer.split(), str(MANUAL / "twinslot-lab.1")]
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{argv[0]} is not installed here")
    printed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    shown = re.sub(".\b", "", printed)
    name, _, rest = shown.partition("\nSYNOPSIS\n")
    lines = [line.strip() for line in rest.partition("\nDESCRIPTION\n")[0].splitlines() if line]
    command = "python3 -m twinslot_lab"
    assert f"{command} -" in name
    starts = [f"{command} {verb}".strip() for verb, _ in synopsis_of("twinslot-lab.1")]
    assert len(lines) == len(starts)
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True)), lines


def installed() -> set[str]:
    """What is installed below /usr/share/doc/twinslot."""
    rules = (ROOT / "client/install.mk").read_text()
    pages = re.search(r"^PAGES := \$\(addprefix docs/,(.*)\)$", rules, re.MULTILINE)
    assert pages
    examples = re.findall(r"^EXAMPLES := (.*)$", rules, re.MULTILINE)
    return set(pages[1].split()) | {f"examples/{path.rpartition('/')[2]}" for line in examples for path in line.split()}


def test_what_manuals_and_messages_refer_to_is_in_the_package() -> None:
    texts = [(MANUAL / page).read_text() for page in ("twinslot.1", "twinslot-config.5", "twinslot-fleet.8")]
    texts += [path.read_text() for path in (ROOT / "client/twinslot").rglob("*.py")]
    named = {page for text in texts for page in re.findall(r"/usr/share/doc/twinslot/([\w./-]+\w)", text)}
    assert {"terminology.md", "lifecycle.md"} <= named
    assert named <= installed()
    assert "examples/config.toml" in installed()
    assert all((ROOT / "docs" / page).is_file() for page in installed() if "/" not in page)
    assert not [text for text in texts[:3] if re.search(r"(?<!twinslot/)\bdocs/(?!man/)", text)]


def test_the_example_configuration_is_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "etc/twinslot").mkdir(parents=True)
    shutil.copy(ROOT / "docs/example/config.toml", tmp_path / "etc/twinslot/config.toml")
    assert load(tmp_path).device.compatible == ("acme,pump-3",)


def examples() -> list[str]:
    """Each example of each help text."""
    parser = cli_parser.make_parser()
    texts = [parser.format_help(), *(below.format_help() for below in verbs_of(parser).values())]
    return [line.strip() for text in texts for line in text.split("examples:")[1].splitlines() if "twinslot " in line]


@pytest.mark.parametrize("line", examples())
def test_every_example_of_a_help_text_is_a_command_line(line: str) -> None:
    words = shlex.split(line.removeprefix("sudo ").partition(" > ")[0])  # where it goes is the shell's
    assert words[0] == "twinslot"
    assert cli_parser.parse(words[1:]).verb == words[1]


def test_each_verb_says_in_sentences_what_it_does() -> None:
    for verb, below in verbs_of(cli_parser.make_parser()).items():
        assert below.description, f"add '{verb}' to cli_help.VERBS"
        assert below.description[0].isupper(), verb
        assert below.description.endswith("."), verb


def test_the_verbs_of_units_are_not_between_those_of_people() -> None:
    text = cli_parser.make_parser().format_help()
    listed = re.findall(r"^    ([a-z-]+) ", text, re.MULTILINE)
    assert set(listed) == verbs_of(cli_parser.make_parser()).keys() - set(cli_help.UNITS)
    assert "For systemd units alone: boot, service, watch." in " ".join(text.split())
