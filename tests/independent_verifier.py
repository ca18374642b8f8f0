"""A second judge of signatures, written from docs/image-format.md alone (sections 3, 4, 5, 10.2), with `cryptography`.

It imports nothing of the project and nothing that the project leaves the judging to. Whatever is wrong is an exception.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from independent_reader import read_json, read_trust

Object = dict[str, Any]
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
HEX64 = re.compile(r"[0-9a-f]{64}")
PEM = re.compile(r"-----BEGIN PUBLIC KEY-----\n[A-Za-z0-9+/=\n]{1,1000}-----END PUBLIC KEY-----\n?")
SIGNATURE = re.compile(r"([0-9a-f]{2}){1,8192}")
WORD = re.compile(r"[a-z0-9][a-z0-9./_-]{0,63}")
RSA = "rsassa-pss-sha256"
CURVES: dict[str, tuple[str, type[HashAlgorithm]]] = {
    "ecdsa-sha2-nistp256": ("secp256r1", SHA256),
    "ecdsa-sha2-nistp384": ("secp384r1", SHA384),
}


@dataclass(frozen=True)
class Trusted:
    """What was found good."""

    root: int
    targets: int
    signed: dict[str, int]


def judge(
    trust: bytes,
    manifest: bytes,
    anchor: bytes,
    roles: list[str],
    now: datetime,
    floors: tuple[int, int],
    kept: bytes | None = None,
    kept_roots: tuple[bytes, ...] = (),
) -> Trusted:
    """Section 10.2. `now` is the latest of clock, build time and last verified date; floors of root and targets."""
    assert roles
    assert len(set(roles)) == len(roles)
    chain, delegating = read_trust(trust)
    own = read_json(anchor)
    for document in [own, *chain]:
        check_root(document)
    check_targets(delegating)
    # 2. The chain
    must(own, "root", own)
    own = walk(own, kept_roots)
    versions = [root["signed"]["version"] for root in chain]
    assert versions == list(range(versions[0], versions[0] + len(chain))) if chain else True
    first = last = own
    for root in chain:
        if root["signed"]["version"] > first["signed"]["version"]:
            must_follow(last, root)
            enough(last, "root", root, tops(last), tops(root), delegates(read_json(kept)) if kept else {})
            last = root
    assert last["signed"]["version"] >= floors[0]
    # 3. The targets document
    must(last, "targets", delegating)
    ids_before, ids_now = (set(counted(root["signed"], "targets")) for root in (first, last))
    assert delegating["signed"]["version"] >= floors[1] or not ids_before & ids_now
    if kept:
        enough(last, "targets", delegating, delegates(read_json(kept)), delegates(delegating), {})
    # 4. The required roles
    delegated = {role["name"]: role for role in delegating["signed"]["delegations"]["roles"]}
    required = [delegated[name] for name in roles]
    held = delegating["signed"]["delegations"]["keys"]
    ids = [key_id for role in required for key_id in role["keyids"] if counts(held[key_id])]
    assert len(set(ids)) == len(ids)
    # 5. Their signatures
    statement = read_json(manifest)
    assert statement.keys() == {"signatures", "signed"}
    check_signatures(statement["signatures"], 32)
    assert [s["keyid"] for s in statement["signatures"]] == sorted(s["keyid"] for s in statement["signatures"])
    signed = {}
    for role in required:
        sane(role, delegating["signed"]["delegations"]["keys"])
        good = signers(delegating["signed"]["delegations"]["keys"], role["keyids"], statement)
        assert len(good) >= role["threshold"]
        signed[role["name"]] = len(good)
        for name in statement["signed"]["targets"]:
            assert any(matches(pattern, name) for pattern in role["paths"])
    # 6. The dates
    for document in (last, delegating, statement):
        assert now < date(document["signed"]["expires"])
    return Trusted(last["signed"]["version"], delegating["signed"]["version"], signed)


def walk(built_in: Object, kept: tuple[bytes, ...]) -> Object:
    """The newest of the kept roots that follows from the built-in one, over all between them."""
    last = built_in
    for data in kept:
        try:
            root = read_json(data)
            check_root(root)
            if root["signed"]["version"] > built_in["signed"]["version"]:
                must_follow(last, root)
                enough(last, "root", root, tops(last), tops(root), {})
                last = root
        except (AssertionError, ValueError, TypeError, KeyError, AttributeError):
            break
    return last


def must_follow(last: Object, root: Object) -> None:
    """The root is the next one."""
    assert root["signed"]["version"] == last["signed"]["version"] + 1
    for name in ("root", "targets"):
        sane(root["signed"]["roles"][name], root["signed"]["keys"])
    must(last, "root", root)
    must(root, "root", root)


def check_root(document: Object) -> None:
    """Section 4.1."""
    signed = check_document(document, "root", {"consistent_snapshot", "keys", "roles"})
    assert isinstance(signed["consistent_snapshot"], bool)
    check_keys(signed["keys"])
    assert signed["roles"].keys() == {"root", "snapshot", "targets", "timestamp"}
    for role in signed["roles"].values():
        assert role.keys() == {"keyids", "threshold"}
        check_role(role, signed["keys"])


def check_targets(document: Object) -> None:
    """Section 4.2."""
    signed = check_document(document, "targets", {"delegations", "targets"})
    assert signed["targets"] == {}
    assert signed["delegations"].keys() == {"keys", "roles"}
    check_keys(signed["delegations"]["keys"])
    roles = signed["delegations"]["roles"]
    assert isinstance(roles, list)
    assert len(roles) <= 32
    for role in roles:
        assert role.keys() == {"keyids", "name", "paths", "terminating", "threshold"}
        assert NAME.fullmatch(role["name"])
        assert role["name"] not in ("root", "snapshot", "targets", "timestamp")
        assert role["terminating"] is True
        assert isinstance(role["paths"], list)
        assert 1 <= len(role["paths"]) <= 16
        assert all(NAME.fullmatch(path.replace("*", "x")) for path in role["paths"])
        check_role(role, signed["delegations"]["keys"])
    assert len({role["name"] for role in roles}) == len(roles)


def check_document(document: Object, kind: str, keys: set[str]) -> Object:
    assert document.keys() == {"signatures", "signed"}
    check_signatures(document["signatures"], 128)
    signed: Object = document["signed"]
    assert signed.keys() == {"_type", "expires", "spec_version", "version", *keys}
    assert signed["_type"] == kind
    assert whole(signed["version"])
    assert 1 <= signed["version"] <= 2**53 - 1
    assert re.fullmatch(r"1\.[0-9]{1,3}\.[0-9]{1,3}", signed["spec_version"])
    date(signed["expires"])
    return signed


def check_signatures(signatures: list[Object], high: int) -> None:
    assert isinstance(signatures, list)
    assert len(signatures) <= high
    for each in signatures:
        assert each.keys() == {"keyid", "sig"}
        assert HEX64.fullmatch(each["keyid"])
        assert SIGNATURE.fullmatch(each["sig"])
    assert len({each["keyid"] for each in signatures}) == len(signatures)


def check_keys(keys: Object) -> None:
    assert isinstance(keys, dict)
    assert len(keys) <= 64
    assert all(HEX64.fullmatch(key_id) for key_id in keys)
    points = [point(key) for key in keys.values()]
    assert all(point not in points[:at] for at, point in enumerate(points)), "one key under two ids"


def point(key: Object) -> Any:
    """What two keys are compared by, once the form is right."""
    assert key.keys() == {"keytype", "keyval", "scheme"}
    if counts(key):
        loaded = load(key)
        return loaded.public_bytes_raw() if isinstance(loaded, ed25519.Ed25519PublicKey) else loaded.public_numbers()
    assert key["keyval"].keys() == {"public"}
    assert WORD.fullmatch(key["scheme"])
    assert WORD.fullmatch(key["keytype"])
    assert re.fullmatch(r"[ -~\n]{1,16384}", key["keyval"]["public"])
    return key["scheme"], key["keyval"]["public"]


def counts(key: Object) -> bool:
    """Section 4.2: keys of another scheme stay in the document and count nowhere."""
    return key["scheme"] in ("ed25519", RSA, *CURVES)


def counted(root: Object, role: str) -> list[str]:
    """The ids of a role's keys that count."""
    return [key_id for key_id in root["roles"][role]["keyids"] if counts(root["keys"][key_id])]


