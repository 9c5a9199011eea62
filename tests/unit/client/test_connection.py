import os
import pickle
import threading
import time
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from bbopt.errors import (
    BboptError,
    DeadlineError,
    ExhaustedError,
    InvalidError,
    LimitError,
    NotFoundError,
    RetryableError,
    StudyExistsError,
    UnavailableError,
    UnsupportedError,
    Violation,
)
from bbopt_client import Client, ClientOptions, Float, Study
from bbopt_client.connection import Connection, FixedTarget
from tests.unit.client.conftest import FAST
from tests.unit.client.fake_server import FakeServer, FakeService, Fault, serve, unavailable


def until(event: threading.Event) -> None:
    event.wait(10)


def test_every_attempt_of_a_call_has_the_same_request_id(
    study: Study, service: FakeService
) -> None:
    service.fail("AskTrials", *(unavailable() for _ in range(4)))

    asked = study.ask()

    requests = service.requests("AskTrials")
    assert len(requests) == 5
    assert len({request.SerializeToString(deterministic=True) for request in requests}) == 1
    assert 8 <= len(requests[0].request_id) <= 64
    assert len(asked) == 1


def test_two_calls_have_different_request_ids(study: Study, service: FakeService) -> None:
    study.ask()
    study.ask()

    assert len({request.request_id for request in service.requests("AskTrials")}) == 2


@pytest.mark.parametrize(
    "method", ["TellTrials", "CreateTrial", "StopTrial", "AmendTrial", "ReleaseTrials"]
)
def test_an_answer_that_was_lost_is_fetched_by_the_same_request(
    study: Study, service: FakeService, method: str
) -> None:
    (trial,) = study.ask()
    service.fail(method, Fault(code=grpc.StatusCode.UNAVAILABLE, is_after_work=True))

    match method:
        case "TellTrials":
            trial.tell(0.5)
        case "CreateTrial":
            study.enqueue({"x": 0.5})
        case "StopTrial":
            study.stop(trial)
        case "AmendTrial":
            study.amend(trial, 0.5)
        case _:
            trial.release()

    first, second = service.requests(method)
    assert first.request_id == second.request_id
    assert service.n_told[1] == (method == "TellTrials")


@pytest.mark.parametrize(
    "fault",
    [
        Fault(code=grpc.StatusCode.UNAVAILABLE),
        Fault(code=grpc.StatusCode.CANCELLED),
        Fault(code=grpc.StatusCode.DEADLINE_EXCEEDED),
        Fault(error=ExhaustedError("full", retry_after_s=0.01)),
        unavailable(),
    ],
    ids=lambda fault: str(fault.code or type(fault.error).__name__),
)
def test_what_passes_by_itself_is_tried_again(
    study: Study, service: FakeService, fault: Fault
) -> None:
    service.fail("GetStudy", fault)

    study.refresh()

    assert len(service.requests("GetStudy")) == 2


@pytest.mark.parametrize(
    "fault",
    [
        Fault(error=NotFoundError("no such study")),
        Fault(error=DeadlineError("no fallback was allowed")),
        Fault(error=StudyExistsError("taken")),
        Fault(error=InvalidError([Violation("a.b", "is wrong"), Violation("c", "too")])),
        Fault(error=UnsupportedError.of("strategy", "cannot; gp can")),
    ],
    ids=lambda fault: type(fault.error).__name__,
)
def test_a_refusal_comes_back_at_once_as_the_class_that_was_raised(
    study: Study, service: FakeService, fault: Fault
) -> None:
    service.fail("GetStudy", fault)

    with pytest.raises(BboptError) as caught:
        study.refresh()

    assert type(caught.value) is type(fault.error)
    assert str(caught.value) == str(fault.error)
    assert getattr(caught.value, "violations", None) == getattr(fault.error, "violations", None)
    assert len(service.requests("GetStudy")) == 1


def test_what_can_never_have_more_is_not_asked_again(
    study: Study, service: FakeService
) -> None:
    service.fail("AskTrials", Fault(error=LimitError("all the trials that it can have")))

    with pytest.raises(LimitError):
        study.ask()

    assert len(service.requests("AskTrials")) == 1


