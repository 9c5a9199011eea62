"""Compute that hangs, and a study that brings it down again and again: no ask waits for it
beyond its deadline, and everybody who looks is told.
"""

import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from bbopt.errors import DeadlineError, UnavailableError
from bbopt.rpc.v1 import insight_service_pb2 as insight_pb2
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import study_pb2, trial_pb2
from bbopt_server.compute import ComputePool, Limits
from tests.e2e.command_line import CommandLine
from tests.e2e.served import PARENT, Caller, loss_at, new_id, serving
from tests.kept import read_file
from tests.unit.compute.pools import FAKE, order
from tests.unit.server.service import point, quadratic
from tests.waiting import Clock, wait_until

BAD, GOOD = f"{PARENT}/studies/bad", f"{PARENT}/studies/good"


def ask(caller: Caller, study: str, *, timeout_s: float = 20.0) -> trial_pb2.Trial:
    (trial,) = caller.ask(study, timeout_s=timeout_s).trials
    return trial


def ask_and_tell(caller: Caller, study: str, n: int) -> list[trial_pb2.Trial]:
    trials = []
    for _ in range(n):
        trial = ask(caller, study)
        caller.tell(study, trial, loss_at(trial))
        trials.append(trial)
    return trials


def get(caller: Caller, study: str) -> study_pb2.Study:
    return caller.call(caller.optimization.GetStudy, pb.GetStudyRequest(name=study))


def create(caller: Caller, name: str, strategy: str, seed: int) -> None:
    spec = quadratic(strategy=strategy)
    spec.seed = seed
    caller.create(name, spec)


# ---------------------------------------------------------------------- hung


def test_an_ask_whose_compute_hangs_is_answered_before_its_deadline(tmp_path: Path) -> None:
    limits = Limits(job_s=3.0, deadline_factor=1.0)
    pool = ComputePool(device="cpu", limits=limits)
    db = tmp_path / "studies.db"
    # Every loss of compute is to be an ask's, not one of the ready queue's.
    with serving(str(db), pool, has_ready_queue=False) as caller:
        create(caller, "bad", "gp", 1)
        wait_until(lambda: pool.is_ready)
        ask_and_tell(caller, BAD, 7)
        pid = pool.pids[0]
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        trial = ask(caller, BAD, timeout_s=1.0)  # A later answer would be DEADLINE_EXCEEDED.
        assert trial.provenance.generator == "fallback"
        assert trial.provenance.degraded_from == "gp"
        assert trial.provenance.reason == "the model had no answer before the deadline"
        caller.tell(BAD, trial, 1.0)
        wait_until(lambda: pool.is_ready and pool.pids[0] != pid)
        assert not psutil.pid_exists(pid)
        assert pool.counters[0].n_lost_busy == 1
        assert {t.provenance.generator for t in ask_and_tell(caller, BAD, 2)} == {"gp"}
        assert not get(caller, BAD).HasField("set_aside_until")
    assert read_file(db, "bad").mismatches() == []


# ---------------------------------------------------------------------- set aside


@dataclass
class Aside:
    """A server with a study that has just brought down compute for the third time."""

    caller: Caller
    pool: ComputePool
    clock: Clock
    orders: Path
    trials: Sequence[trial_pb2.Trial]
    """What the study was given while it did so."""
    log: Sequence[str]


class Messages(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def with_a_bad_study(folder: Path) -> Iterator[Aside]:
    clock, orders, messages = Clock(), folder / "orders", Messages()
    orders.mkdir()
    logger = logging.getLogger("bbopt_server.compute")
    logger.addHandler(messages)
    pool = ComputePool(command=[sys.executable, FAKE, str(orders)], clock=clock)
    with serving(str(folder / "studies.db"), pool, has_ready_queue=False) as caller:
        create(caller, "bad", "gp", 1)
        create(caller, "good", "gp", 2)
        ask_and_tell(caller, BAD, 2)
        order(orders, "crash", times=3)
        trials = [ask(caller, BAD) for _ in range(3)]
        yield Aside(caller, pool, clock, orders, trials, messages.texts)
    logger.removeHandler(messages)


@pytest.fixture(scope="module")
def aside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aside]:
    """A server to look at; who disturbs it makes one of their own."""
    with with_a_bad_study(tmp_path_factory.mktemp("aside")) as aside:
        yield aside


