"""An exported audit, forged in every way that takes no key: each is told apart, and none passes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from twinslot.core.audit_chain import NOTHING, ChainEnd, ChainRow, first_break, link_of
from twinslot.core.audit_export import AuditVerdict, end_line, head_line, read_export, row_line, verify_export
from twinslot.core.audit_statements import CHECKPOINT, EXPORT_END, SEAL, ExportEnd, end_statement
from twinslot.core.device_key import PublicPart, signed_bytes
from twinslot.core.envelope import DeviceStatement, sign
from twinslot.core.errors import ImageError, RefusedError
from twinslot.trust.device_key import verifies


class Key:
    """A device's key."""

    def __init__(self, seed: int) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        der = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.public = PublicPart.from_der(der)

    def sign(self, kind: str, payload: bytes) -> bytes:
        return self._key.sign(signed_bytes(kind, payload))

    def signed(self, kind: str, end: ChainEnd) -> DeviceStatement:
        return sign(kind, end_statement(end), self.public, self.sign)


OURS, THEIRS = Key(1), Key(2)


def chained(rows: list[ChainRow], start: ChainEnd = NOTHING) -> list[ChainRow]:
    """The same rows with numbers and hashes that fit."""
    found: list[ChainRow] = []
    for row in rows:
        number, link = start.number + 1, link_of(start.hash, row.at, row.boot, row.event, row.body)
        found.append(replace(row, number=number, hash=link))
        start = found[-1].end
    return found


def row(event: str, **body: object) -> ChainRow:
    return ChainRow(0, "2026-01-01T00:00:00Z", "b" * 32, event, json.dumps(body, sort_keys=True), "")


def history(count: int, start: ChainEnd = NOTHING, key: Key = OURS) -> list[ChainRow]:
    """So many rows, with a seal after each third."""
    rows: list[ChainRow] = []
    for number in range(count):
        if number % 4 == 3:
            end = rows[-1].end
            rows += chained([row("sealed", seal=key.signed(SEAL, end).as_dict(), fingerprint="")], end)
        else:
            rows += chained([row("checked", number=number)], rows[-1].end if rows else start)
    return rows


def exported(
    rows: list[ChainRow],
    key: Key = OURS,
    *,
    end: ChainEnd | None = None,
    anchor: ChainEnd | None = None,
    checkpoint: DeviceStatement | None = None,
) -> list[bytes]:
    """The lines of an export."""
    told = ExportEnd(end or rows[-1].end, anchor, "2026-02-02T00:00:00Z", key.public.fingerprint, "0")
    signed = sign(EXPORT_END, told.as_dict(), key.public, key.sign)
    return [head_line(key.public, checkpoint), *map(row_line, rows), end_line(signed)]


def verified(lines: list[bytes], *keys: Key, anchors: tuple[ChainEnd, ...] = ()) -> AuditVerdict:
    return verify_export(read_export(lines), [key.public for key in keys or (OURS,)], verifies, anchors)


def code(lines: list[bytes], *keys: Key, anchors: tuple[ChainEnd, ...] = ()) -> str:
    with pytest.raises(RefusedError) as refused:
        verified(lines, *keys, anchors=anchors)
    return refused.value.code.removeprefix("refused.")


ROWS = history(10)


@pytest.mark.verifies("S25")
def test_a_whole_audit_is_told_with_where_it_ends_and_what_is_sealed() -> None:
    verdict = verified(exported(ROWS, anchor=ROWS[4].end), anchors=(ROWS[1].end, NOTHING))
    assert (verdict.first, verdict.end, verdict.sealed) == (1, ROWS[-1].end, 7)
    assert verdict.device == OURS.public.fingerprint
    assert verdict.as_dict()["rows"] == 10


@pytest.mark.verifies("S25")
def test_rows_of_a_client_that_did_not_sign_are_whole_by_the_end_alone() -> None:
    verdict = verified(exported(chained([row("accepted"), row("verified")])))
    assert verdict.sealed == 0
    assert verdict.anchor is None


@pytest.mark.verifies("S25")
def test_a_device_that_replaced_its_key_is_verified_with_both() -> None:
    rows = history(5, key=THEIRS)
    assert verified(exported(rows)).foreign_seals == 1
    both = verified(exported(rows), OURS, THEIRS)
    assert (both.sealed, both.foreign_seals) == (3, 0)