def test_a_message_that_is_too_large_is_not_sent_again(
    study: Study, service: FakeService
) -> None:
    service.fail("GetStudy", Fault(code=grpc.StatusCode.RESOURCE_EXHAUSTED))

    with pytest.raises(ExhaustedError):
        study.refresh()

    assert len(service.requests("GetStudy")) == 1


def test_the_pause_that_the_server_names_is_kept(study: Study, service: FakeService) -> None:
    service.fail("GetStudy", unavailable(retry_after_s=0.3))
    start = time.monotonic()

    study.refresh()

    assert time.monotonic() - start >= 0.3


def test_a_pause_beyond_the_deadline_is_not_begun(study: Study, service: FakeService) -> None:
    service.fail("GetStudy", unavailable(retry_after_s=3600))

    with pytest.raises(UnavailableError) as caught:
        study.refresh()

    assert caught.value.retry_after_s == 3600


def test_an_ask_of_a_full_study_does_not_wait_for_room(
    study: Study, service: FakeService
) -> None:
    pause_s = FAST.deadline_s  # Less than what is left to an ask.
    service.fail("AskTrials", Fault(error=ExhaustedError("full", retry_after_s=pause_s)))

    with pytest.raises(ExhaustedError, match="full"):
        study.ask(wait_s=60.0)

    assert len(service.requests("AskTrials")) == 1


def test_an_attempt_that_hangs_is_cut_short_and_repeated(
    fake: FakeServer, service: FakeService
) -> None:
    hang = threading.Event()
    service.fail("GetServerInfo", Fault(before=lambda: until(hang)))
    with Client(
        fake.address, outbox=False, options=replace(FAST, attempt_timeout_s=0.2)
    ) as client:
        assert client.server_info().version == "fake"
    hang.set()

    assert len(service.requests("GetServerInfo")) == 2


def test_a_server_that_never_answers_is_told_apart_from_none(
    fake: FakeServer, service: FakeService
) -> None:
    hang = threading.Event()
    for _ in range(20):
        service.fail("GetServerInfo", Fault(before=lambda: until(hang)))
    options = replace(FAST, attempt_timeout_s=0.1, first_contact_s=0.5)
    with (
        Client(fake.address, outbox=False, options=options) as client,
        pytest.raises(DeadlineError, match="did not answer"),
    ):
        client.server_info()
    hang.set()


def test_an_unreachable_server_is_named_with_what_to_do() -> None:
    options = replace(FAST, first_contact_s=0.2, deadline_s=5.0)
    start = time.monotonic()
    with (
        Client("127.0.0.1:9", outbox=False, options=options) as client,
        pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9.*`bbopt serve`"),
    ):
        client.server_info()

    assert time.monotonic() - start < 2.5


def test_a_first_call_gives_up_sooner_than_a_later_one(fake: FakeServer) -> None:
    options = replace(FAST, first_contact_s=0.2, deadline_s=1.5)
    with Client(fake.address, outbox=False, options=options) as client:
        client.server_info()
        fake.stop()
        start = time.monotonic()
        with pytest.raises(UnavailableError):
            client.server_info()

    assert time.monotonic() - start > 1.0


def test_a_call_outlives_a_restart_of_the_server(fake: FakeServer) -> None:
    with Client(fake.address, outbox=False, options=FAST) as client:
        client.server_info()
        fake.stop()
        restarted = threading.Timer(
            0.5, lambda: again.append(serve(fake.service, fake.address))
        )
        again: list[FakeServer] = []
        restarted.start()

        assert client.server_info().version == "fake"

        restarted.join()
        again[0].stop()


def test_closing_ends_a_call_that_waits(client: Client, service: FakeService) -> None:
    service.fail("GetServerInfo", unavailable(retry_after_s=4.0))
    caught: list[BaseException] = []

    def call() -> None:
        try:
            client.server_info()
        except BboptError as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    while not service.requests("GetServerInfo"):
        time.sleep(0.005)
    client.close()
    thread.join(2.0)

    assert not thread.is_alive()
    assert isinstance(caught[0], UnavailableError)


