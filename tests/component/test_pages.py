"""Every example in every page is run, parsed or compared; what a host cannot run is listed with the place that runs it.

A new block of a page fails the first test until it is one of these.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("qemu.qmp", reason="pages are tried with the programs of the checkout's own environment")

from shared_once import made_once

from image_samples import make_sample
from rootfs_samples import make_tree
from twinslot.bootloader.uboot import rawenv
from twinslot.bus import names
from twinslot.bus.options import OF_METHOD, types_of
from twinslot.cli import parser as cli_parser
from twinslot.config import options as config
from twinslot.core.errors import Refusal, RefusedError, TwinslotError
from twinslot_image import cli as image_cli
from twinslot_image import cli_parser as image_parser
from twinslot_image.description import read_description
from twinslot_lab.cli_parser import parse as lab_parse
from twinslot_lab.fileserver import FileServer

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
PAGES += [f"{part}/README.md" for part in ("bench", "bootloader_hooks", "client", "image_tools", "qemu")]
PAGES += [str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md"))]
MANUALS = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs/man").glob("*.[1-8]"))]

# Page and beginning of a block -> the test that runs it or compares it: here, or elsewhere when a host cannot.
HELD = {
    ("README.md", "make try"): "commands; tests/component/test_try_device.py",
    ("README.md", "  7.9 s"): "output of `make try`: tests/component/test_try_device.py has each line",
    ("README.md", "make demo"): "names; run by CI, and its two stories by tests/board/test_other_boards.py",
    ("README.md", " 16.4 s"): "output of `make demo`, shortened by hand: an emulated board, minutes",
    ("README.md", "client/twinslot/"): "names",
    ("CONTRIBUTING.md", "make venv"): "commands",
    ("docs/architecture.md", "cli/   bus/server/"): "a picture; tests/unit/test_layers.py holds the arrows",
    ("docs/dbus.md", "busctl introspect"): "test_the_bus_examples_fit_the_interface",
    ("docs/dbus.md", "org.twinslot.Error.Refused"): "test_the_error_on_the_bus_looks_as_the_page_shows",
    ("docs/events.md", "twinslot log"): "commands; the journal's own: tests/unit/test_events.py holds the fields",
    ("docs/guide-evidence.md", "[pccp]"): "tests/component/dossier_bench.py has the same table",
    ("docs/guide-developer.md", "make quick"): "commands",
    ("docs/guide-developer.md", ".venv/bin/python -m twinslot_lab build"): "commands; needs QEMU: tests/board",
    (
        "docs/guide-developer.md",
        "def test_a_good_release",
    ): "python; needs a board: tests/board/test_updates.py has the like",
    ("docs/guide-developer.md", "with workbench"): "python; tests/component/test_try_device.py has the like",
    ("docs/guide-developer.md", "def no_network"): "python; needs a board: tests/board/test_updates.py has the like",
    ("docs/guide-developer.md", ".venv/bin/pytest -s tests/simulation"): "commands; run by `make test`",
    ("docs/guide-developer.md", "make powercut"): "commands; needs QEMU: tests/board/test_real_cuts.py",
    ("docs/guide-developer.md", "make mutants"): "commands; run by hand, some minutes",
    ("docs/guide-developer.md", "make fuzz"): "commands; tests/component/test_lab_fuzz.py",
    ("docs/guide-audit.md", "sudo twinslot audit export"): "commands; tests/component/test_audit_command.py",
    ("docs/guide-audit.md", "sudo twinslot explain"): "commands; tests/component/test_audit_command.py",
    ("docs/guide-audit.md", "sudo twinslot retire"): "commands; tests/component/test_retire.py",
    ("docs/guide-audit.md", "sudo twinslot attest"): "commands; tests/component/test_attest.py",
    ("docs/guide-device.md", "make deb"): "commands; tests/component/test_units.py builds the package",
    ("docs/guide-device.md", "[device]"): "test_the_configuration_of_the_guide_loads",
    ("docs/guide-device.md", "[http]"): "test_the_configuration_of_the_guide_loads",
    ("docs/guide-device.md", "[install]"): "test_the_configuration_of_the_guide_loads",
    ("docs/guide-device.md", "[decryption]"): "test_the_configuration_of_the_guide_loads",
    ("docs/guide-device.md", "twinslot device-key"): "commands; tests/component/test_device_key_command.py",
    ("docs/guide-device.md", "chown twinslot-relay:"): "commands of a device: tests/component/test_relay.py",
    ("docs/guide-device.md", "openssl x509"): "commands; tests/component/test_server_places.py makes such a pin",
    ("docs/guide-device.md", "[Service]"): "test_the_drop_in_of_the_guide_narrows_what_the_unit_allows",
    ("docs/guide-device.md", "twinslot log"): "commands; tests/unit/test_cli_log.py",
    ("docs/guide-device.md", "twinslot install"): "commands; changes a device: tests/component/test_cli.py",
    (
        "docs/decisions/0053-a-repository-of-plain-files.md",
        "public/metadata/",
    ): "a picture; tests/component/test_repository.py",
    ("docs/guide-repository.md", "rsync -a"): "commands; need a server: tests/component/test_repository.py serves it",
    ("docs/guide-repository.md", "twinslot poll"): "commands; tests/component/test_repository_stick.py",
    ("docs/guide-repository.md", "twinslot status"): "commands; tests/component/test_repository.py",
    ("docs/image-format.md", '{"custom":{"group_size"'): "test_the_objects_of_the_format_page_are_those_of_an_image",
    (
        "docs/image-format.md",
        '{"custom":{"kind":"attachment"',
    ): "test_the_objects_of_the_format_page_are_those_of_an_image",
    ("docs/image-toml.md", 'product = "Infusion Pump"'): "test_the_description_of_the_reference_is_read",
    ("docs/lifecycle.md", "stateDiagram-v2"): "printed: tests/unit/test_lifecycle.py",
    ("docs/try.md", "make try"): "commands; tests/component/test_try_device.py",
    ("docs/testing-your-device.md", "console: "): "output of a failed test: tests/unit/test_lab_fixtures.py",
    (
        "bench/README.md",
        "bench/debian13.sh",
    ): "names of other clients' machines: run by hand, tests/unit/test_bench_report.py",
    (
        "image_tools/README.md",
        "pip install ./client ./image_tools",
    ): "commands; tests/component/test_wheels.py installs it",
    ("qemu/README.md", "export TWINSLOT_CHECKOUT"): "commands; tests/component/test_wheels.py installs it",
    ("qemu/README.md", "pytest_plugins"): "python; tests/component/test_wheels.py asks for the plugin so",
    ("qemu/README.md", "boards/*.toml"): "names",
    ("qemu/README.md", "native "): "a table of what is cached",
}
# Named blocks: the whole page is run or compared under these names.
NAMED = {
    "README.md": "test_every_command_of_a_page_is_one; the release guide and tests/component/test_cli.py run them",
    "docs/emergency.md": "tests/component/test_emergency.py",
    "docs/guide-evidence.md": "tests/component/test_guide_evidence.py",
    "docs/guide-fleet.md": "tests/component/test_guide_fleet.py",
    "docs/guide-keys.md": "test_a_ceremony_of_five_people_on_five_directories_works_though_one_lost_a_key",
    "docs/guide-matrix.md": "tests/component/test_lab_guide_matrix.py",
    "docs/guide-policy.md": "tests/component/test_guide_policy.py",
    "docs/guide-release.md": "test_the_release_guide_works_from_an_empty_directory and those after it",
    "docs/guide-tokens.md": "tests/component/test_guide_tokens.py",
    "docs/guide-repository.md": "tests/component/test_repository.py",
    "docs/guide-walk.md": "tests/component/test_guide_walk.py",
    "docs/packaging.md": "tests/component/test_make_install.py",
    "docs/testing-your-device.md": "tests/board/test_guide.py",
    "docs/try.md": "tests/component/test_try_device.py",
}
# Not run here, though named: what runs it instead.
NOT_RUN = {
    "install": "needs a package index; `make venv` is the same, and tests/board/test_guide.py asks pip",
    "ranges": "test_the_check_for_ranges_tells_a_server_with_them",
}


@dataclass(frozen=True)
class Block:
    """An example: fenced with a language and perhaps a name, or indented."""

    page: str
    language: str
    name: str
    text: str

    @property
    def how(self) -> str:
        """How it is held; empty: it is not."""
        if self.name:
            return NAMED.get(self.page, "")
        found = (how for (page, start), how in HELD.items() if page == self.page and self.text.startswith(start))
        return next(found, "")


def blocks(page: str) -> list[Block]:
    """The examples of a Markdown page, in order."""
    found, lines, at, blank = [], (ROOT / page).read_text().splitlines(), 0, True
    while at < len(lines):
        end = at + 1
        if lines[at].startswith("```"):
            while lines[end] != "```":
                end += 1
            language, _, name = lines[at][3:].partition(" ")
            found.append(Block(page, language, name, "\n".join(lines[at + 1 : end])))
            at, blank = end + 1, True
        elif blank and lines[at].startswith("    ") and not in_list(lines, at):
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end]):
                end += 1
            found.append(Block(page, "", "", "\n".join(line[4:] for line in lines[at:end]).rstrip()))
            at, blank = end, True
        else:
            blank = not lines[at]
            at = end
    return found


def in_list(lines: list[str], at: int) -> bool:
    """Whether what is indented here continues an item of a list."""
    before = next((line for line in reversed(lines[:at]) if line), "")
    return bool(re.match(r" *(-|\d+\.) ", before)) and lines[at].lstrip().startswith(("-", "*"))


def manual_blocks(page: str) -> list[Block]:
    """The literal displays of a manual page."""
    text = (ROOT / page).read_text()
    found = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed$", text, flags=re.MULTILINE | re.DOTALL)
    return [Block(page, "", "", each.replace("\\&", "").replace("\\e", "\\")) for each in found]


ALL = [block for page in PAGES for block in blocks(page)]


@pytest.mark.parametrize("block", ALL, ids=lambda block: f"{block.page}: {block.text[:40]}")
def test_every_example_is_held_by_a_test_or_listed_with_what_holds_it_instead(block: Block) -> None:
    assert block.how, "a new example: run it in this file, or list in HELD where it is run"
    for named in re.findall(r"tests/[\w/]+\.py", block.how):
        assert (ROOT / named).is_file()
    for test in re.findall(r"\btest_\w+(?!\.py)\b", block.how):
        assert test in globals() or f"{test}.py" in block.how or test.endswith("_py"), test


def test_nothing_is_listed_that_no_page_has() -> None:
    assert not [key for key in HELD if not any(b.page == key[0] and b.text.startswith(key[1]) for b in ALL)]


# Commands, wherever they stand: verbs, options, targets and paths exist.


def command_lines(text: str) -> list[str]:
    """The lines of a shell block: continued ones joined, comments away."""
    joined = re.sub(r" *\\\n *|(?<=\|)\n +", " ", text)
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def understood(words: list[str]) -> bool:
    """Whether one of our programs takes this command line."""
    words = [word for word in words if not re.fullmatch(r"[A-Z_]+=.*", word)]
    program = words[0].removeprefix(".venv/bin/") if words else ""
    if program in ("twinslot", "twinslot-image"):
        given = words[1:]
        parser = cli_parser.parse if program == "twinslot" else image_cli_parse
        try:
            parser(given)
        except (SystemExit, TwinslotError):
            return False
        return True
    if program == "make":
        rules = "".join((ROOT / file).read_text() for file in ("Makefile", "client/install.mk"))
        targets = re.findall(r"^([a-z0-9-]+):", rules, flags=re.MULTILINE)
        return all(word in targets for word in words[1:] if "=" not in word)
    if program == "python" and words[1:3] == ["-m", "twinslot_lab"]:
        try:
            lab_parse(words[3:])
        except (SystemExit, TwinslotError):
            return False
        return True
    if program in ("python", "pytest"):
        paths = [word.partition("::")[0] for word in words[1:] if word.startswith(("tests/", "docs/"))]
        return all((ROOT / path).exists() for path in paths)
    return True


def image_cli_parse(words: list[str]) -> object:
    """The command line of the image tool, as it reads it."""
    return image_parser.parse(words)


SHELL = [block for block in ALL if "commands" in block.how or block.language == "sh"]


@pytest.mark.parametrize("block", SHELL, ids=lambda block: f"{block.page}: {block.text[:40]}")
def test_every_command_of_a_page_is_one(block: Block) -> None:
    for line in command_lines(block.text):
        for part in re.split(r" \| | > ", line.partition("  #")[0]):
            assert understood(shlex.split(part, comments=True)), part


@pytest.mark.parametrize("manual", MANUALS)
def test_every_example_of_a_manual_page_is_one(manual: str) -> None:
    for block in manual_blocks(manual):
        if block.text.startswith("["):
            assert tomllib.loads(block.text)
            continue
        for line in command_lines(block.text):
            for part in line.split("|"):
                assert understood(shlex.split(part)), part


@pytest.mark.parametrize("page", PAGES)
def test_every_command_in_the_text_of_a_page_has_a_verb_and_options_that_exist(page: str) -> None:
    """`twinslot install --dry-run URL`: text names commands too, often without all they need."""
    for words in re.findall(r"`((?:twinslot|twinslot-image) [a-z][^`]*)`", (ROOT / page).read_text()):
        program, *rest = words.replace("\n", " ").split()
        parser = cli_parser.make_parser() if program == "twinslot" else image_parser.make_parser()
        help_text = ""
        for word in rest:
            if word.startswith("-") and word != "-":
                assert re.search(rf"(?<![\w-]){re.escape(word.partition('=')[0])}(?![\w-])", help_text), words
            else:
                below = [a.choices[word] for a in parser._actions if isinstance(a.choices, dict) and word in a.choices]
                assert below or help_text, f"{words}: no verb '{word}'"
                parser = below[0] if below else parser
                help_text = parser.format_help()


# The release guide, from an empty directory, with the real tools.

# What `guide-device.md` puts into a root file system, as the board of the release guide has it.
SYSTEM = """
mkdir -p tree/usr/lib/twinslot
cp keys/1.root.json tree/usr/lib/twinslot/root.json
cat > tree/usr/lib/twinslot/config.toml <<'END'
[device]
compatible = "acme,pump-3"
[trust]
roles = ["engineering", "clinical"]
[slots.a]
rootfs = "/dev/disk/by-partlabel/slot_a"
[slots.b]
rootfs = "/dev/disk/by-partlabel/slot_b"
END
printf '/dev/mmcblk0 0x%x 0x4000\n' 0x400000 0x800000 > tree/etc/fw_env.config
"""

BETWEEN = {
    "build": SYSTEM,
    "sign": 'set -- keys/private/clinical.*.pem; cp "$1" alice.pem',
    "elsewhere": "twinslot-image verify pump.twin --root keys/1.root.json --roles engineering,clinical 2> missing || :",
    "patch": (
        "echo 2026.10 > tree/etc/version; mkfs.erofs -T1700000000 old.img tree > /dev/null; "
        "sed s/rootfs.img/old.img/ image.toml > old.toml; "
        "twinslot-image build old.toml -o pump-2026.10.twin --release 2026.10 --sequence 41"
    ),
    "provision": "truncate -s 16M disk.img card.img; sed s,disk.img,/dev/mmcblk0, fw_env.config > card.config",
    "environment": (
        "twinslot-image provision pump.twin --record card.sqlite "
        "--environment card.img --fw-env-config card.config > card.txt"
    ),
}


def text_of(name: str, language: str = "sh") -> str:
    """A named block of the release guide."""
    return next(b.text for b in blocks("docs/guide-release.md") if (b.language, b.name) == (language, name))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The directory after all commands of the release guide, and what each block printed."""
    folder = made_once(tmp_path_factory, "release", follow_the_release_guide)
    said = {file.name.removeprefix("said."): file.read_text() for file in folder.glob("said.*")}
    return folder, said | {"missing": (folder / "missing").read_text()}


