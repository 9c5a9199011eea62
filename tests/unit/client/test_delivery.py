import json
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from bbopt.errors import (
    InternalError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    StudyDeletedError,
    TrialFinishedError,
    UnavailableError,
)
from bbopt.trial import Failed
from bbopt_client import Client, Float, Study
from tests.unit.client.conftest import FAST
from tests.unit.client.fake_server import FakeServer, FakeService, Fault, serve, unavailable
from tests.waiting import wait_until

IMPATIENT = replace(FAST, tell_deadline_s=0.3, deadline_s=0.3, close_timeout_s=0.2)


def pending(folder: Path) -> list[dict[str, str]]:
    return [
        json.loads(line)
        for path in folder.glob("*.jsonl")
        if path.name != "refused.jsonl"
        for line in path.read_text().splitlines()
    ]


def test_a_result_is_on_disk_while_it_is_being_sent(
    study: Study, service: FakeService, tmp_path: Path
) -> None:
    (trial,) = study.ask()
    seen: list[dict[str, str]] = []
    service.fail("TellTrials", Fault(before=lambda: seen.extend(pending(tmp_path / "outbox"))))

    trial.tell(0.5)

    assert len(seen) == 1
    assert seen[0]["request_id"] == service.requests("TellTrials")[0].request_id
    assert pending(tmp_path / "outbox") == []


def test_a_result_without_an_answer_is_sent_in_the_background(
    fake: FakeServer, service: FakeService, tmp_path: Path
) -> None:
    with Client(fake.address, outbox=tmp_path, options=IMPATIENT) as client:
        study = client.create_study("s", space=[Float("x", 0, 1)], objective="-loss")
        (trial,) = study.ask()
        fake.stop()
        with pytest.raises(UnavailableError) as caught:
            trial.tell(0.5)
        assert "sent again" in caught.value.__notes__[0]

        again = serve(service, fake.address)

        assert client.flush(10.0)
        assert service.n_told == {1: 1}
        again.stop()
    assert pending(tmp_path) == []


_TELL_AND_HANG = """
import sys
from bbopt_client import Client
client = Client(sys.argv[1], outbox=sys.argv[2])
client.study("s").tell(1, {"loss": 0.5})
"""


@pytest.mark.parametrize("is_after_work", [False, True], ids=["before_work", "after_work"])
def test_a_client_that_is_killed_during_a_tell_loses_nothing_and_tells_once(
    fake: FakeServer, service: FakeService, tmp_path: Path, *, is_after_work: bool
) -> None:
    with Client(fake.address, outbox=False, options=FAST) as client:
        study = client.create_study("s", space=[Float("x", 0, 1)], objective="-loss")
        study.ask()
    reached, killed = threading.Event(), threading.Event()

    def hang() -> None:
        reached.set()
        killed.wait(20)

    # The tell is refused after the kill, with its work done or not: no answer either way.
    lost = Fault(code=grpc.StatusCode.UNAVAILABLE, is_after_work=is_after_work, before=hang)
    service.fail("TellTrials", lost)
    child = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", _TELL_AND_HANG, fake.address, str(tmp_path)]
    )
    assert reached.wait(20)
    child.send_signal(signal.SIGKILL)
    child.wait()
    killed.set()
    assert len(pending(tmp_path)) == 1

    with Client(fake.address, outbox=tmp_path, options=FAST) as client:
        assert client.flush(10.0)

    first, second = service.requests("TellTrials")
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )
    assert service.n_told == {1: 1}
    assert pending(tmp_path) == []


def test_a_result_waits_for_the_server_that_has_its_study(
    fake: FakeServer, service: FakeService, tmp_path: Path
) -> None:
    with Client(fake.address, outbox=tmp_path, options=IMPATIENT) as client:
        study = client.create_study("s", space=[Float("x", 0, 1)], objective="-loss")
        (trial,) = study.ask()
        fake.stop()
        with pytest.raises(UnavailableError):
            trial.tell(0.5)
    other = FakeService()
    elsewhere = serve(other, fake.address)

    with Client(fake.address, outbox=tmp_path, options=FAST) as client:
        client.create_study("s", space=[Float("x", -9, 9)], objective="-loss").ask()
        assert client.flush(10.0)
    elsewhere.stop()

    assert other.n_told == {}
    assert len(pending(tmp_path)) == 1
    again = serve(service, fake.address)
    with Client(fake.address, outbox=tmp_path, options=FAST) as client:
        assert client.flush(10.0)
    again.stop()
    assert service.n_told == {1: 1}
    assert pending(tmp_path) == []


