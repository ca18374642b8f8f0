"""Verifies the dossier of a release: says what is missing, stale, not passed or forged. A program of its own.

    python3 -I dossier_verify.py DIR --root 1.root.json --roles engineering,clinical

It needs Python 3.11 and cryptography alone. The reader brings what he trusts: the devices' root document, or the key of
who signs dossiers. Exit status: 0 no finding, 1 something missing or not passed, 2 stale or forged, 3 a wrong command.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import load_pem_public_key

SECTIONS = ["summary", "changes", "touched", "matrix", "coverage", "power-cuts", "crash-states", "sbom"]
SECTIONS += ["vulnerabilities", "provenance", "reproducibility", "approvals", "anomalies", "deployment", "keys"]
INDEX, SIZE_MAX, OTHER = "index.dsse.json", 64 << 20, "of another client than the dossier"  # bytes of one file
PLANNED = ("clinical", "model")  # classes of change that have the section pccp, too
OUTER = ("application/vnd.in-toto+json", "https://in-toto.io/Statement/v1")
TYPES = {"index": "tag:twinslot.org,2026:dossier/1", "approval": "tag:twinslot.org,2026:approval/1"}
TYPES |= {"figure": "https://in-toto.io/attestation/test-result/v0.1", "provenance": "https://slsa.dev/provenance/v1"}
BAD = (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError, OSError, UnsupportedAlgorithm)


class Finding(NamedTuple):
    """One thing that is not as it must be."""

    kind: str  # missing, not passed, stale, forged
    where: str
    what: str


def canonical(value: Any) -> str:
    """What signatures of TUF documents cover (OLPC's canonical JSON)."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{canonical(key)}:{canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"' if isinstance(value, str) else json.dumps(value)


def load(key: dict[str, Any]) -> Any:
    """A public key as TUF documents have it."""
    public = key["keyval"]["public"]
    if key["scheme"] == "ed25519":
        return ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    return load_pem_public_key(public.encode())


def good(key: Any, signature: bytes, data: bytes) -> bool:
    """Whether the key made the signature over the data; the key says how it signs."""
    how: tuple[Any, ...] = (padding.PSS(padding.MGF1(SHA256()), padding.PSS.AUTO), SHA256())
    if isinstance(key, ec.EllipticCurvePublicKey):
        how = (ec.ECDSA(SHA384() if key.key_size == 384 else SHA256()),)
    elif isinstance(key, ed25519.Ed25519PublicKey):
        how = ()
    try:
        key.verify(signature, data, *how)
    except InvalidSignature:
        return False
    return True


def has_threshold(document: dict[str, Any], keys: dict[str, Any], role: dict[str, Any]) -> bool:
    """Whether as many different keys of a role signed a TUF document as must."""
    data, signers = canonical(document["signed"]).encode(), set()
    for each in document["signatures"]:
        if each["keyid"] in role["keyids"] and good(load(keys[each["keyid"]]), bytes.fromhex(each["sig"]), data):
            signers.add(keys[each["keyid"]]["keyval"]["public"])
    return 1 <= int(role["threshold"]) <= len(signers)


class Dossier:
    """One look at a directory; `findings` has what was found. The rest is as on the command line."""

    def __init__(self, place: Path, keys: list[bytes], root: bytes | None, signer: str, roles: Iterable[str]) -> None:
        self.root, self.signer, self.roles = root, signer, roles
        self.findings: list[Finding] = []
        self.accepted = [load_pem_public_key(pem) for pem in keys]  # of the index and of figures
        self.files: dict[str, bytes] = {}
        self.digests: dict[str, str] = {}  # SHA-256 in hex, of each file
        self.delegated: dict[str, dict[str, Any]] = {}  # role by name
        self.held: dict[str, Any] = {}  # key by id
        self.index: dict[str, Any] = {}
        self.read(place)
        for name in ("trust", "check_index", "manifest", "sections", "figures", "approvals", "bound"):
            try:
                getattr(self, name)()
            except BAD as e:
                self.must(False, "forged", name, f"not of a dossier's form: {type(e).__name__} {str(e)[:80]}")

    def must(self, holds: object, kind: str, where: str, what: str) -> None:
        """A finding, unless it holds."""
        if not holds:
            self.findings.append(Finding(kind, where, what))

    def read(self, directory: Path) -> None:
        """Every file; what is none is a finding."""
        for path in sorted(directory.rglob("*")):
            name = path.relative_to(directory).as_posix()
            plain = not path.is_symlink() and (path.is_dir() or (path.is_file() and path.stat().st_size <= SIZE_MAX))
            self.must(plain, "forged", name, f"no file of at most {SIZE_MAX} bytes, and no directory")
            if plain and path.is_file():
                self.files[name] = path.read_bytes()
                self.digests[name] = hashlib.sha256(self.files[name]).hexdigest()

    def statement(self, name: str, kind: str, keys: Iterable[Any], who: str) -> dict[str, Any]:
        """The statement in an envelope; a finding, if none of the keys signed it."""
        envelope = json.loads(self.files[name])
        body, type_ = base64.b64decode(envelope["payload"], validate=True), envelope["payloadType"].encode()
        covered = b"DSSEv1 %d %b %d %b" % (len(type_), type_, len(body), body)
        signatures = [base64.b64decode(each["sig"], validate=True) for each in envelope["signatures"]]
        signed = any(good(key, signature, covered) for key in keys for signature in signatures)
        self.must(signed, "forged", name, f"signed by {who}")
        found: dict[str, Any] = json.loads(body)
        types = (envelope["payloadType"], found["_type"], found["predicateType"]) == (*OUTER, TYPES[kind])
        self.must(types, "forged", name, f"the statement is no {kind}")
        return found

    def trust(self) -> None:
        """From the reader's root over the newer ones to the targets document, which says who holds which role."""
        if "image/targets.json" not in self.files:
            return
        targets = json.loads(self.files["image/targets.json"])
        self.held = targets["signed"]["delegations"]["keys"]
        self.must(self.root, "missing", "image/targets.json", "who holds which role is not verified without a root")
        last: Any = json.loads(self.root) if self.root else None
        roots = [data for name, data in self.files.items() if re.fullmatch(r"image/[0-9]+\.root\.json", name)]
        for root in sorted(map(json.loads, roots), key=lambda each: int(each["signed"]["version"])) if last else ():
            version, before = root["signed"]["version"], last["signed"]["version"]
            if version > before:
                both = [has_threshold(root, by["signed"]["keys"], by["signed"]["roles"]["root"]) for by in (last, root)]
                follows = version == before + 1 and all(both)
                self.must(follows, "forged", "image", f"root version {version} does not follow")
                last = root if follows else last
        if not last or has_threshold(targets, last["signed"]["keys"], last["signed"]["roles"]["targets"]):
            self.delegated = {role["name"]: role for role in targets["signed"]["delegations"]["roles"]}
        self.must(self.delegated, "forged", "image/targets.json", "not signed by the role targets of the root")

    def keys_of(self, *roles: str) -> list[Any]:
        """The keys of roles, as far as it is known who holds them."""
        return [load(self.held[id_]) for role in roles for id_ in self.delegated.get(role, {"keyids": []})["keyids"]]

    # keeps: REQ-EVI-04 (in a process of its own)
    def check_index(self) -> None:
        """The index is signed by who may, and every file is the one that it names."""
        role = json.loads(base64.b64decode(json.loads(self.files[INDEX])["payload"]))["predicate"]["role"]
        self.accepted += self.keys_of(self.signer or role) if self.root else []
        statement = self.statement(INDEX, "index", self.accepted, "none of the keys that may")
        self.index = statement["predicate"]
        listed = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
        for name in sorted(listed.keys() | self.files.keys() - {INDEX}):
            self.must(name in self.files, "forged", name, "removed: the index names it")
            self.must(name in listed, "forged", name, "added: the index does not name it")
            same = self.digests.get(name, listed.get(name)) == listed.get(name, self.digests.get(name))
            self.must(same, "forged", name, "changed: another digest than the index has")

    def manifest(self) -> None:
        """The manifest is the one that the index is of, and the roles signed it."""
        name = "image/manifest.json"
        self.must(name in self.files or not self.index["manifest"], "forged", name, "removed: the index is of it")
        manifest = json.loads(self.files.get(name, b'{"signed": {"version": 0}, "signatures": []}'))
        of = hashlib.sha256(canonical(manifest["signed"]).encode()).hexdigest(), manifest["signed"]["version"]
        same = of == (self.index["manifest"], self.index["sequence"]) or name not in self.files
        self.must(same, "forged", name, "not the one of the index")
        for role in self.roles:
            signed = role in self.delegated and has_threshold(manifest, self.held, self.delegated[role])
            self.must(signed, "missing", name, f"fewer signatures than role '{role}' must give")

    def sections(self) -> None:
        """Each section has its row; what a release lacks is said."""
        rows = {row["id"]: row for row in self.index["sections"]}
        told = {each["id"]: each["state"] for each in json.loads(self.files["dossier.json"])["sections"]}
        for id_ in [*SECTIONS, *(["pccp"] if self.index["class"] in PLANNED else [])]:
            self.must(id_ in rows, "missing", id_, "the index has no row for it")
        for id_, row in rows.items():
            state = row["state"]
            kind = {"there": "", "not passed": "not passed", "missing": "missing", "unbound": "missing"}.get(state)
            self.must(not kind, str(kind), id_, row["note"] or state)
            there = kind is not None and (state != "there" or row["files"] or id_ == "keys")
            self.must(there, "forged", id_, f"said to be '{state}', and without a file")
            self.must(told.get(id_) == state, "forged", "dossier.json", f"another state of '{id_}' than in the index")
            for name in [*row["files"], *([row["figure"]] if row["figure"] else [])]:
                self.must(name in self.files, "forged", id_, f"its file '{name}' is not there")

    def figures(self) -> None:
        """Each figure is signed, of this client, and says what its own files say."""
        for row in self.index["sections"]:
            name, id_ = row["figure"], row["id"]
            bare = id_ in SECTIONS[3:7] and row["state"] in ("there", "not passed")  # matrix to crash-states
            self.must(name or not bare, "forged", id_, "a result without a signed figure")
            if name in self.files:
                statement = self.statement(name, "figure", self.accepted, "none of the keys that may")
                self.must(statement["subject"][0]["digest"]["sha256"] == self.index["client"], "stale", name, OTHER)
                self.figure(row, statement["predicate"])

    def figure(self, row: dict[str, Any], said: dict[str, Any]) -> None:
        """A figure beside the files that it was made from."""
        passed, files = said["result"] == "PASSED" and not said["failedTests"], said["configuration"]
        for each in files:
            same = self.digests.get(each["name"]) == each["digest"]["sha256"]
            self.must(same, "stale", row["figure"], f"made from another '{each['name']}'")
        same = files and passed == (False not in [self.result(row["id"], each["name"]) for each in files])
        self.must(same, "forged", row["figure"], f"says {said['result']}, and its files do not")
        self.must(passed == (row["state"] == "there"), "forged", row["id"], f"its figure says {said['result']}")

    def result(self, id_: str, name: str) -> bool:
        """Whether a file of results says that all was passed; one of another client is stale."""
        client = self.index["client"]
        if name.endswith(".jsonl"):
            lines = [json.loads(line) for line in self.files[name].splitlines() if line]
            return not [1 for line in lines if line.get("subject") == client and line["outcome"] == "BRICK"]
        whole = json.loads(self.files[name])
        if id_ == "coverage":  # each line was reached under a context that names the client
            said = {one for file in whole["files"].values() for each in file["contexts"].values() for one in each}
            self.must({one.partition("|")[0] for one in said} == {f"subject={client}"}, "stale", name, OTHER)
            return bool(said)
        for made in whole.get("campaigns") or [{"made_of": whole}]:
            self.must(made["made_of"].get("subject") == client, "stale", name, OTHER)
        if id_ == "matrix":
            red = [*whole["faults"], *(run for run in whole["runs"] if run["failed"])]
            return bool(whole["runs"]) and not red and "failed" not in [each["outcome"] for each in whole["tests"]]
        bad = [whole.get("bricks", whole.get("bad")), *(each["bad"] for each in whole.get("phases", {}).values())]
        bad += [each["outcome"] == "BRICK" for each in whole.get("cuts", [])]
        return bool(whole.get("cuts", whole.get("states"))) and not any(bad)

    def approvals(self) -> None:
        """Each approval is by a key of its role, of this manifest, and not older than the image."""
        for name in (each for each in self.files if each.startswith("approvals/")):
            role = json.loads(base64.b64decode(json.loads(self.files[name])["payload"]))["predicate"]["role"]
            statement = self.statement(name, "approval", self.keys_of(role), f"no key of role '{role}'")
            (of,) = (each["digest"]["sha256"] for each in statement["subject"])
            self.must(of == self.index["manifest"], "forged", name, "of another manifest")
            built = json.loads(self.files["image/manifest.json"])["signed"]["x-twinslot"]["built"]
            self.must(statement["predicate"]["time"] >= built, "stale", name, "dated before the image was built")

    def bound(self) -> None:
        """What is of the image is of this image: second build, attachments, bill of materials, deployment."""
        there = [row["id"] for row in self.index["sections"] if row["state"] == "there"]
        rows = {row["id"]: [name for name in row["files"] if name in self.files] for row in self.index["sections"]}
        for name in rows.get("reproducibility", []):
            builds = json.loads(self.files[name])
            same = builds["equal"] == ("reproducibility" in there) == (builds["first"] == builds["second"] != {})
            self.must(same, "forged", name, "says of the two builds what their digests do not")
        if not (manifest := self.files.get("image/manifest.json")):
            return
        targets = json.loads(manifest)["signed"]["targets"]
        digests = {name: each["hashes"]["sha256"] for name, each in targets.items()}
        payloads = {digests[name] for name, each in targets.items() if each["custom"]["kind"] == "payload"}
        for name in (each for each in self.files if each.startswith("image/attachments/")):
            same = self.digests[name] == digests.get(name.removeprefix("image/attachments/"))
            self.must(same, "forged", name, "no attachment of this image")
        for name in rows.get("sbom", []):
            of = {each["content"] for each in json.loads(self.files[name])["metadata"]["component"].get("hashes", [])}
            self.must(of & payloads, "forged", name, "the bill of materials of another image")
        for name in rows.get("provenance", []):
            of = json.loads(base64.b64decode(json.loads(self.files[name])["payload"]))["subject"]
            ours = {each["digest"].get("sha256") for each in of} & {*payloads, self.index["manifest"]}
            self.must(ours, "forged", name, "the provenance of another image")
            if not name.startswith("image/attachments/"):  # for what is attached the manifest vouches
                self.statement(name, "provenance", self.keys_of(*self.delegated), "no key of the image's roles")
        for name in rows.get("deployment", []):
            self.must(self.digests["image/manifest.json"].encode() in self.files[name], "stale", name, "of another")


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description="Say what of a dossier is missing, stale, not passed or forged.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--key", type=Path, action="append", default=[], help="public key that may sign dossiers")
    parser.add_argument("--root", type=Path, help="the root document that the devices trust")
    parser.add_argument("--signer", default="", help="the role that must have signed the dossier, if not any will do")
    parser.add_argument("--roles", default="", help="roles that must have signed the manifest, joined by commas")
    given = parser.parse_args()
    try:
        if not given.directory.is_dir() or not (given.key or given.root):
            raise ValueError("name a directory, and with --key or --root what you trust")
        keys, root = [path.read_bytes() for path in given.key], given.root.read_bytes() if given.root else None
        found = Dossier(given.directory, keys, root, given.signer, filter(None, given.roles.split(","))).findings
    except BAD as e:
        parser.exit(3, f"{e}\n")
    said = [f"{each.kind}: {ascii(each.where)[1:-1]}: {ascii(each.what)[1:-1]}\n" for each in found]
    if sys.stdout is not None:  # closed by whoever started us, who looks at the status alone
        sys.stdout.writelines(said or ["nothing is missing, stale or forged\n"])
    return max((1 if each.kind in ("missing", "not passed") else 2 for each in found), default=0)


if __name__ == "__main__":
    sys.exit(main())
