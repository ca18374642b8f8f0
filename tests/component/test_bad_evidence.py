"""Evidence that must not enter: each row of the table of docs/guide-evidence.md is done, by the command line.

Whatever is refused leaves every file as it was and adds none.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dossier_bench import CLIENT, DossierBench, bill, power_cuts, vex

from twinslot_image.cli import main

PAGE = (Path(__file__).parents[2] / "docs/guide-evidence.md").read_text()
SECTION = PAGE.partition("\n## What is refused\n")[2].partition("\n## ")[0]
ROWS = dict(re.findall(r"^\| ([^|`]+) \| [^|]+ \| (`[^|]+|none) \|$", SECTION, re.MULTILINE))
JUNIT = '<testsuites><testsuite name="pump"><testcase classname="p" name="t"/></testsuite></testsuites>'
ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + JUNIT
IMAGE = """
product = "Pump"
release = "2026.12"
sequence = 8
compatible = ["acme,pump-3"]
trust = "keys"
[payloads.rootfs]
file = "2026.11.bin"
check = "none"
[attachments.bill]
file = "sbom.cdx.json"
type = "sbom"
[policy]
tests = "{tests}"
subject = "{client}"
vulnerabilities = "osv.json"
vex = "vex.json"
"""
PUMP = '[[requirement]]\nid = "PUMP-1"\ntitle = "It stops"\ntext = "The motor stops."\n'
CLOCK = "a clock that nobody has set"
# Times of files stay as they are: Python holds its compiled modules to them.
REAL_FILES = {"NO_FAKE_STAT": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
PERSON = ("--as", "A. Weber", "--meaning", "approval")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DossierBench:
    """A release, its evidence, and an image to be built under a policy that the evidence satisfies."""
    bench = DossierBench.make(tmp_path_factory.mktemp("team"))
    image(bench)
    bench.write("osv.json", {"vulns": []})
    (bench.directory / "requirements").mkdir()
    bench.write("requirements/pump.toml", PUMP)
    bench.write("app.py", "limit = 80\n")
    return bench


@pytest.fixture
def bench(made: DossierBench, tmp_path: Path) -> DossierBench:
    shutil.copytree(made.directory, tmp_path / "team")
    return DossierBench(type(made.team)(tmp_path / "team"))


def image(bench: DossierBench, tests: str = "matrix.json", client: str = CLIENT) -> None:
    bench.write("image.toml", IMAGE.format(tests=tests, client=client))


def tree(directory: Path) -> dict[str, str]:
    """What stands there, but for the 2 GB that are given on purpose."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.stat().st_size < 1 << 20]
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def build(bench: DossierBench) -> list[str]:
    return ["build", str(bench.directory / "image.toml"), "-o", str(bench.directory / "new.twin")]


def dossier(bench: DossierBench, role: str = "engineering") -> list[str]:
    words = ["dossier", "make", str(bench.directory / "dossier.toml"), "-o", str(bench.directory / "out")]
    return [*words, "--role", role, "--key", str(bench.key("engineering"))]


def signing(bench: DossierBench, verb: str, *more: str) -> list[str]:
    """As the role clinical, by a key of engineering."""
    words = [verb, str(bench.directory / "pump.twin"), "--role", "clinical", *more]
    return [*words, "--key", str(bench.key("engineering"))]


def lab(bench: DossierBench) -> list[str]:
    bench.write("run.json", {"format": "twinslot-run/1"})
    where = ["--requirements", str(bench.directory / "requirements"), "print", str(bench.directory / "run.json")]
    return ["twinslot_lab", "matrix", *where, "--source", str(bench.directory / "app.py")]


def edit(bench: DossierBench, name: str, old: str, new: str) -> None:
    text = (bench.directory / name).read_text()
    assert old in text
    bench.write(name, text.replace(old, new))


def unknown_key(bench: DossierBench) -> list[list[str]]:
    edit(bench, "image.toml", "tests =", "test =")
    edit(bench, "dossier.toml", "summary =", "sumary =")
    edit(bench, "requirements/pump.toml", "text =", "txt =")
    return [build(bench), dossier(bench), lab(bench)]


def no_toml(bench: DossierBench) -> list[list[str]]:
    for name in ("image.toml", "dossier.toml", "requirements/pump.toml"):
        bench.write(name, "[[[\n")
    return [build(bench), dossier(bench), lab(bench)]


def twice(bench: DossierBench) -> list[list[str]]:
    bench.write("requirements/pump.toml", PUMP + PUMP)
    return [lab(bench)]


def other_client(bench: DossierBench) -> list[list[str]]:
    bench.write("report.json", power_cuts("e" * 64))
    image(bench, client="e" * 64)
    return [dossier(bench), build(bench)]


def entities(bench: DossierBench) -> list[list[str]]:
    bench.write("junit.xml", ENTITIES)
    image(bench, "junit.xml")
    return [build(bench)]


