"""What the verbs of both tools print with `--json`: samples, and the comparison with what they print now."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from twinslot_image.cli import main as twinslot_image

Line = dict[str, Any]
Lines = dict[str, list[Line]]  # by the words of the command
ID: Final = re.compile(r"[0-9a-f-]{32,}")  # of a start, an update or a key; another one each time
IMAGE: Final = """
product = "Pump"
release = "{sequence}.0"
sequence = {sequence}
compatible = ["acme,pump-3"]
trust = "keys"
group_size = 8192
[source]
tag = "v{sequence}"
[payloads.rootfs]
file = "rootfs.{sequence}"
check = "none"
[attachments."release-notes.md"]
file = "notes.md"
"""


def of_the_build_host(folder: Path) -> Lines:
    """Every verb of `twinslot-image`, in an empty folder that is the working directory."""
    for name in ("eve", "bob"):
        public = Ed25519PrivateKey.generate().public_key()
        (folder / f"{name}.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (folder / "notes.md").write_text("# Alarm is louder\n")
    for sequence in (1, 2):
        content = random.Random(7).randbytes(60_000) + f"release {sequence}".encode() * 9000
        (folder / f"rootfs.{sequence}").write_bytes(content)
        (folder / f"{sequence}.toml").write_text(IMAGE.format(sequence=sequence))
    found: Lines = {}
    for words in (
        "init product",
        "keys init keys --roles engineering,clinical",
        "keys add keys engineering eve.pem",
        "keys add keys clinical bob.pem",
        "keys list keys",
        "keys remove keys clinical bob",
        "keys propose keys engineering --remove eve -o change.json",
        "keys sign keys change.json --yes",
        "keys finish keys change.json",
        "keys rotate keys clinical",
        "build 1.toml -o 1.twin",
        "build 2.toml -o 2.twin",
        "sign 2.twin --role engineering --key {key}",
        "sign 2.twin --detached-payload payload.bin",
        "inspect 2.twin",
        "patch 1.twin 2.twin -o 2.twinpatch",
        "blocks 2.twin -o 2.twinblocks",
        "inspect 2.twinpatch",
        "inspect 2.twinblocks",
        "verify 2.twin --root keys/1.root.json --roles engineering",
        "verify 2.twin --root keys/1.root.json --roles engineering,clinical",
        "extract-attachment 2.twin release-notes.md -o out.md",
        "provision 2.twin --record record.sqlite",
    ):
        key = next(folder.glob("keys/private/engineering.*.pem"), "")
        found[words] = _printed(words.format(key=key).split())
    return found


def _printed(argv: list[str]) -> list[Line]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        twinslot_image([*argv, "--json"])
    return [json.loads(line) for line in out.getvalue().splitlines()]


def shapes(lines: Lines) -> dict[str, dict[str, Any]]:
    """For each command the form of each kind of object that it prints: `progress`, `result`, an event by its name."""
    kinds: dict[str, dict[str, Any]] = {}
    for words, printed in lines.items():
        for line in printed:
            kind = f"{line['type']} {line.get('event', '')}".strip()
            known = kinds.setdefault(words, {})
            known[kind] = _both(known[kind], _shape(line)) if kind in known else _shape(line)
    return kinds


def _shape(value: object) -> Any:
    """The type of a value, by JSON's names; of a list that of its members together."""
    if isinstance(value, Mapping):
        return {ID.sub("an id", key): _shape(member) for key, member in value.items()}
    if isinstance(value, list):
        members = [_shape(member) for member in value]
        together = members[0] if members else "null"
        for member in members[1:]:
            together = _both(together, member)
        return [together]
    if value is None:
        return "null"
    return "true or false" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def _both(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: _both(one.get(key, "null"), other.get(key, "null")) for key in one | other}
    if isinstance(one, list) and isinstance(other, list):
        return [_both(one[0], other[0])]
    return other if one == "null" else one


def gone(before: Any, now: Any, where: str = "") -> Iterable[str]:
    """What was there before and is not now, or has another type; a value that is not known on either side has none."""
    if "null" in (before, now):
        return
    if isinstance(before, dict) and isinstance(now, dict):
        for key, member in before.items():
            if key in now:
                yield from gone(member, now[key], f"{where} {key}".strip())
            else:
                yield f"{where} {key}".strip()
    elif isinstance(before, list) and isinstance(now, list):
        yield from gone(before[0], now[0], where)
    elif before != now:
        yield f"{where}: {before} is {now}"


def write(path: Path, lines: Lines) -> None:
    """Keep a sample: one object a line, as it was printed, below the words of its command."""
    text = "".join(
        f"# {words}\n" + "".join(f"{json.dumps(line)}\n" for line in some(printed)) for words, printed in lines.items()
    )
    path.write_text(text)


def some(printed: list[Line]) -> Iterable[Line]:
    """What was printed, with one line of progress for each phase."""
    phases = set()
    for line in printed:
        if line["type"] != "progress" or line["phase"] not in phases:
            phases.add(line.get("phase"))
            yield line


def read(path: Path) -> Lines:
    """A sample that was kept."""
    lines: Lines = {}
    words = ""
    for line in path.read_text().splitlines():
        if line.startswith("# "):
            words = line[2:]
            lines[words] = []
        else:
            lines[words].append(json.loads(line))
    return lines