@pytest.mark.verifies("S25")
def test_a_checkpoint_stands_for_the_rows_before_it() -> None:
    start = ROWS[5].end
    rows = history(6, start)
    checkpoint = OURS.signed(CHECKPOINT, start)
    verdict = verified(exported(rows, checkpoint=checkpoint), anchors=(start, ROWS[2].end))
    assert (verdict.first, verdict.checkpoint) == (7, start)
    assert code(exported(rows)) == "audit-cut", "without it"
    assert code(exported(rows, checkpoint=THEIRS.signed(CHECKPOINT, start))) == "audit-signature"
    assert code(exported(rows, checkpoint=OURS.signed(CHECKPOINT, ChainEnd(5, "0" * 63 + "1")))) == "audit-cut"
    with pytest.raises(ImageError):
        read_export(exported(rows, checkpoint=OURS.signed(SEAL, start)))


Forge = Callable[[list[ChainRow]], list[ChainRow]]


def changed(rows: list[ChainRow]) -> list[ChainRow]:
    return [*rows[:4], replace(rows[4], body='{"number":99}'), *rows[5:]]


def renumbered(rows: list[ChainRow]) -> list[ChainRow]:
    return [replace(each, number=number) for number, each in enumerate(rows, 1)]


def other_number(rows: list[ChainRow]) -> list[ChainRow]:
    return [*rows[:4], replace(rows[4], number=77), *rows[5:]]


def without(rows: list[ChainRow]) -> list[ChainRow]:
    return [*rows[:4], *rows[6:]]


def without_and_renumbered(rows: list[ChainRow]) -> list[ChainRow]:
    return renumbered(without(rows))


def without_the_first(rows: list[ChainRow]) -> list[ChainRow]:
    return rows[2:]


def swapped(rows: list[ChainRow]) -> list[ChainRow]:
    return [*rows[:4], rows[5], rows[4], *rows[6:]]


def swapped_and_renumbered(rows: list[ChainRow]) -> list[ChainRow]:
    return renumbered(swapped(rows))


def twice(rows: list[ChainRow]) -> list[ChainRow]:
    return [*rows[:4], rows[4], *rows[4:]]


def backwards(rows: list[ChainRow]) -> list[ChainRow]:
    return rows[::-1]


def cut_off(rows: list[ChainRow]) -> list[ChainRow]:
    return rows[:-2]


def nothing_left(_: list[ChainRow]) -> list[ChainRow]:
    return []


def added(rows: list[ChainRow]) -> list[ChainRow]:
    return [*rows, *chained([row("committed")], rows[-1].end)]


def all_rewritten(rows: list[ChainRow]) -> list[ChainRow]:
    """A row was changed, and each hash made to fit."""
    return chained(changed(rows))


@pytest.mark.verifies("S25")
@pytest.mark.parametrize(
    ("forge", "told"),
    [
        (changed, "audit-changed"),
        (other_number, "audit-changed"),
        (without, "audit-cut"),
        (without_and_renumbered, "audit-cut"),
        (without_the_first, "audit-cut"),
        (swapped, "audit-reordered"),
        (swapped_and_renumbered, "audit-reordered"),
        (twice, "audit-reordered"),
        (backwards, "audit-reordered"),
        (cut_off, "audit-cut-off"),
        (nothing_left, "audit-cut-off"),
        (added, "audit-added"),
        (all_rewritten, "audit-rewritten"),
    ],
)
def test_what_was_done_to_a_file_is_told_apart(forge: Forge, told: str) -> None:
    assert code(exported(forge(ROWS), end=ROWS[-1].end)) == told


@pytest.mark.verifies("S25")
def test_a_file_that_lost_its_last_lines_was_cut_off() -> None:
    assert code(exported(ROWS)[:-1]) == "audit-cut-off"
    assert code(exported(ROWS)[:-3]) == "audit-cut-off"


@pytest.mark.verifies("S25")
def test_another_devices_audit_is_not_this_ones() -> None:
    assert code(exported(history(5, key=THEIRS), THEIRS)) == "audit-other-device"


@pytest.mark.verifies("S25")
def test_a_signature_that_no_key_made_is_named() -> None:
    lines = exported(ROWS)
    document = json.loads(lines[-1])
    document["signatures"][0]["sig"] = "A" * 86 + "=="
    assert code([*lines[:-1], json.dumps(document).encode()]) == "audit-signature"


@pytest.mark.verifies("S25")
def test_what_was_signed_as_one_thing_is_no_other() -> None:
    seal = OURS.signed(SEAL, ROWS[-1].end).as_dict() | {"payloadType": EXPORT_END}
    assert code([*exported(ROWS)[:-1], json.dumps(seal).encode()]) == "audit-signature"


