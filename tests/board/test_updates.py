"""The whole product on the board: good and bad updates, every kind of hang, and power that goes in the middle.

What a release does wrong is a change to its root file system. The verdicts are the guest's own, asked as JSON.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from board.audit_of_board import TakenOff
from board.conftest import TrialFactory
from twinslot_image.factory.disk import write_at
from twinslot_lab import demo
from twinslot_lab.demo import BAD, FACTORY, GOOD
from twinslot_lab.errors import GuestError
from twinslot_lab.fileserver import FileServer
from twinslot_lab.plugin import BoardFactory
from twinslot_lab.product import Product
from twinslot_lab.qemu_board import QemuBoard
from twinslot_lab.release import LabRelease, ReleaseTeam

pytestmark = pytest.mark.board

SHORT = 75  # seconds of deadline, for releases that hang: four times what a start takes on a quiet machine


def hang_in(target: str) -> LabRelease:
    """A release in which a unit that this target waits for never ends."""

    def change(tree: Path) -> None:
        unit = (
            f"[Unit]\nDefaultDependencies=no\nBefore={target}\n[Service]\nType=oneshot\nExecStart=/bin/sleep infinity\n"
        )
        units = tree / "usr/lib/systemd/system"
        (units / "hang.service").write_text(unit)
        wants = units / f"{target}.requires"
        wants.mkdir(exist_ok=True)
        (wants / "hang.service").symlink_to("../hang.service")
        (tree / "usr/lib/twinslot/deadline.env").write_text(f"TWINSLOT_DEADLINE={SHORT}\n")

    return LabRelease("4.0", 40, change=change, marker=f"hang-{target}-{SHORT}")


def panic(tree: Path) -> None:
    """PID 1 ends at once, and the kernel panics."""
    (tree / "usr/lib/systemd/systemd").unlink()
    (tree / "usr/lib/systemd/systemd").symlink_to("/bin/false")


def kernel_hang(tree: Path) -> None:
    """Both processors spin in the highest real-time class: nobody feeds the watchdog."""
    unit = tree / "usr/lib/systemd/system/spin.service"
    spin = "chrt -f 99 taskset -c $$cpu sh -c 'while :; do :; done'"
    prepare = "mount -t debugfs debugfs /sys/kernel/debug; echo -1 > /proc/sys/kernel/sched_rt_runtime_us"
    fair = "for cpu in 0 1; do echo 0 > /sys/kernel/debug/sched/fair_server/cpu$$cpu/runtime; done"
    loop = f"for cpu in 0 1; do {spin} & done; wait"
    unit.write_text(f'[Service]\nExecStart=/bin/sh -c "{prepare}; {fair}; {loop}"\n')
    wants = tree / "usr/lib/systemd/system/multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "spin.service").symlink_to("../spin.service")


def no_python(tree: Path) -> None:
    """Nothing of the client can run."""
    for python in (tree / "usr/bin").glob("python3*"):
        python.unlink()
        python.symlink_to("/bin/false")


def newer_client(tree: Path) -> None:
    """A later client, whose record has one more column, and whose releases have one more key."""
    client = tree / "usr/lib/python3/dist-packages/twinslot"
    schema = client / "storage/record/schema.py"
    text = schema.read_text()
    assert text.count('    """,\n)') == 1
    schema.write_text(text.replace('    """,\n)', '    """,\n    "ALTER TABLE slots ADD COLUMN note TEXT;",\n)'))
    model = client / "core/model.py"
    text, last = model.read_text(), '    manifest: str = ""\n'
    assert text.count(last) == 1
    model.write_text(text.replace(last, f'{last}    channel: str = "stable"\n'))
    for changed in (schema, model):
        for compiled in (changed.parent / "__pycache__").glob(f"{changed.stem}.*"):
            compiled.unlink()


def assert_came_back(board: QemuBoard, release: LabRelease, *reasons: str) -> Product:
    """Slot a runs, and it tells which release was left and why."""
    product = Product(board)
    status = product.wait_idle()
    assert status["running"] == "a"
    assert status["slots"]["b"]["state"] == "bad"
    last = product.history()[0]
    assert last["outcome"] == "rolled-back"
    assert last["reason"] in reasons
    assert status["failed"].keys() == {str(release.sequence)}
    assert product.doctor()["healthy"]
    return product


