"""The repository's metadata: our workflow beside python-tuf's own client, on documents that were changed at random.

Both start from one root and one server; what was changed may be anything, signed again or not. Where python-tuf says no
we must; where it says yes we may differ only in what the page of rules says (keys that no device takes).
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import random
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical
from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.ngclient import Updater  # type: ignore[attr-defined]
from tuf.ngclient.fetcher import FetcherInterface

from twinslot.core.errors import RefusedError, TransportError, TwinslotError
from twinslot.trust.repository import PUBLISHED, refresh
from twinslot.trust.repository_messages import (
    DocumentRequest,
    FreshMetadata,
    RepositoryQuestion,
    decode_document_request,
    decode_fresh,
    decode_question,
    encode_document_request,
    encode_fresh,
    encode_question,
)
from twinslot.trust.verdict import TrustTime
from twinslot_image.cli import main
from twinslot_image.key_files import load_signer

TARGET = "pump.offers.json"
FILES = ("1.root.json", "2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json", "1.offers.json")


@dataclass
class Source:
    """A server, and what a device keeps."""

    server: dict[str, bytes]
    kept: dict[str, bytes] = field(default_factory=dict)
    given: bytes = b""
    asked: list[str] = field(default_factory=list)

    def document(self, request: DocumentRequest) -> bytes | None:
        request = decode_document_request(encode_document_request(request))
        if request.stored:
            return self.kept.get(_kept_name(request))
        self.asked.append(request.file_name)
        data = self.server.get(request.file_name)
        if data is not None and len(data) > request.limit:
            raise TransportError("too long", code="too-long")
        self.given = data or b""
        return data

    def keep(self, request: DocumentRequest) -> None:
        self.kept[_kept_name(request)] = self.given


def _kept_name(request: DocumentRequest) -> str:
    return request.file_name if request.role == "root" else f"{request.role}.json"


@dataclass
class World:
    """A repository with two roots, one target, and its private keys."""

    files: dict[str, bytes]
    keys: Path
    target: str

    @property
    def root(self) -> bytes:
        return self.files["1.root.json"]

    def ours(self, source: Source, **at: Any) -> FreshMetadata:
        now = datetime.now(UTC) + timedelta(**at)
        question = RepositoryQuestion(self.root, TrustTime(now, now, now), (self.target,))
        fresh = refresh(decode_question(encode_question(question)), source)
        return decode_fresh(encode_fresh(fresh))

    def signed(self, name: str, document: dict[str, Any]) -> bytes:
        """By the keys of its role, again."""
        role = name.removesuffix(".json").split(".")[-1]
        made = []
        for path in sorted((self.keys / "private").glob(f"{role}.*.pem")):
            signer = load_signer(path.read_bytes(), str(path))
            try:
                covered = str(encode_canonical(document["signed"])).encode()
            except Exception:  # noqa: BLE001 - what has no canonical form cannot be signed
                return json.dumps(document).encode()
            made.append(signer.sign(covered).to_dict())
        return json.dumps(document | {"signatures": made}).encode()


class Fetcher(FetcherInterface):
    """Gives python-tuf's client the same server."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def _fetch(self, url: str) -> Any:
        name = url.rpartition("/")[2]
        if name not in self._files:
            raise DownloadHTTPError("no such file", 404)
        yield self._files[name]


def theirs(world: World, files: dict[str, bytes], kept: Path) -> bool:
    """Whether python-tuf's client finds the target."""
    updater = Updater(str(kept), "http://server/", fetcher=Fetcher(files), bootstrap=world.root)
    try:
        updater.refresh()
        return updater.get_targetinfo(world.target) is not None
    except (RepositoryError, DownloadError):
        return False


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    directory = tmp_path_factory.mktemp("repository") / "fleet"
    assert main(["repository", "init", str(directory), "--root", "2/3"]) == 0
    assert main(["keys", "rotate", str(directory / "keys"), "root"]) == 0
    listed = {"format": 1, "offers": {"pump": []}}
    (directory / "repository.json").write_text(json.dumps(listed))
    assert main(["repository", "publish", str(directory)]) == 0
    files = {path.name: path.read_bytes() for path in (directory / "public/metadata").iterdir()}
    assert set(FILES) == set(files)
    return World(files, directory / "keys", TARGET)