@pytest.fixture
def caller(aside: Aside) -> Caller:
    return aside.caller


def test_a_study_that_kills_compute_three_times_gets_fallbacks_that_say_so(
    aside: Aside,
) -> None:
    reasons = [trial.provenance.reason for trial in aside.trials]
    assert {trial.provenance.generator for trial in aside.trials} == {"fallback"}
    assert {trial.provenance.degraded_from for trial in aside.trials} == {"gp"}
    assert "twice in a row" in reasons[0]
    for reason in reasons[1:]:
        assert "brought down compute too often and is set aside for" in reason
    assert aside.pool.counters[0].n_lost_busy == 3
    assert ask(aside.caller, GOOD).provenance.generator == "fake"


def test_a_study_that_is_set_aside_is_shown_as_such(caller: Caller) -> None:
    until = get(caller, BAD).set_aside_until.ToDatetime(UTC)
    assert 500 < (until - datetime.now(UTC)).total_seconds() <= 600
    assert not get(caller, GOOD).HasField("set_aside_until")
    listed = caller.call(
        caller.optimization.ListStudies, pb.ListStudiesRequest(parent=PARENT)
    ).studies
    assert {each.name: each.HasField("set_aside_until") for each in listed} == {
        BAD: True,
        GOOD: False,
    }
    assert get(caller, BAD).state == study_pb2.Study.STATE_ACTIVE


def test_insight_says_that_a_study_is_set_aside(caller: Caller) -> None:
    best = caller.call(
        caller.insight.GetBest, insight_pb2.GetBestRequest(name=BAD, use_model=True)
    )
    assert best.trial.number in (1, 2)
    assert "set aside" in best.reason
    points = [insight_pb2.Point(parameters=point(x=0.5, y=0.5))]
    with pytest.raises(UnavailableError, match="set aside"):
        caller.call(caller.insight.Predict, insight_pb2.PredictRequest(name=BAD, points=points))


def test_who_allows_no_fallback_learns_why_there_is_no_model(caller: Caller) -> None:
    request = pb.AskTrialsRequest(
        parent=BAD,
        count=1,
        worker_id="w",
        request_id=new_id(),
        degrade=pb.AskTrialsRequest.DEGRADE_NEVER,
    )
    with pytest.raises(DeadlineError, match="set aside"):
        caller.call(caller.optimization.AskTrials, request)


def test_the_command_line_shows_that_a_study_is_set_aside(
    caller: Caller, tmp_path: Path
) -> None:
    line = CommandLine(tmp_path, address=caller.address)
    assert line.json("study", "show", "bad")["set_aside_until"] is not None
    assert line.json("study", "show", "good")["set_aside_until"] is None
    table = line.run("study", "show", "bad", "-o", "table").stdout
    assert "brought down compute too often" in " ".join(table.split())


def test_the_log_of_the_server_names_the_study(aside: Aside) -> None:
    (message,) = (text for text in aside.log if "is set aside" in text)
    assert get(aside.caller, BAD).uid in message
    assert "600 s" in message


def test_after_ten_minutes_the_model_gets_another_chance(tmp_path: Path) -> None:
    with with_a_bad_study(tmp_path) as aside:
        caller = aside.caller
        aside.clock.now_s += 599.0
        assert ask(caller, BAD).provenance.generator == "fallback"
        aside.clock.now_s += 2.0
        assert not get(caller, BAD).HasField("set_aside_until")
        assert ask(caller, BAD).provenance.generator == "fake"
        order(aside.orders, "crash", times=2)
        assert "twice in a row" in ask(caller, BAD).provenance.reason
        assert not get(caller, BAD).HasField("set_aside_until")