def follow_the_release_guide(folder: Path) -> None:
    """All of its commands, in this directory."""
    tree = make_tree(folder / "tree")
    (tree / "usr/lib/python3").mkdir()
    (tree / "usr/lib/python3/pump.py").write_text("READY = True\n")
    (folder / "notes.md").write_text("# 2026.11\n\nThe alarm is louder.\n")
    script = []
    for block in blocks("docs/guide-release.md"):
        if block.language in ("toml", "text") and "." in block.name:
            (folder / block.name).write_text(block.text + "\n")
        if block.language == "sh" and block.name not in NOT_RUN:
            script += [BETWEEN.get(block.name, ""), f"exec > said.{block.name}", block.text]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
    done = subprocess.run(
        ["bash", "-eu", "-c", "\n".join(script)],
        cwd=folder,
        env=os.environ | {"PATH": path, "TMPDIR": str(folder)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def shape(text: str) -> str:
    """A text without its numbers, and the same for one group and many."""
    return re.sub(r"\d+", "N", " ".join(text.split())).replace("N groups", "N group")


@pytest.mark.slow
def test_the_release_guide_works_from_an_empty_directory(release: tuple[Path, dict[str, str]]) -> None:
    folder, said = release
    made = {path.name for path in folder.iterdir()} | {path.name for path in (folder / "release").iterdir()}
    assert {"pump.twin", "pump.twinblocks", "record.sqlite", "environment.txt", "signature.bin"} <= made
    assert [name for name in made if re.fullmatch(r"pump\.from-[0-9a-f]{16}\.twinpatch", name)]
    assert (folder / "keys/2.root.json").exists()
    assert (folder / "factory.img").stat().st_size > 12 << 20
    assert b"ENCRYPTED" in next((folder / "keys/private").glob("engineering.*.pem")).read_bytes()
    assert said["inspect"] if "inspect" in said else said["verify"]


@pytest.mark.slow
def test_a_good_image_is_told_as_the_guide_shows(release: tuple[Path, dict[str, str]]) -> None:
    told = shape(release[1]["verify"])
    assert shape(text_of("verify", "text")) in told


@pytest.mark.slow
def test_a_missing_signature_is_told_as_the_guide_shows(release: tuple[Path, dict[str, str]]) -> None:
    assert shape(release[1]["missing"]) == shape(text_of("missing", "text"))


@pytest.mark.slow
def test_the_environment_of_the_guide_is_read_back_by_the_real_tool(release: tuple[Path, dict[str, str]]) -> None:
    folder, said = release
    lines = set((folder / "environment.txt").read_text().split("\n")) - {""}
    assert {"slot=a", "slot_a=good"} <= lines
    assert set(said["environment"].splitlines()) == lines
    disk = (folder / "disk.img").read_bytes()
    image = (folder / "environment.img").read_bytes()
    card = (folder / "card.img").read_bytes()
    copies = [rawenv.decode(medium[at : at + len(image)]) for medium in (disk, card) for at in (0x100000, 0x900000)]
    assert {"\n".join(f"{k}={v}" for k, v in copy.variables.items()) for copy in copies if copy} == {
        "\n".join(sorted(lines))
    }
    assert None not in copies, "the tool writes by itself what the page writes by hand"
    assert disk[0x100000 : 0x100000 + len(image)] == disk[0x900000 : 0x900000 + len(image)] == image


@pytest.mark.slow
def test_the_byte_code_of_the_guide_is_independent_of_times(release: tuple[Path, dict[str, str]]) -> None:
    compiled = list((release[0] / "tree/usr/lib/python3/__pycache__").glob("pump.*.pyc"))
    assert [file.read_bytes()[4:8] for file in compiled] == [b"\x01\0\0\0"]  # PEP 552: hash-based, unchecked


@pytest.mark.slow
def test_a_squashfs_is_refused_and_raw_takes_it(release: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    text = text_of("image.toml", "toml").replace("rootfs.img", str(tmp_path / "rootfs.img"))
    text = text.replace('"keys"', f'"{release[0] / "keys"}"').replace('"notes.md"', f'"{release[0] / "notes.md"}"')
    (tmp_path / "rootfs.img").write_bytes(b"hsqs" + bytes(8188))
    (tmp_path / "image.toml").write_text(text)
    assert image_cli.main(["build", str(tmp_path / "image.toml"), "-o", str(tmp_path / "x.twin")]) == 3
    raw = text.replace('architecture = "arm64"\n', "").replace("[attachments", 'check = "none"\n\n[attachments')
    (tmp_path / "image.toml").write_text(raw)
    assert image_cli.main(["build", str(tmp_path / "image.toml"), "-o", str(tmp_path / "x.twin")]) == 0


def test_the_check_for_ranges_tells_a_server_with_them(tmp_path: Path) -> None:
    (tmp_path / "pump.twin").write_bytes(bytes(1000))
    with FileServer(tmp_path) as server:
        command = text_of("ranges").replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").partition("   #")[0]
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "206\n"


def test_make_venv_installs_what_the_guide_says() -> None:
    plan = subprocess.run(["make", "-n", "-B", "venv"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "tests/make-venv.sh -e" in plan
    wanted = re.search(r"pip install (.*)$", text_of("install"), re.MULTILINE)
    assert wanted
    for place in wanted[1].split():
        assert f"-e {place}" in plan
        assert (ROOT / place / "pyproject.toml").is_file()


def test_no_page_installs_from_a_registry_what_none_has() -> None:
    installs = [
        (str(page.relative_to(ROOT)), found[1])
        for page in [*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *(ROOT / "docs").rglob("*.md")]
        for found in re.finditer(r"pip install ([^`\n]+)", page.read_text())
    ]
    assert {page for page, _ in installs} >= {"README.md", "image_tools/README.md", "qemu/README.md"}
    for page, words in installs:
        named = [word.strip("'\"") for word in words.split() if not word.startswith("-")]
        assert all(word.startswith((".", "~", "$", "/")) or word.endswith(".whl") for word in named), (page, words)
        for word in named:
            if word.startswith(("./", "~/twinslot/")):
                folder = word.removeprefix("./").removeprefix("~/twinslot/").partition("[")[0]
                assert (ROOT / folder / "pyproject.toml").is_file(), page


# Configuration and data of the other pages


CONFIGURATION = ("[device]", "[install]", "[decryption]", "[http]")


def test_the_configuration_of_the_guide_loads(tmp_path: Path) -> None:
    main, *more = (b.text for b in blocks("docs/guide-device.md") if b.text.startswith(CONFIGURATION))
    (tmp_path / "usr/lib/twinslot/config.d").mkdir(parents=True)
    (tmp_path / "usr/lib/twinslot/config.toml").write_text(main)
    for number, text in enumerate(more):
        (tmp_path / f"usr/lib/twinslot/config.d/{number}.toml").write_text(text)
    loaded = config.load(tmp_path)
    assert loaded.trust.roles == ("engineering", "clinical")
    assert (loaded.install.nice, loaded.http.rate_limit, loaded.delta.on_failure) == (19, 500_000, "fail")


def test_the_configuration_of_the_manual_loads(tmp_path: Path) -> None:
    [block] = manual_blocks("docs/man/twinslot-config.5")
    (tmp_path / "etc/twinslot").mkdir(parents=True)
    (tmp_path / "etc/twinslot/config.toml").write_text(block.text)
    assert config.load(tmp_path).health.units == ("pump.service",)


def test_the_description_of_the_reference_is_read(tmp_path: Path) -> None:
    [block] = [b for b in blocks("docs/image-toml.md") if b.language == "toml"]
    (tmp_path / "image.toml").write_text(block.text)
    read = read_description(tmp_path / "image.toml")
    assert [payload.name for payload in read.payloads] == ["firmware", "rootfs"]


def test_the_drop_in_of_the_guide_narrows_what_the_unit_allows() -> None:
    [block] = [b for b in blocks("docs/guide-device.md") if b.text.startswith("[Service]")]
    unit = (ROOT / "systemd/twinslot.service").read_text()
    keys = {line.partition("=")[0] for line in block.text.splitlines()[1:]}
    assert keys == {"DeviceAllow"}
    assert "\nDeviceAllow=" in unit
    assert block.text.splitlines()[1] == "DeviceAllow=", "the classes of the package go first"


def test_the_bus_examples_fit_the_interface() -> None:
    [block] = [b for b in blocks("docs/dbus.md") if b.text.startswith("busctl introspect")]
    root = ET.parse(names.DESCRIPTION).getroot()
    methods = {m.attrib["name"]: m for i in root.iter("interface") for m in i.iter("method")}
    for line in command_lines(block.text):
        words = shlex.split(line)
        assert words[0] == "busctl"
        assert words[2] == names.SERVICE
        assert words[3:4] in ([], [names.PATH])
        if words[1] == "call":
            assert words[4] == names.UPDATE
            wanted = [a.attrib["type"] for a in methods[words[5]].iter("arg") if a.get("direction") == "in"]
            assert "".join(wanted) == words[6]
            option, signature = words[9], words[10]
            assert types_of(OF_METHOD[words[5]])[option] == signature


def test_the_error_on_the_bus_looks_as_the_page_shows() -> None:
    [block] = [b for b in blocks("docs/dbus.md") if b.text.startswith("org.twinslot.Error.")]
    name, sentence, data = block.text.splitlines()
    busy = Refusal("busy", "a job of kind 'install' is running", found=f"{names.JOB_PATH}/3", hint="wait for its end")
    error = RefusedError(busy)
    assert names.error_name(error) == name
    first, second = names.error_text(error).splitlines()
    assert first == sentence
    shown = json.loads(data.replace(", ...}", "}"))
    assert shown.items() <= json.loads(second).items()


def test_the_objects_of_the_format_page_are_those_of_an_image() -> None:
    manifest = json.loads(make_sample().manifest_bytes)["signed"]["targets"]
    shown = [json.loads(b.text.replace("\n", "")) for b in blocks("docs/image-format.md") if b.text.startswith("{")]
    for one in shown:
        kind = one["custom"]["kind"]
        real = next(each for each in manifest.values() if each["custom"]["kind"] == kind)
        assert one.keys() == real.keys()
        assert {k: type(v) for k, v in one["custom"].items()} == {k: type(v) for k, v in real["custom"].items()}


PYTHON = [block for block in ALL if "python" in block.how or block.language == "python"]


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: f"{block.page}: {block.text[:40]}")
def test_every_python_example_compiles_and_asks_for_fixtures_that_exist(block: Block) -> None:
    fixtures = "".join(
        path.read_text() for path in [*(ROOT / "qemu/twinslot_lab").glob("*.py"), ROOT / "tests/board/conftest.py"]
    )
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            for argument in node.args.args:
                assert f"def {argument.arg}(" in fixtures, argument.arg


NAMES = [block for block in ALL if block.how == "names" or block.how.startswith("names;")]


@pytest.mark.parametrize("block", NAMES, ids=lambda block: f"{block.page}: {block.text[:40]}")
def test_every_place_that_a_list_of_a_page_names_exists(block: Block) -> None:
    folder = (ROOT / block.page).parent
    for word in re.findall(r"(?<!\S)[\w.*-]+/[\w./*-]*", block.text):
        assert list(folder.glob(word.rstrip("/"))) or list(folder.glob(f"*/{word.rstrip('/')}")), word


# The guide to changes of keys


@pytest.fixture(scope="module")
def ceremony(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The directory after all commands of the guide to keys, and what each block printed."""
    folder = tmp_path_factory.mktemp("ceremony")
    script = []
    for block in blocks("docs/guide-keys.md"):
        if block.language == "sh":
            script += [f"exec > said.{block.name}", block.text]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path}
    done = subprocess.run(
        ["bash", "-eu", "-c", "\n".join(script)], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder, {file.name.removeprefix("said."): file.read_text() for file in folder.glob("said.*")}


@pytest.mark.slow
@pytest.mark.slow
def test_a_ceremony_of_five_people_on_five_directories_works_though_one_lost_a_key(
    ceremony: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, said = ceremony
    monkeypatch.setenv("TWINSLOT_KEY_PASSPHRASE", "...")
    people = [folder / name / "keys" for name in ("ann", "ben", "cem", "dora", "eve")]
    for person in people:
        assert {path.name for path in person.glob("*.json")} >= {"3.root.json", "targets.json", "labels.json"}
        for name in ("3.root.json", "targets.json"):
            assert (person / name).read_bytes() == (people[0] / name).read_bytes()
        assert len(list((person / "private").iterdir())) <= 2, "no two keys of one role have met"
    assert said["renew"].count(": 3 of 3 signatures") == 2 * 6, "the threshold, by old and new root"
    (folder / "image.toml").write_text(
        'product = "Pump"\nrelease = "1"\nsequence = 1\ncompatible = "acme,pump-3"\ntrust = "eve/keys"\n'
        '[payloads.firmware]\nfile = "image.toml"\ncheck = "none"\n'
    )
    image = str(folder / "pump.twin")
    assert image_cli.main(["build", str(folder / "image.toml"), "-o", image]) == 0
    (key,) = (folder / "start/private").glob("engineering.*.pem")
    assert image_cli.main(["sign", image, "--role", "engineering", "--key", str(key)]) == 0
    start = ["--root", str(folder / "start/1.root.json"), "--targets", str(folder / "start/targets.json")]
    assert image_cli.main(["verify", image, *start, "--roles", "engineering"]) == 0


@pytest.mark.slow
def test_the_words_of_a_proposal_look_as_the_guide_shows(ceremony: tuple[Path, dict[str, str]]) -> None:
    shown = next(block.text for block in blocks("docs/guide-keys.md") if block.name == "proposed")

    def alike(text: str) -> str:
        return re.sub(r"\b[0-9a-f]{16}\b", "ID", re.sub(r"\d{4}-\d\d-\d\d", "DATE", text))

    assert alike(ceremony[1]["propose"]).startswith(alike(shown) + "\n")
