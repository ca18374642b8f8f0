"""`twinslot-image dossier`: made, and verified."""

from __future__ import annotations

import argparse
from typing import Final

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

from twinslot.cli.output import Output
from twinslot.core.errors import DeviceError, Refusal, RefusedError, UsageError
from twinslot.core.text import printable
from twinslot.image.wire import parse_trust
from twinslot_image.cli_commands import counted, say
from twinslot_image.cli_keys import words
from twinslot_image.directory_output import refuse_existing, write_directory
from twinslot_image.dossier.gather import Gathered
from twinslot_image.dossier.model import SECTIONS, SectionState
from twinslot_image.dossier.request import read_request
from twinslot_image.dossier.write import INDEX, dossier_files
from twinslot_image.dossier_verify import Dossier, Finding
from twinslot_image.key_files import load_public
from twinslot_image.key_source import open_signer
from twinslot_image.named_file import read_small
from twinslot_image.recipients import unlock_with
from twinslot_image.signing import role_keys
from twinslot_image.verify import read_root

_ASKED: Final = ("image/manifest.json", "image/targets.json")  # where it is said that a role which must sign did not


def make(arguments: argparse.Namespace, output: Output) -> None:
    """`dossier make`."""
    refuse_existing(arguments.output, INDEX, force=arguments.force)
    request = read_request(arguments.description)
    gathered = Gathered(request, unlock_with(arguments))
    signer = open_signer(arguments.key, arguments)
    _check_role(gathered, arguments.role, signer)
    files = dossier_files(gathered, signer, arguments.role or "")
    write_directory(arguments.output, files, mark=INDEX, force=arguments.force)
    lacking = [section for section in gathered.sections if section.state is not SectionState.THERE]
    lines = [f"{arguments.output}: {gathered.product} {gathered.release}, {len(files)} files"]
    lines += [f"  {SECTIONS[each.id]}: {each.state}, {each.note}" for each in lacking]
    states = {section.id: str(section.state) for section in gathered.sections}
    data = {"directory": str(arguments.output), "files": len(files), "sections": states, "client": gathered.client}
    say(arguments, output, data, lines)


def _check_role(gathered: Gathered, role: str | None, signer: CryptoSigner) -> None:
    """Who signs as a role must hold one of its keys."""
    if role and gathered.image:
        role_keys(parse_trust(gathered.image.front.trust).targets, role, signer.public_key.keyid)


def verify(arguments: argparse.Namespace, output: Output) -> None:
    """`dossier verify`: the findings of the reader that shares no code with what makes a dossier."""
    roles = words(arguments.roles, "--roles") if arguments.roles else ()
    if not arguments.directory.is_dir():
        raise DeviceError(f"'{arguments.directory}' is no directory", code="file", expected="a dossier")
    if not (arguments.key or arguments.root):
        raise UsageError("what is trusted is missing on the command line", code="missing", hint="'--root' or '--key'")
    keys = [read_small(path) for path in arguments.key or ()]
    for path in arguments.key or ():
        load_public(path)  # a key that cannot be read is named by its file
    root = read_root(arguments.root) if arguments.root else None
    found = Dossier(arguments.directory, keys, root, arguments.signer or "", roles).findings
    if output.as_json:
        output.line(
            {"type": "dossier", "directory": str(arguments.directory), "findings": [_finding(f) for f in found]}
        )
    else:
        lines = [f"{each.kind}: {each.where}: {each.what}" for each in found]
        output.text(map(printable, lines or ["nothing is missing, stale or forged"]))
    wrong = [each for each in found if each.kind in ("stale", "forged") or (roles and each.where in _ASKED)]
    lacking = found if arguments.complete else wrong
    if lacking:
        what = f"the dossier is not to be relied on: {counted(len(lacking), 'finding')}"
        first = lacking[0]
        raise RefusedError(Refusal("dossier", what, "none", f"{first.kind}: {first.where}: {first.what}"))


def _finding(finding: Finding) -> dict[str, str]:
    return {"kind": finding.kind, "where": finding.where, "what": finding.what}
