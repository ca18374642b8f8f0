"""Programs in a payload: whatever headers say, what is found lies inside the payload, and nothing twice."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from elf_samples import PAGE, Program, Section, a64_program
from elf_samples_code import ARM, X86_64, arm_absolute_slot, code_program, x86_absolute_slot
from twinslot_image.patch_sections import find_parts

AARCH64 = 183  # e_machine, System V ABI
GOOD = a64_program(2, {})
SIZE = len(GOOD.content)
EDGES = (0, 1, 63, 64, PAGE, SIZE - 1, SIZE, SIZE + 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)

far = st.one_of(st.sampled_from(EDGES), st.integers(0, SIZE + 2 * PAGE), st.integers(0, 2**64 - 1))
sections = st.builds(
    Section,
    kind=st.sampled_from([0, 1, 4, 5, 9, 11, 14, 15, 16, 19, 0x70000001]),
    flags=st.integers(0, 7),
    address=far,
    offset=far,
    size=far,
)
segments = st.tuples(st.sampled_from([1, 0x6474E550]), far, far)
headers = st.dictionaries(st.sampled_from(["e_phoff", "e_shoff"]), far, max_size=2)
counts = st.dictionaries(
    st.sampled_from(["e_phnum", "e_shnum", "e_shentsize", "e_phentsize"]), st.integers(0, 2**16 - 1), max_size=2
)


@given(
    st.sampled_from([AARCH64, ARM, X86_64, 8]),
    st.lists(sections, max_size=8),
    st.lists(segments, max_size=2),
    headers,
    counts,
    st.sampled_from([1, 2, 3, 4]),
)
@settings(max_examples=60, deadline=None)
@example(AARCH64, [Section(1, 6, 0, 2**63, 2**63)], [], {}, {}, 3)
@example(AARCH64, [Section(1, 6, 0, SIZE - 8, 16), Section(1, 6, 0, 2**64 - 8, 16)], [], {}, {}, 3)
@example(X86_64, [Section(1, 6, 0, 64, SIZE - 64), Section(1, 2, 0, 64, SIZE - 64)], [], {}, {}, 2)
@example(ARM, [Section(1, 6, 0, 65, 1000), Section(1, 6, 2**61, 100, 1000)], [(0x6474E550, 100, 2**63)], {}, {}, 3)
@example(AARCH64, list(GOOD.sections), [], {"e_shoff": 2**64 - 64}, {"e_shnum": 512}, 3)
def test_headers_that_lie_lead_nowhere_outside_of_the_payload(
    tmp_path_factory: pytest.TempPathFactory,
    machine: int,
    listed: list[Section],
    loaded: list[tuple[int, int, int]],
    places: dict[str, int],
    numbers: dict[str, int],
    kind: int,
) -> None:
    program = replace(GOOD, machine=machine, sections=tuple(listed), segments=tuple(loaded))
    found = parts_of(tmp_path_factory.getbasetemp(), program.build(e_type=kind, **places, **numbers))
    assert found == sorted(found)
    assert all(0 <= start < end <= SIZE + 2 * PAGE for start, end in found)
    assert all(before[1] <= after[0] for before, after in pairwise(found))


@pytest.mark.parametrize(
    "program",
    [code_program(X86_64, x86_absolute_slot, 1, {}), code_program(ARM, arm_absolute_slot, 1, {})],
    ids=["x86-64", "A32"],
)
def test_code_of_a_program_that_always_lies_at_one_address_is_found(tmp_path: Path, program: Program) -> None:
    text = program.sections[1]
    found = parts_of(tmp_path, program.build(e_type=2))
    assert found[0][0] == text.offset
    assert found[-1][1] == text.offset + text.size


def parts_of(folder: Path, program: bytes) -> list[tuple[int, int]]:
    """Where parts with references are, in a payload that is this program and no file system."""
    path = folder / "payload.img"
    path.write_bytes(program + bytes(-len(program) % PAGE))
    pages = np.ones(path.stat().st_size // PAGE, np.bool_)
    return [(part.start, part.end) for part in find_parts(path, pages)]