def check_role(role: Object, keys: Object) -> None:
    assert isinstance(role["keyids"], list)
    assert len(role["keyids"]) <= 64
    assert len(set(role["keyids"])) == len(role["keyids"])
    assert all(key_id in keys for key_id in role["keyids"])
    assert whole(role["threshold"])
    assert 1 <= role["threshold"] <= 2**53


def sane(role: Object, keys: Object) -> None:
    assert 1 <= role["threshold"] <= min(sum(counts(keys[key_id]) for key_id in role["keyids"]), 32)


def load(key: Object) -> Any:
    """Section 4.3: the public key, once its form is right."""
    assert key.keys() == {"keytype", "keyval", "scheme"}
    assert key["keyval"].keys() == {"public"}
    public = key["keyval"]["public"]
    if key["scheme"] == "ed25519":
        assert key["keytype"] == "ed25519"
        assert HEX64.fullmatch(public)
        assert not small_order(bytes.fromhex(public))
        return ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    assert PEM.fullmatch(public)
    loaded = load_pem_public_key(public.encode())
    if key["scheme"] == RSA:
        assert key["keytype"] == "rsa"
        assert isinstance(loaded, rsa.RSAPublicKey)
        assert 3072 <= loaded.key_size <= 4096
        assert loaded.public_numbers().e == 65537
        return loaded
    assert key["keytype"] == "ecdsa"
    assert isinstance(loaded, ec.EllipticCurvePublicKey)
    assert loaded.curve.name == CURVES[key["scheme"]][0]
    return loaded


