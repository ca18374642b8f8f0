"""The client against the real service on a private bus: the caller sees what the engine would have said."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from bus_bench import HANG, SERVICE, Answered, Caller, private_bus, service_on
from bus_service import ERRORS, REASONS, SIZE, transaction

import waits
from twinslot.bus.client.client import BusUpdater, connect
from twinslot.bus.library import Variant
from twinslot.bus.names import error_from
from twinslot.core.errors import CancelledError, DeviceError, LifecycleError, RefusedError, TransportError
from twinslot.core.progress import Phase, Progress
from twinslot.core.requests import ActivateOptions, CommitOptions, InstallOptions, RollbackOptions
from twinslot.core.transaction import Transaction

PLAIN = InstallOptions()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with private_bus() as found, service_on(found):
        yield found


@pytest.fixture
def client(address: str) -> Iterator[BusUpdater]:
    with connect(address) as found:
        yield found


def image(tmp_path: Path, scenario: str) -> int:
    path = tmp_path / "image"
    path.write_text(scenario)
    return os.open(path, os.O_RDONLY)


def test_an_install_by_address_returns_the_whole_transaction(client: BusUpdater) -> None:
    found = client.install("http://server/success", PLAIN)
    assert found == transaction(reason=repr(InstallOptions()))


def test_options_reach_the_engine_and_none_means_the_default(client: BusUpdater) -> None:
    given = InstallOptions(activate=False, reboot=False, retry=True, reinstall=True, ignore_expiry=True)
    assert client.install("http://server/success", given).reason == repr(given)
    assert client.install("http://server/success", PLAIN).reason == repr(InstallOptions())


def test_an_install_from_a_file_leaves_the_descriptor_to_the_caller(client: BusUpdater, tmp_path: Path) -> None:
    descriptor = image(tmp_path, "success")
    assert client.install(descriptor, PLAIN).state == "armed"
    os.close(descriptor)


def test_progress_arrives_in_the_calling_thread_with_all_its_fields(client: BusUpdater) -> None:
    seen: list[Progress] = []
    threads = set()

    def observer(progress: Progress) -> None:
        seen.append(progress)
        threads.add(threading.current_thread())

    client.install("http://server/success", PLAIN, observer)
    assert list(dict.fromkeys(p.phase for p in seen)) == [Phase.VERIFY, Phase.WRITE, Phase.READ_BACK]
    assert seen[1] == Progress(Phase.WRITE, 0, SIZE)
    assert seen[-1] == Progress(Phase.READ_BACK, SIZE, SIZE, 7.0, 0.0, 3600)
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize("family", sorted(set(ERRORS) - {"device"}))
def test_every_family_of_errors_arrives_whole(client: BusUpdater, family: str) -> None:
    expected = ERRORS[family]
    with pytest.raises(type(expected)) as caught:
        client.install(f"http://server/{family}", PLAIN)
    assert caught.value.as_dict() == expected.as_dict()
    assert caught.value.exit_status == expected.exit_status


def test_words_that_the_bus_cannot_carry_still_arrive(client: BusUpdater) -> None:
    with pytest.raises(DeviceError) as caught:
        client.install("http://server/device", PLAIN)
    assert caught.value.as_dict() == ERRORS["device"].as_dict()


def test_all_reasons_of_a_refusal_arrive(client: BusUpdater) -> None:
    with pytest.raises(RefusedError) as caught:
        client.install("http://server/refused", PLAIN)
    assert caught.value.reasons == REASONS


def test_an_error_before_the_engine_begins_ends_the_job(client: BusUpdater) -> None:
    with pytest.raises(TransportError, match="no such server"):
        client.install("http://nowhere/", PLAIN)


def test_a_mistake_of_ours_is_a_sentence_and_the_next_install_works(client: BusUpdater) -> None:
    with pytest.raises(LifecycleError, match="mistake in the service") as caught:
        client.install("http://server/mistake", PLAIN)
    assert "Traceback" not in str(caught.value)
    assert client.install("http://server/success", PLAIN).state == "armed"


def test_unknown_options_and_wrong_types_are_refused_by_name_and_all_at_once(address: str) -> None:
    def refused(**given: Variant) -> RefusedError:
        with pytest.raises(Answered) as caught:
            Caller(address).call("Install", "sa{sv}", "http://server/success", given)
        error = error_from(caught.value.name, caught.value.words)
        assert isinstance(error, RefusedError)
        return error

    both = refused(retri=Variant("b", True), activate=Variant("s", "yes"))
    assert {reason.code for reason in both.reasons} == {"option-unknown", "option-type"}
    assert "'retri'" in str(both)
    assert "'activate'" in str(both)
    (wrong,) = refused(retry=Variant("d", 1.5)).reasons
    assert wrong.message == "option 'retry' has the wrong type"
    assert (wrong.expected, wrong.found) == ("boolean (b)", "d")


def test_status_and_history_are_those_of_the_service(client: BusUpdater) -> None:
    assert client.status()["running"] == "a"
    assert [Transaction.from_dict(each) for each in client.history(1)] == [transaction()]


def test_the_other_verbs_return_their_transactions(client: BusUpdater) -> None:
    assert client.activate(ActivateOptions(reboot=False)).reason == "reboot=False"
    assert client.activate(ActivateOptions()).reason == "reboot=None"
    assert client.rollback(RollbackOptions(reason="too loud")).reason == "too loud reboot=True"
    committed = client.commit(CommitOptions(force="the technician looked"))
    assert committed is not None
    assert committed.forced is True
    assert client.commit(CommitOptions(if_trial=True)) is None
    dropped = client.cancel()
    assert dropped is not None
    assert dropped.outcome == "abandoned"


def test_a_failed_health_check_is_refused_with_its_progress(client: BusUpdater) -> None:
    seen: list[Progress] = []
    with pytest.raises(RefusedError, match="a required check failed"):
        client.commit(CommitOptions(), seen.append)
    assert seen == [Progress(Phase.CHECK, 1, 3)]


def test_a_wish_to_cancel_stops_the_install(client: BusUpdater) -> None:
    cancelled = threading.Event()

    def stop_when_writing(progress: Progress) -> None:
        if progress.phase is Phase.WRITE:
            cancelled.set()

    with pytest.raises(CancelledError):
        client.install("http://server/wait", PLAIN, stop_when_writing, cancelled)


def test_a_wish_to_cancel_ends_a_read_that_waits(client: BusUpdater) -> None:
    reader, writer = os.pipe()
    cancelled = threading.Event()
    cancelled.set()
    try:
        with pytest.raises(CancelledError):
            client.install(reader, PLAIN, cancelled=cancelled)
    finally:
        os.close(reader)
        os.close(writer)


def test_another_caller_cancels_and_the_first_one_hears_it(client: BusUpdater, address: str) -> None:
    outcome: list[BaseException] = []

    def install() -> None:
        try:
            client.install("http://server/wait", PLAIN)
        except CancelledError as e:
            outcome.append(e)

    thread = threading.Thread(target=install)
    thread.start()
    waits.until(lambda: Caller(address).get("Busy"))
    with connect(address) as other:
        assert other.cancel() is None
    thread.join(waits.HANG)
    assert len(outcome) == 1


def test_a_second_install_is_told_which_job_runs(client: BusUpdater, address: str) -> None:
    cancelled = threading.Event()

    def install() -> None:
        with pytest.raises(CancelledError):
            client.install("http://server/wait", PLAIN, cancelled=cancelled)

    thread = threading.Thread(target=install)
    thread.start()
    waits.until(lambda: Caller(address).get("Busy"))
    with connect(address) as other, pytest.raises(RefusedError) as caught:
        other.install("http://server/success", PLAIN)
    assert caught.value.code == "refused.busy"
    assert caught.value.found == Caller(address).get("CurrentJob")
    cancelled.set()
    thread.join(waits.HANG)
    assert client.install("http://server/success", PLAIN).state == "armed"


def test_no_bus_is_a_device_error_that_names_the_way_without(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="--no-service") as caught:
        connect(f"unix:path={tmp_path}/nothing")
    assert caught.value.code == "device.bus"


def test_no_service_on_the_bus_is_a_device_error_that_names_the_way_without() -> None:
    with private_bus() as address, pytest.raises(DeviceError, match="--no-service") as caught:
        connect(address)
    assert caught.value.code == "device.bus"


def test_the_bus_starts_the_service_for_the_first_caller() -> None:
    with private_bus(service=f"{sys.executable} {SERVICE} --idle 0.5") as address:
        assert not Caller(address).owned()
        with connect(address) as client:
            assert client.install("http://server/success", PLAIN).state == "armed"
        waits.until(lambda: not Caller(address).owned())
        with connect(address) as client:
            assert client.install("http://server/success", PLAIN).state == "armed"
        waits.until(lambda: not Caller(address).owned())


def test_a_service_that_dies_in_the_middle_is_told_at_once() -> None:
    with private_bus() as address, service_on(address) as service, connect(address) as client:

        def kill(progress: Progress) -> None:
            if progress.phase is Phase.WRITE:
                service.kill()

        with pytest.raises(DeviceError, match="went away in the middle") as caught:
            client.install("http://server/wait", PLAIN, kill)
        assert caught.value.code == "device.service-gone"


def test_a_service_that_is_stopped_tells_that_the_install_was_cancelled() -> None:
    patient = ("--grace", str(10 * HANG))  # what it would wait for work that does not stop
    with private_bus() as address, service_on(address, *patient) as service, connect(address) as client:

        def stop(progress: Progress) -> None:
            if progress.phase is Phase.WRITE:
                service.terminate()

        with pytest.raises(CancelledError):
            client.install("http://server/wait", PLAIN, stop)
        assert service.wait(HANG) == 0