@pytest.mark.verifies("S14")
@pytest.mark.long
def test_the_demonstration_tells_its_two_stories(tmp_path: Path, team: ReleaseTeam) -> None:
    report = demo.run(team.board.name, tmp_path)
    good, bad = report["updates"]
    assert (good["outcome"], good["from_slot"], good["to_slot"]) == ("committed", "a", "b")
    assert good["running_digest"] == good["image_digest"], "S14: byte for byte what was signed, after boots and commit"
    assert (bad["outcome"], bad["reason"], bad["to_slot"]) == ("rolled-back", "unhealthy", "a")
    assert bad["running_digest"] == good["image_digest"]
    assert [check["passed"] for check in bad["checks"] if check["name"] == "10-pump-motor"] == [False]


def test_a_kernel_panic_in_the_new_slot_is_counted_until_the_old_one_returns(trial_board: TrialFactory) -> None:
    release = LabRelease("4.0", 40, change=panic, marker="panic")
    board = trial_board(release)
    board.power_on()
    board.wait_up(slot="a", through_failures=True)
    assert_came_back(board, release, "bootlimit")


@pytest.mark.parametrize("target", ["sysinit.target", pytest.param("boot-complete.target", marks=pytest.mark.long)])
def test_a_hang_on_the_way_up_is_ended_by_the_deadline(trial_board: TrialFactory, target: str) -> None:
    release = hang_in(target)
    board = trial_board(release)
    board.power_on()
    board.wait_up(slot="a", through_failures=True)
    assert_came_back(board, release, "deadline")


@pytest.mark.long
def test_a_kernel_that_hangs_is_reset_by_the_watchdog_until_the_old_slot_returns(trial_board: TrialFactory) -> None:
    release = LabRelease("4.0", 40, change=kernel_hang, marker="kernel-hang")
    board = trial_board(release)
    board.power_on()
    board.wait_up(slot="a", through_failures=True)
    assert board.monitor.count("WATCHDOG") == 3
    assert_came_back(board, release, "bootlimit", "resets")


def test_a_slot_whose_python_is_broken_returns_by_itself(trial_board: TrialFactory) -> None:
    release = LabRelease("4.0", 40, change=no_python, marker="no-python")
    board = trial_board(release)
    board.power_on()
    board.wait_up(slot="a", through_failures=True)
    assert_came_back(board, release, "unhealthy", "deadline")


@pytest.mark.verifies("S15", "S18")
def test_a_newer_client_that_rolls_back_leaves_a_record_that_the_old_one_reads(trial_board: TrialFactory) -> None:
    release = LabRelease("4.0", 40, motor="stuck", change=newer_client, marker="newer-client")
    board = trial_board(release)
    board.power_on()
    board.wait_up(slot="a", through_failures=True)
    product = assert_came_back(board, release, "unhealthy")
    names = set(board.check("ls", "/var/lib/twinslot").split())
    names -= {"status.json", "status.json.new", "device-key.pem", "device-key.pub", "fleet"}
    assert names <= {"record.sqlite", "record.sqlite-journal"}, "nothing was set aside, nothing migrated"
    updates = [row for row in product.history() if row["release"]["sequence"] == 40]
    assert updates, "what the new client wrote is still there"
    assert {row["release"]["channel"] for row in updates} == {"stable"}, "also what the old one does not know"