@pytest.mark.verifies("S25")
@pytest.mark.parametrize("forge", [all_rewritten, cut_off, added])
def test_rows_that_were_changed_on_the_device_before_it_signed_do_not_fit_what_others_know(forge: Forge) -> None:
    """Whoever has the data partition and not the key: the device itself signs what is left."""
    rows = forge(ROWS)
    known = ROWS[-1].end
    told = {"all_rewritten": "audit-rewritten", "cut_off": "audit-cut-off", "added": ""}[forge.__name__]
    for lines, anchors in ((exported(rows, anchor=known), ()), (exported(rows), (known,))):
        if told:
            assert code(lines, anchors=anchors) == told
        else:
            verified(lines, anchors=anchors)


@pytest.mark.verifies("S25")
def test_rows_that_were_rewritten_behind_their_seal_are_noticed_without_any_anchor() -> None:
    assert code(exported(all_rewritten(history(10)))) == "audit-rewritten"


@pytest.mark.verifies("S25")
def test_a_break_that_the_device_told_of_is_shown() -> None:
    rows = chained([row("audit-broken", anchor=ROWS[-1].end.text, kind="begun-anew"), row("accepted")])
    verdict = verified(exported(rows))
    assert [each["fields"]["kind"] for each in verdict.as_dict()["breaks"]] == ["begun-anew"]


@pytest.mark.verifies("S25")
@given(st.integers(1, 24), st.data())
@settings(max_examples=60, deadline=None)
def test_no_change_of_a_byte_passes(count: int, data: st.DataObject) -> None:
    lines = exported(history(count))
    whole = b"".join(lines)
    at = data.draw(st.integers(0, len(whole) - 1))
    bit = data.draw(st.integers(0, 7))
    forged = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
    try:
        verdict = verified(forged.splitlines(keepends=True))
    except (RefusedError, ImageError):
        return
    head = len(lines[0])
    assert verdict.end == read_export(lines).rows[-1].end
    assert at < head or forged.splitlines()[-1] != whole.splitlines()[-1] or _spelling(forged, whole)


def _spelling(forged: bytes, whole: bytes) -> bool:
    """The same rows, told differently: a blank, a key that nobody reads."""
    return read_export(forged.splitlines(keepends=True)).rows == read_export(whole.splitlines(keepends=True)).rows


@pytest.mark.verifies("S25")
@given(st.integers(3, 20), st.data())
@settings(max_examples=60, deadline=None)
def test_any_selection_and_order_of_the_rows_but_the_whole_is_refused(count: int, data: st.DataObject) -> None:
    rows = history(count)
    chosen = data.draw(st.lists(st.sampled_from(rows), max_size=count + 2))
    if chosen == rows:
        return
    told = code(exported(chosen, end=rows[-1].end))
    assert told in ("audit-cut", "audit-cut-off", "audit-reordered")
    if chosen == rows[: len(chosen)]:
        assert told == "audit-cut-off"


@pytest.mark.verifies("S25")
@pytest.mark.parametrize("key", ["at", "boot", "body", "event"])
def test_half_of_a_surrogate_pair_in_a_row_is_no_text(key: str) -> None:
    lines = exported(ROWS)
    lines[3] = json.dumps(json.loads(lines[3]) | {key: "\ud800"}).encode()
    with pytest.raises(ImageError, match=f"row.{key}"):
        verified(lines)


@pytest.mark.verifies("S25")
@given(st.binary(max_size=300) | st.sampled_from(exported(ROWS)))
@settings(max_examples=100, deadline=None)
def test_a_line_of_anything_is_an_error_of_ours(line: bytes) -> None:
    lines = exported(ROWS)
    for forged in ([line], [line, *lines], [*lines[:3], line, *lines[3:]], [*lines, line]):
        with contextlib.suppress(RefusedError, ImageError):
            assert verified(forged).end == ROWS[-1].end


@pytest.mark.verifies("S25")
def test_a_chain_is_broken_at_the_first_row_that_does_not_follow() -> None:
    assert first_break(ROWS, NOTHING) is None
    found = first_break(changed(ROWS), NOTHING)
    assert found is not None
    assert (found.kind, found.number) == ("changed", 5)


@pytest.mark.verifies("S25")
@pytest.mark.parametrize("text", ["", "1", "1-", "01-" + "0" * 64, "1-" + "0" * 63, "1-" + "G" * 64, "-1-" + "0" * 64])
def test_what_is_no_end_is_none(text: str) -> None:
    assert ChainEnd.parse(text) is None