CODES = (
    "refused.repository-expired",
    "refused.repository-signatures",
    "refused.repository-version",
    "transport.repository",
    "transport.too-long",
)


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [path, *(each for key, value in inner for each in places(value, (*path, key)))]


VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    1,
    2,
    -1,
    2**70,
    1.5,
    "",
    "root",
    "targets",
    "0" * 64,
    [],
    {},
    "1970-01-01T00:00:00Z",
    "2099-01-01T00:00:00Z",
    "../../x",
    [[[[]]]],
)


def changed(document: Any, draw: random.Random) -> Any:
    """One place of it is gone, twice there, or something else."""
    document = copy.deepcopy(document)
    path = draw.choice([each for each in places(document) if each])
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    match draw.randrange(4):
        case 0:
            del holder[path[-1]]
        case 1 if isinstance(holder, list):
            holder.append(copy.deepcopy(holder[path[-1]]))
        case 2 if isinstance(holder, dict):
            holder["x-more"] = draw.choice(VALUES)
        case _:
            holder[path[-1]] = copy.deepcopy(draw.choice(VALUES))
    return document


def test_a_new_device_finds_the_target_and_keeps_each_document_once(world: World) -> None:
    source = Source(dict(world.files))
    fresh = world.ours(source)
    assert fresh.targets[TARGET] is not None
    assert dict(fresh.versions) == {"root": 2, "timestamp": 1, "snapshot": 1, "targets": 1}
    assert source.asked == [
        "2.root.json",
        "3.root.json",
        "timestamp.json",
        "1.snapshot.json",
        "1.targets.json",
        "1.offers.json",
    ]
    source.asked.clear()
    world.ours(source)
    assert source.asked == ["3.root.json", "timestamp.json"]


@pytest.mark.skipif(
    "bootstrap" not in inspect.signature(Updater).parameters,
    reason="before python-tuf 6 its client begins at the root that was kept, not at the one that was built in",
)
@pytest.mark.verifies("S29")
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), name=st.sampled_from(FILES[1:]), again=st.booleans(), known=st.booleans())
def test_a_changed_document_is_judged_as_by_python_tufs_client(
    world: World, seed: int, name: str, again: bool, known: bool
) -> None:
    draw = random.Random(seed)
    document = changed(json.loads(world.files[name]), draw)
    data = world.signed(name, document) if again else json.dumps(document).encode()
    files = world.files | {name: data}
    source = Source(dict(world.files))
    with tempfile.TemporaryDirectory() as kept:
        if known:
            world.ours(source)
            assert theirs(world, world.files, Path(kept))
        source.server = files
        before = dict(source.kept)
        expected = theirs(world, files, Path(kept))
    found, code = False, CODES[0]
    try:
        found = world.ours(source).targets[TARGET] is not None
    except TwinslotError as e:
        code = e.code
    assert code in CODES, code
    assert found == expected, f"{name} with {json.dumps(document)[:2000]}"
    assert _newer(before, source.kept)


def _newer(before: dict[str, bytes], after: dict[str, bytes]) -> bool:
    """What was trusted stays, or something newer is trusted."""
    versions = [
        (json.loads(before[key])["signed"]["version"], json.loads(after[key])["signed"]["version"]) for key in before
    ]
    return all(one <= other for one, other in versions)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES[1:]), data=st.binary(max_size=100), at=st.integers(0, 3000), cut=st.booleans())
def test_damaged_bytes_are_refused_with_a_code_and_keep_nothing(
    world: World, name: str, data: bytes, at: int, cut: bool
) -> None:
    whole = world.files[name]
    damaged = whole[:at] + data + (b"" if cut else whole[at + len(data) :])
    source = Source(world.files | {name: damaged})
    code = CODES[0]
    try:
        world.ours(source)
    except TwinslotError as e:
        code = e.code
    assert code in CODES, code
    assert damaged not in source.kept.values() or json.loads(damaged)["signed"] == json.loads(whole)["signed"]


@pytest.mark.verifies("S29")
@pytest.mark.parametrize(("days", "role"), [(8, "timestamp"), (4000, "root")])
def test_what_has_expired_is_refused_by_name(world: World, days: int, role: str) -> None:
    with pytest.raises(RefusedError) as caught:
        world.ours(Source(dict(world.files)), days=days)
    assert caught.value.code == "refused.repository-expired"
    assert f"'{role}'" in caught.value.message