@pytest.mark.verifies("S25", "REQ-AUD-02", "REQ-AUD-03")
def test_a_wiped_data_partition_does_not_open_the_way_to_a_downgrade_and_is_told_in_the_audit(
    team: ReleaseTeam, trial_board: TrialFactory, tmp_path: Path
) -> None:
    board = trial_board(GOOD)
    board.power_on()
    board.wait_up(slot="b")
    assert Product(board).wait_idle()["floors"]["sequence"] == GOOD.sequence
    kept = TakenOff.of(board, tmp_path / "before")
    assert kept.verified()["breaks"] == []
    account = kept.explained()
    assert (account["outcome"], account["differences"]) == ("committed", [])
    said = kept.said()
    assert (said["running"], said["slots"]["b"]["release"]["sequence"]) == ("b", GOOD.sequence)
    assert said["audit"]["holds"]
    board.cut()
    start, size = board.files.board.disk.partitions()["data"]
    with board.disk.open("r+b") as disk:
        disk.seek(start)
        disk.write(bytes(size))
    board.power_on()
    board.wait_up(slot="b")
    Product(board).wait_idle()
    anew = TakenOff.of(board, tmp_path / "after")
    (broken,) = anew.verified()["breaks"]
    number, _, link = broken["fields"]["anchor"].partition("-")
    assert link in {row["hash"] for row in kept.rows() if row["number"] == int(number)}, "the export of before has them"
    assert anew.refused(kept.key) == "refused.audit-other-device", "the key was on the partition, too"
    older = team.image(LabRelease("1.5", 15))
    with FileServer(older.path.parent) as server, pytest.raises(GuestError, match="downgrade"):
        Product(board).install(server.url(older.path.name))
    assert Product(board).status()["slots"]["a"]["state"] == "good", "refused before a byte changed"


def cut_while_writing(board: QemuBoard, url: str) -> None:
    """Kill QEMU while groups are being written."""
    product = Product(board)

    def cut(message: dict[str, object]) -> None:
        if message["phase"] == "write" and isinstance(message["done"], int) and message["done"] > 20_000_000:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        product.install(url, tell=cut)
    board.cut()


@pytest.mark.verifies("S3")
@pytest.mark.long
def test_power_lost_while_writing_leaves_the_old_system_and_then_the_install_works(
    team: ReleaseTeam, board_factory: BoardFactory
) -> None:
    image = team.image(GOOD)
    board = board_factory(files=team.factory(FACTORY))
    board.power_on()
    board.wait_up(slot="a")
    with FileServer(image.path.parent) as server:
        cut_while_writing(board, server.url(image.path.name))
        assert board.card.variables()["slot_b"] == "bad"
        board.power_on()
        board.wait_up(slot="a")
        status = Product(board).wait_idle()
        assert (status["last"]["outcome"], status["last"]["reason"]) == ("abandoned", "interrupted")
        Product(board).install(server.url(image.path.name))
    board.reboot()
    board.wait_up(slot="b")
    assert Product(board).wait_idle()["slots"]["b"]["state"] == "good"
    assert Product(board).digest_of_root(image.slot.stat().st_size) == image.digest


@pytest.mark.verifies("S5")
@pytest.mark.long
def test_both_environment_copies_lost_in_the_middle_of_an_install_boots_the_complete_slot(
    team: ReleaseTeam, board_factory: BoardFactory
) -> None:
    image = team.image(GOOD)
    board = board_factory(files=team.factory(FACTORY))
    # Slot b runs, so that the target is slot a: the one that U-Boot's built-in default would start.
    write_at(board.disk, board.files.board.disk.partitions()["slot_b"][0], board.files.slot)
    board.card.update_both(slot="b", slot_b="good", slot_a="good")
    board.power_on()
    board.wait_up(slot="b")
    with FileServer(image.path.parent) as server:
        cut_while_writing(board, server.url(image.path.name))
    for copy in (0, 1):
        board.card.damage(copy)
    board.power_on()
    board.wait_up(slot="b")
    status = Product(board).wait_idle()
    assert status["environment"]["settled"]
    assert (status["slots"]["b"]["state"], status["slots"]["a"]["state"]) == ("good", "bad")
    assert board.card.variables()["ts_sequence"] == str(FACTORY.sequence), "the record kept the floor"


@pytest.mark.verifies("S13")
@pytest.mark.long
def test_a_release_that_rolled_back_is_refused_until_an_operator_says_retry(
    team: ReleaseTeam, trial_board: TrialFactory
) -> None:
    board = trial_board(BAD)
    board.power_on()
    board.wait_up(slot="a", through_failures=True)
    product = assert_came_back(board, BAD, "unhealthy")
    image = team.image(BAD)
    with FileServer(image.path.parent) as server, pytest.raises(GuestError, match="rolled back on this device before"):
        product.install(server.url(image.path.name))