def small_order(encoded: bytes) -> bool:
    """Whether eight times the point is the neutral one (RFC 8032, section 5.1); one that is no point is not."""
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p
    y = (int.from_bytes(encoded, "little") & (2**255 - 1)) % p
    square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
    x = pow(square, (p + 3) // 8, p)
    if x * x % p != square:
        x = x * pow(2, (p - 1) // 4, p) % p
    if x * x % p != square:
        return False
    for _ in range(3):
        both = d * x * x * y * y
        x, y = 2 * x * y * pow(1 + both, -1, p) % p, (y * y + x * x) * pow(1 - both, -1, p) % p
    return (x, y) == (0, 1)


def must(by: Object, role: str, document: Object) -> None:
    """The document has the threshold of valid signatures of a role in the root `by`."""
    sane(by["signed"]["roles"][role], by["signed"]["keys"])
    names = by["signed"]["roles"][role]
    assert len(signers(by["signed"]["keys"], names["keyids"], document)) >= names["threshold"]


def tops(root: Object) -> Object:
    """Root and targets as a root has them: threshold, keys, names."""
    signed = root["signed"]
    return {
        name: (role["threshold"], [signed["keys"][key_id] for key_id in role["keyids"]], [])
        for name, role in signed["roles"].items()
        if name in ("root", "targets")
    }


def delegates(document: Object) -> Object:
    """The same of the roles of a targets document."""
    delegations = document["signed"]["delegations"]
    return {
        role["name"]: (role["threshold"], [delegations["keys"][key_id] for key_id in role["keyids"]], role["paths"])
        for role in delegations["roles"]
    }


def enough(by: Object, role: str, document: Object, before: Object, after: Object, behind: Object) -> None:
    """What a document replaces took as many signatures as it takes itself."""
    replaced = []
    for name, (threshold, keys, paths) in before.items():
        there = after.get(name)
        if there and there[0] >= threshold and all(k in keys for k in there[1]) and all(p in paths for p in there[2]):
            continue
        replaced.append(threshold)
    if replaced:
        given = signers(by["signed"]["keys"], by["signed"]["roles"][role]["keyids"], document)
        assert len(given) >= max([*replaced, *(threshold for threshold, _, _ in behind.values())])


def signers(keys: Object, key_ids: list[str], document: Object) -> set[str]:
    """The ids of the keys that gave a valid signature."""
    covered = olpc(document["signed"]).encode()
    return {
        each["keyid"]
        for each in document["signatures"]
        if each["keyid"] in key_ids
        and counts(keys[each["keyid"]])
        and valid(keys[each["keyid"]], bytes.fromhex(each["sig"]), covered)
    }


def valid(key: Object, signature: bytes, covered: bytes) -> bool:
    public = load(key)
    try:
        if key["scheme"] == "ed25519":
            public.verify(signature, covered)
        elif key["scheme"] == RSA:
            public.verify(signature, covered, padding.PSS(padding.MGF1(SHA256()), padding.PSS.AUTO), SHA256())
        else:
            public.verify(signature, covered, ec.ECDSA(CURVES[key["scheme"]][1]()))
    except InvalidSignature:
        return False
    return True


def olpc(value: object) -> str:
    """Section 3: as in the file, but nothing is escaped except the quote and the backslash."""
    match value:
        case dict():
            return "{" + ",".join(f"{olpc(key)}:{olpc(value[key])}" for key in sorted(value)) + "}"
        case list():
            return "[" + ",".join(olpc(each) for each in value) + "]"
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case bool() | None:
            return {True: "true", False: "false", None: "null"}[value]
        case _:
            return str(value)


def matches(pattern: str, name: str) -> bool:
    """`*` is any number of any characters; the whole name must match."""
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), name) is not None


def whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def date(text: str) -> datetime:
    assert re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", text)
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