def test_a_closed_client_says_so(client: Client) -> None:
    client.close()

    with pytest.raises(UnavailableError, match="closed"):
        client.server_info()


def test_pauses_have_full_jitter_under_a_doubling_ceiling() -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    options = ClientOptions(initial_backoff_s=0.1, max_backoff_s=5.0)
    connection = Connection(FixedTarget("127.0.0.1:9"), options, uniform=uniform)

    pauses = [connection.backoff_s(n) for n in range(1, 9)]

    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert all(low == 0.0 for low, _ in drawn)


def test_no_call_is_made_before_it_is_needed(service: FakeService, fake: FakeServer) -> None:
    with Client(fake.address, outbox=False):
        pass

    assert service.calls == []


def test_a_client_may_be_used_from_many_threads(study: Study, service: FakeService) -> None:
    service.fail("AskTrials", *(unavailable() for _ in range(10)))
    numbers: list[int] = []

    def work() -> None:
        for _ in range(5):
            (trial,) = study.ask()
            trial.tell(0.5)
            numbers.append(trial.number)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(numbers) == list(range(1, 41))
    assert all(service.n_told[number] == 1 for number in numbers)


@pytest.mark.parametrize(
    "address",
    ["", "host", "host:", ":50151", "host:0", "host:x", "h:70000", "http://h:1", 50151],
)
def test_a_wrong_address_is_refused_before_any_call(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BBOPT_SERVER", "nonsense")

    with pytest.raises(InvalidError, match="host:port"):
        Client(address, outbox=False)


def test_the_environment_names_the_server(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BBOPT_SERVER", fake.address)

    with Client(outbox=False) as client:
        assert client.server_info().version == "fake"


def test_options_list_every_duration_that_is_not_positive() -> None:
    with pytest.raises(InvalidError) as caught:
        ClientOptions(deadline_s=0, max_backoff_s=-1)

    assert [each.field for each in caught.value.violations] == [
        "options.deadline_s",
        "options.max_backoff_s",
    ]


def test_a_proxy_in_the_environment_does_not_hide_a_server_on_this_machine(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    with Client(fake.address, outbox=False, options=FAST) as client:
        assert client.server_info().version == "fake"


def test_a_bare_status_of_unknown_meaning_is_still_an_error_of_the_tree(
    study: Study, service: FakeService
) -> None:
    service.fail("GetStudy", Fault(code=grpc.StatusCode.PERMISSION_DENIED))

    with pytest.raises(BboptError, match="PERMISSION_DENIED") as caught:
        study.refresh()

    assert not isinstance(caught.value, RetryableError)


def test_creating_a_study_twice_by_retry_creates_it_once(
    client: Client, service: FakeService
) -> None:
    service.fail("CreateStudy", Fault(code=grpc.StatusCode.UNAVAILABLE, is_after_work=True))

    client.create_study("once", space=[Float("x", 0, 1)], objective="loss")

    assert len(service.requests("CreateStudy")) == 2
    assert len(service.studies) == 1


def test_a_client_works_in_its_own_process_only(
    study: Study, service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trial,) = study.ask()
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)

    with pytest.raises(RuntimeError, match="after the fork"):
        study.ask()
    with pytest.raises(RuntimeError, match="after the fork"):
        trial.tell(0.5)
    with pytest.raises(TypeError, match="open them in each process"):
        pickle.dumps(trial)

    monkeypatch.undo()
    assert service.requests("TellTrials") == []
    assert list((tmp_path / "outbox").glob("*.jsonl")) == []
    assert trial.tell(0.5).error is None


def test_a_server_that_is_not_ours_is_said_to_be_none(
    client: Client, service: FakeService, fake: FakeServer
) -> None:
    service.fail("ListStudies", Fault(code=grpc.StatusCode.UNIMPLEMENTED))

    with pytest.raises(BboptError, match=f"{fake.address} is not bbopt"):
        client.studies()