def test_a_refused_result_raises_and_is_kept(
    study: Study, service: FakeService, tmp_path: Path
) -> None:
    (trial,) = study.ask()
    trial.tell(0.5)

    with pytest.raises(TrialFinishedError):
        trial.tell(0.75)

    (line,) = (tmp_path / "outbox" / "refused.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == "TRIAL_ALREADY_FINISHED"
    assert pending(tmp_path / "outbox") == []
    assert service.n_told == {1: 1}


def test_a_refused_batch_is_kept_whole(
    study: Study, service: FakeService, tmp_path: Path
) -> None:
    (trial,) = study.ask()
    service.fail("TellTrials", Fault(error=PreconditionError("no")))

    with pytest.raises(PreconditionError):
        trial.tell(0.5)

    (line,) = (tmp_path / "outbox" / "refused.jsonl").read_text().splitlines()
    assert json.loads(line)["trials"] == [trial.name]
    assert pending(tmp_path / "outbox") == []


def test_a_result_of_a_study_that_is_gone_stays_spooled_and_says_so(
    study: Study, service: FakeService, tmp_path: Path
) -> None:
    (trial,) = study.ask()
    service.studies.clear()

    with pytest.raises(NotFoundError) as caught:
        trial.tell(0.5)

    assert "stays spooled" in caught.value.__notes__[0]
    assert len(pending(tmp_path / "outbox")) == 1


def test_a_result_of_a_study_that_was_deleted_meanwhile_is_set_aside(
    fake: FakeServer, service: FakeService, tmp_path: Path
) -> None:
    with Client(fake.address, outbox=tmp_path, options=IMPATIENT) as client:
        study = client.create_study("s", space=[Float("x", 0, 1)], objective="-loss")
        (trial,) = study.ask()
        service.fail("TellTrials", *(unavailable() for _ in range(1000)))
        with pytest.raises(UnavailableError):
            trial.tell(0.5)
    service.faults.clear()
    service.fail("TellTrials", Fault(error=StudyDeletedError("there is no study s")))

    with Client(fake.address, outbox=tmp_path, options=FAST) as client:
        assert client.flush(10.0)

    (line,) = (tmp_path / "refused.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == "STUDY_DELETED"
    assert pending(tmp_path) == []


def test_what_the_client_itself_refuses_is_neither_spooled_nor_sent(
    study: Study, service: FakeService, tmp_path: Path
) -> None:
    (trial,) = study.ask()

    with pytest.raises(InvalidError):
        trial.tell({"loss": float("nan")})

    assert service.requests("TellTrials") == []
    assert list((tmp_path / "outbox").glob("*")) == []


def test_a_result_that_breaks_the_server_stays_on_disk_and_does_not_loop(
    study: Study, service: FakeService, client: Client, tmp_path: Path
) -> None:
    (trial,) = study.ask()
    broken = Fault(error=InternalError("reference 1234"))
    service.fail("TellTrials", broken, broken)

    with pytest.raises(InternalError):
        trial.tell(0.5)
    wait_until(lambda: len(service.requests("TellTrials")) == 2)

    assert client.flush(5.0)
    assert len(service.requests("TellTrials")) == 2
    assert len(pending(tmp_path / "outbox")) == 1


def test_a_full_disk_does_not_stop_a_tell(
    study: Study, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trial,) = study.ask()

    def refuse(*_: object, sync: bool) -> None:
        assert sync
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bbopt_client.outbox._SpoolFile.append", refuse)

    trial.tell(0.5)

    assert service.n_told == {1: 1}


def test_a_folder_that_cannot_be_made_is_an_error_only_if_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OSError, match="exists"):
        Client("127.0.0.1:9", outbox=blocked)
    monkeypatch.setattr("bbopt_client.client.outbox_folder", lambda: blocked)

    with Client("127.0.0.1:9") as client:
        assert client.session.delivery.outbox is None


def test_closing_gives_a_result_on_its_way_some_time(
    fake: FakeServer, service: FakeService, tmp_path: Path
) -> None:
    options = replace(IMPATIENT, close_timeout_s=10.0)
    client = Client(fake.address, outbox=tmp_path, options=options)
    study = client.create_study("s", space=[Float("x", 0, 1)], objective="-loss")
    (trial,) = study.ask()
    service.fail("TellTrials", unavailable(retry_after_s=60))
    with pytest.raises(UnavailableError):
        trial.tell(0.5)

    client.close()

    assert service.n_told == {1: 1}
    assert pending(tmp_path) == []


def test_tells_of_a_retryable_failure_are_not_sent_under_two_names(
    study: Study, service: FakeService
) -> None:
    (trial,) = study.ask()

    study.tell_and_ask([(trial, Failed("the machine burnt"))])

    assert service.requests("TellAndAsk") == []
    assert len(service.requests("TellTrials")) == 1


def test_tell_and_ask_is_one_round_trip_that_is_spooled_too(
    study: Study, service: FakeService, tmp_path: Path
) -> None:
    (trial,) = study.ask()
    seen: list[dict[str, str]] = []
    service.fail("TellAndAsk", Fault(before=lambda: seen.extend(pending(tmp_path / "outbox"))))

    answers, asked = study.tell_and_ask([(trial, 0.5)], n=2)

    assert [answer.number for answer in answers] == [1]
    assert [each.number for each in asked] == [2, 3]
    assert len(seen) == 1
    assert service.requests("TellTrials") == []
    assert pending(tmp_path / "outbox") == []
