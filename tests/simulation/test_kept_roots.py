"""What a device keeps of roots, and power that goes at each write of it (S3, S24)."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from simulation.board import SimulatedBoard, power_may_go
from simulation.image import SmallImage
from simulation.power import Power
from simulation.test_power_cuts import NEW, OLD, SICK, memory, run
from trust_samples import MADE, ROLES, Authority, make_authority
from twinslot.config.options import Config, DeviceConfig, SlotsConfig, TrustConfig
from twinslot.core.errors import RefusedError, TwinslotError
from twinslot.core.model import Floors
from twinslot.core.origin import NOBODY
from twinslot.core.stream import ImageHead
from twinslot.engine import verifier
from twinslot.engine.announce import Announcer
from twinslot.engine.verifier import Verifier
from twinslot.trust.kept_roots import read_chain, write_chain
from twinslot.trust.verdict import TrustRequest, Verdict
from twinslot.trust.verify import verify
from twinslot_image.keys import rotate_keys

BROUGHT = (b"{}", b"{1}")  # by every image of the simulated board


def kept(board: SimulatedBoard) -> tuple[bytes, ...]:
    """The roots in the record; both entries say the same."""
    with board.open_record() as record:
        newest, chain = record.document("root"), record.document("roots")
    roots = read_chain(chain, None)
    assert newest == (roots[-1].decode() if roots else None), "the two entries are one step"
    return roots


@contextlib.contextmanager
def new_board() -> Iterator[SimulatedBoard]:
    with TemporaryDirectory(dir=memory()) as directory:
        board = SimulatedBoard(Path(directory), OLD, NEW, SICK)
        board.live()
        yield board


def record_calls(image: SmallImage) -> list[int]:
    """Which storage calls of an update are commits of the record."""
    with new_board() as board:
        board.set_power(Power())
        run(board, image)
        return [number for number, name in enumerate(board.power.trace, 1) if name == "record"]


@pytest.mark.verifies("S24")
@pytest.mark.parametrize("image", [NEW, SICK], ids=["kept", "left"])
def test_a_cut_at_any_save_leaves_the_old_chain_or_the_new_one_and_the_new_one_only_after_the_commit(
    image: SmallImage,
) -> None:
    for cut in record_calls(image):
        for seed in (0, 1):
            with new_board() as board:
                board.set_power(Power(cut, seed))
                with power_may_go(board):
                    run(board, image)
                committed = board.environment().get("slot_b") == "good"
                assert kept(board) in ((), BROUGHT) if committed else kept(board) == (), f"cut {cut}"
                board.live()
                whole = BROUGHT if board.system() is NEW else ()
                assert kept(board) == whole, f"cut {cut}"


# What does not follow from the built-in root is dropped


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Roots 1 and 2; a device has the first built in."""
    authority = make_authority(tmp_path_factory.mktemp("keys") / "keys")
    rotate_keys(authority.directory, "root", MADE)
    return authority


@pytest.fixture
def asked(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Callable[[SimulatedBoard, Authority], str]:
    """Ask the engine's verifier on this board about an image of these keys: `trusted` or `refused`."""

    def here(_: object, request: TrustRequest, dropped: Callable[[int, TwinslotError], None]) -> Verdict:
        at_noon = dataclasses.replace(request.time, clock=MADE)
        return verify(dataclasses.replace(request, time=at_noon), dropped)

    monkeypatch.setattr(verifier, "verify_in_worker", here)
    trust = TrustConfig(root=authority.directory / "1.root.json", roles=ROLES)
    config = Config(device=DeviceConfig(compatible=("sim",)), slots=SlotsConfig(a={}, b={}), trust=trust)
    ask = Verifier(config, lambda _: pytest.fail("no worker is needed"))

    def asked(board: SimulatedBoard, signed_by: Authority) -> str:
        sample = signed_by.request()
        head, announcer = ImageHead(sample.trust_section, sample.manifest), Announcer(NOBODY)
        with board.open_record() as announcer.record:
            try:
                ask(head, announcer.record, Floors(), ignore_expiry=False, note=announcer.note)
            except RefusedError:
                return "refused"
        return "trusted"

    return asked


@pytest.mark.verifies("S24")
def test_a_cut_while_a_foreign_root_is_dropped_makes_it_no_more_welcome(
    authority: Authority, tmp_path: Path, asked: Callable[[SimulatedBoard, Authority], str]
) -> None:
    thief = make_authority(tmp_path / "thief")
    rotate_keys(thief.directory, "root", MADE)
    for cut in (1, 2):
        for seed in range(4):
            with new_board() as board:
                with board.open_record() as record:
                    record.keep_documents(write_chain([thief.root(2)]))
                board.set_power(Power(cut, seed))
                with power_may_go(board):
                    assert asked(board, thief) == "refused"
                assert kept(board) in ((), (thief.root(2),)), f"cut {cut}"
                assert asked(board, thief) == "refused"
                assert kept(board) == ()
                assert asked(board, authority) == "trusted"
                with board.open_record() as record:
                    told = [row for row in record.audit_rows() if row.event == "roots-dropped"]
                assert 1 <= len(told) <= 2, "the row is durable before the roots are gone"