def two_gigabytes(bench: DossierBench) -> list[list[str]]:
    with (bench.directory / "matrix.json").open("r+b") as file:
        file.truncate(2 << 30)
    return [build(bench), dossier(bench)]


def other_bill(bench: DossierBench) -> list[list[str]]:
    bench.write("sbom.cdx.json", bill("e" * 64))
    edit(bench, "image.toml", 'vulnerabilities = "osv.json"\nvex = "vex.json"\n', "")
    return [build(bench), dossier(bench)]


def other_vex(bench: DossierBench) -> list[list[str]]:
    bench.write("vex.json", vex("pkg:generic/ventilator@2.0"))
    same = ["diff", str(bench.directory / "pump.twin"), str(bench.directory / "second.twin")]
    return [build(bench), dossier(bench), [*same, "--vulnerabilities", str(bench.directory / "vex.json")]]


def wrong_person(bench: DossierBench) -> list[list[str]]:
    builder = ("--builder", "https://ci.example/p")
    verbs = [signing(bench, "sign"), signing(bench, "approve", *PERSON), signing(bench, "provenance", *builder)]
    return [*verbs, dossier(bench, "clinical")]


def in_1970(bench: DossierBench) -> list[list[str]]:
    key = ("--key", str(bench.key("clinical")))
    verbs = [("sign",), ("approve", *PERSON), ("provenance", "--builder", "https://ci.example/p")]
    signed = [[verb, str(bench.directory / "pump.twin"), "--role", "clinical", *more, *key] for verb, *more in verbs]
    keys = ["keys", "init", str(bench.directory / "new-keys"), "--roles", "engineering"]
    return [["faketime", "1970-01-02 00:00:00", *words] for words in (keys, build(bench), *signed)]


CASES: dict[str, tuple[Callable[[DossierBench], list[list[str]]], str]] = {
    "an unknown key": (unknown_key, r"did you mean '(tests|summary|text)'\?"),
    "malformed TOML": (no_toml, r"(?i)TOML"),
    "an id of a requirement twice": (twice, r"'PUMP-1' stands twice \(hint: first in"),
    "results of another client": (other_client, "e" * 64),
    "JUnit with a document type or entities": (entities, "a document type or entities"),
    "results of 2 GB": (two_gigabytes, "at most 67108864 bytes"),
    "the bill of materials of another image": (other_bill, "make it"),
    "a VEX of another product": (other_vex, "ventilator"),
    "a signature by a key of another role": (wrong_person, "clinical"),
    CLOCK: (in_1970, r"a time after 2026-01-01.*1970-01-02.*timedatectl"),
}


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and what was said; a verb of the image tool in JSON."""
    if words[0] in ("twinslot_lab", "faketime"):
        before = words[:2] if words[0] == "faketime" else []
        module, more = ("twinslot_image", words[2:]) if before else (words[0], words[1:])
        json_ = ["--json"] if before else []
        argv = [*before, sys.executable, "-m", module, *json_, *more]
        done = subprocess.run(argv, capture_output=True, text=True, env=os.environ | REAL_FILES)
        return done.returncode, done.stdout + done.stderr
    capsys.readouterr()
    status = main(["--json", *words])
    return status, capsys.readouterr().out


def reasons(text: str) -> list[dict[str, Any]]:
    error = json.loads(text.splitlines()[-1])
    return list(error.get("reasons") or [error])


def test_the_table_of_the_page_has_a_row_for_each_case() -> None:
    assert set(ROWS) == set(CASES)


@pytest.mark.verifies("REQ-EVI-03", "REQ-IMG-29")
def test_what_is_refused_below_is_taken_where_nothing_is_wrong(
    bench: DossierBench, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (build(bench), dossier(bench)):
        assert told(words, capsys)[0] == 0


@pytest.mark.verifies("REQ-EVI-03", "REQ-EVI-06", "REQ-IMG-29")
@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] * (case == CLOCK)) for case in CASES])
def test_bad_evidence_is_refused_with_what_was_expected_and_nothing_is_written(
    bench: DossierBench, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if case == CLOCK and not shutil.which("faketime"):
        pytest.skip("needs faketime, which sets the clock of one process")
    prepare, said = CASES[case]
    codes = set(re.findall(r"`([a-z.-]+)`", ROWS[case]))
    commands = prepare(bench)
    before, seen = tree(bench.directory), set()
    for words in commands:
        status, text = told(words, capsys)
        assert "Traceback" not in text
        assert re.search(said, text), text
        assert tree(bench.directory) == before
        if words[0] == "twinslot_lab":
            assert status == 1
            seen.add("1")
            continue
        assert status in (3, 4)
        for reason in reasons(text):
            assert reason["code"] in codes
            assert reason.get("expected") or reason.get("hint")
            seen.add(reason["code"])
    assert seen - {"1"} == codes