@pytest.mark.verifies("S29")
@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.offers.json"])
def test_an_older_document_than_the_kept_one_is_refused(world: World, name: str) -> None:
    """The device has seen version 2 of one document, each other one is as the server has it."""
    role = name.removesuffix(".json").split(".")[-1]
    files = dict(world.files)
    newer = json.loads(files[name])
    newer["signed"]["version"] = 2
    files[f"2.{role}.json" if name[0].isdigit() else name] = world.signed(name, newer)
    names = {
        "1.offers.json": ("1.snapshot.json", "offers.json"),
        "1.snapshot.json": ("timestamp.json", "snapshot.json"),
    }
    while name in names:  # whatever names it names the new one, in a new version, too
        name, named = names[name]
        above = json.loads(files[name])
        below = files[f"2.{named}"]
        above["signed"]["version"] = 2
        above["signed"]["meta"][named] = {"version": 2, "length": len(below), "hashes": _hashes(below)}
        files["2.snapshot.json" if name[0].isdigit() else name] = world.signed(name, above)
    source = Source(files)
    world.ours(source)
    kept = dict(source.kept)
    source.server = dict(world.files)
    if role != "timestamp":  # a timestamp that is newer than the kept one, and names what is older
        timestamp = json.loads(world.files["timestamp.json"])
        timestamp["signed"]["version"] = 3
        source.server["timestamp.json"] = world.signed("timestamp.json", timestamp)
    with pytest.raises(RefusedError) as caught:
        world.ours(source)
    assert caught.value.code == "refused.repository-version"
    assert source.kept == kept


def _hashes(data: bytes) -> dict[str, str]:
    return {"sha256": hashlib.sha256(data).hexdigest()}


@pytest.mark.verifies("REQ-REP-06")
@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ("2026-12-01T08:00:00Z", True),
        ("2999-01-01T00:00:00Z", False),
        ("2026-12-01", False),
        (1796112000, False),
        (None, False),
        ("", False),
    ],
)
def test_when_a_timestamp_was_signed_is_known_where_it_makes_sense(world: World, said: Any, counts: bool) -> None:
    document = json.loads(world.files["timestamp.json"])
    document["signed"] |= {PUBLISHED: said, "expires": "2099-01-01T00:00:00Z"}
    fresh = world.ours(Source(world.files | {"timestamp.json": world.signed("timestamp.json", document)}))
    assert fresh.published == (datetime(2026, 12, 1, 8, tzinfo=UTC) if counts else None)
    del document["signed"][PUBLISHED]
    older = Source(world.files | {"timestamp.json": world.signed("timestamp.json", document)})
    assert world.ours(older).published is None, "of a maker's tool from before"


@pytest.mark.verifies("S29")
def test_one_key_under_two_ids_counts_once(world: World) -> None:
    document = json.loads(world.files["2.root.json"])
    root = document["signed"]
    (key_id,) = root["roles"]["timestamp"]["keyids"]
    root["keys"]["f" * 64] = root["keys"][key_id]
    root["roles"]["timestamp"] = {"keyids": [key_id, "f" * 64], "threshold": 2}
    source = Source(world.files | {"2.root.json": _signed_root(world, document)})
    timestamp = json.loads(world.files["timestamp.json"])
    (signature,) = timestamp["signatures"]
    timestamp["signatures"].append({"keyid": "f" * 64, "sig": signature["sig"]})
    source.server["timestamp.json"] = json.dumps(timestamp).encode()
    with pytest.raises(RefusedError) as caught:
        world.ours(source)
    assert (caught.value.code, caught.value.found) == ("refused.repository-signatures", "1")


def test_a_weak_key_counts_for_nothing(world: World) -> None:
    document = json.loads(world.files["2.root.json"])
    (key_id,) = document["signed"]["roles"]["timestamp"]["keyids"]
    document["signed"]["keys"][key_id]["keyval"]["public"] = "01" + "00" * 31  # a point of small order
    source = Source(world.files | {"2.root.json": _signed_root(world, document)})
    with pytest.raises(RefusedError) as caught:
        world.ours(source)
    assert caught.value.code == "refused.repository-signatures"


def _signed_root(world: World, document: dict[str, Any]) -> bytes:
    return world.signed("2.root.json", document)
