import threading
import time

import grpc
import pytest

from bbopt.errors import NotFoundError, UnavailableError
from bbopt.rpc.v1 import study_pb2
from bbopt.rpc.v1.optimization_service_pb2 import StudyEvent as StudyEventMessage
from bbopt_client import Client, Study, StudyEvent, StudyState
from tests.unit.client.fake_server import FakeServer, FakeService, Fault, serve


@pytest.fixture
def events(study: Study, service: FakeService) -> list[tuple[int, int]]:
    """A log in which every third event, an ask, is of three trials."""
    keys: list[tuple[int, int]] = []
    for revision in range(1, 13):
        for _ in range(3 if revision % 3 == 0 else 1):
            trial = service._new_trial(str(study.name), 2)
            message = StudyEventMessage(revision=revision, kind="asked", trial=trial)
            message.time.GetCurrentTime()
            service.events.append(message)
            keys.append((revision, trial.number))
    return keys


def read(study: Study, n: int, since: int = 0) -> list[tuple[int, int]]:
    with study.watch(since) as watch:
        return [key(next(watch)) for _ in range(n)]


def key(event: StudyEvent) -> tuple[int, int]:
    assert event.trial is not None
    return event.revision, event.trial.number


def test_a_watch_brings_every_event(study: Study, events: list[tuple[int, int]]) -> None:
    assert read(study, len(events)) == events


def test_a_watch_begins_after_a_revision(study: Study, events: list[tuple[int, int]]) -> None:
    wanted = [each for each in events if each[0] > 6]

    assert read(study, len(wanted), since=6) == wanted


@pytest.mark.parametrize("n", range(20))
def test_a_watch_that_breaks_anywhere_goes_on_without_gap_or_repeat(
    study: Study, service: FakeService, events: list[tuple[int, int]], n: int
) -> None:
    service.break_watch_after = [n]

    assert read(study, len(events)) == events


def test_a_watch_that_breaks_again_and_again_goes_on(
    study: Study, service: FakeService, events: list[tuple[int, int]]
) -> None:
    service.break_watch_after = [2, 0, 3, 1, 2, 2, 0, 0, 3]

    assert read(study, len(events)) == events


def test_a_watch_outlives_a_restart_of_the_server(
    fake: FakeServer, study: Study, events: list[tuple[int, int]]
) -> None:
    with study.watch() as watch:
        seen = [key(next(watch)) for _ in range(4)]
        fake.stop()
        again = serve(fake.service, fake.address)
        seen += [key(next(watch)) for _ in range(len(events) - 4)]
    again.stop()

    assert seen == events


def test_a_watch_ends_with_the_study(study: Study, service: FakeService) -> None:
    for revision, state in enumerate(("STATE_COMPLETED", "STATE_DELETED"), start=1):
        message = StudyEventMessage(revision=revision, kind="study")
        message.study.state = study_pb2.Study.State.Value(state)
        service.events.append(message)

    with study.watch() as watch:
        states = [event.study_state for event in watch]

    assert states == [StudyState.COMPLETED, StudyState.DELETED]


def test_a_watch_can_be_closed_from_another_thread(study: Study) -> None:
    watch = study.watch()
    seen: list[StudyEvent] = []
    thread = threading.Thread(target=lambda: seen.extend(watch))
    thread.start()
    time.sleep(0.05)

    watch.close()
    thread.join(5)

    assert not thread.is_alive()
    assert seen == []


def test_closing_the_client_ends_its_watches(client: Client, study: Study) -> None:
    watch = study.watch()
    ended: list[object] = []

    def follow() -> None:
        try:
            ended.extend(watch)
        except UnavailableError as error:
            ended.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    time.sleep(0.05)

    client.close()
    thread.join(5)

    assert not thread.is_alive()


def test_a_watch_of_a_study_that_is_gone_says_so(study: Study, service: FakeService) -> None:
    service.fail("WatchStudy", Fault(error=NotFoundError("deleted")))

    with study.watch() as watch, pytest.raises(NotFoundError, match="deleted"):
        next(watch)


def test_a_watch_does_not_go_on_for_ever_after_a_bug(
    study: Study, service: FakeService
) -> None:
    service.fail("WatchStudy", Fault(code=grpc.StatusCode.INTERNAL))

    with study.watch() as watch, pytest.raises(Exception, match="INTERNAL"):
        next(watch)
