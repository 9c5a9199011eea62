"""The worker's loop with a study that needs no server, and real child processes."""

import os
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from bbopt.errors import (
    InvalidError,
    NotFoundError,
    TrialFinishedError,
    UnavailableError,
)
from bbopt.problem import Metric, Problem
from bbopt.space import Float, Space
from bbopt.trial import Completed, Failed, Infeasible, Outcome, Stage, Stopped, Value
from bbopt_client.results import AskReason, AskResult, StudyState
from bbopt_client.study import Study
from bbopt_client.trial import Directive, Trial
from bbopt_client.worker.command import CommandTemplate
from bbopt_client.worker.evaluation import Limits
from bbopt_client.worker.loop import WorkEnd, Worker, WorkPlan, WorkResult
from bbopt_client.worker.scraping import parse_metrics_option
from bbopt_client.worker.workspace import Layout
from tests.waiting import wait_until

PROBLEM = Problem(Space((Float("x", 0, 1),)), (Metric.parse("-loss"),))


@dataclass
class FakeTrial:
    study: "FakeStudy"
    number: int
    attempt: int = 1
    directive: Directive = Directive.NONE
    directive_reason: str = ""
    reports: list[int] = field(default_factory=list)
    stop_at: int | None = None
    stage: Stage | None = None

    @property
    def parameters(self) -> dict[str, float]:
        return {"x": self.number / 100}

    def report(self, step: int, metrics: dict[str, Value]) -> bool:
        assert set(metrics) == {"loss"}
        self.reports.append(step)
        if self.stop_at is not None and step >= self.stop_at:
            self.directive, self.directive_reason = Directive.STOP, "not promising"
        return self.directive is not Directive.NONE

    def release(self, reason: str) -> None:
        self.study.released.append((self.number, reason))

    def fail(self, message: str, *, retry: bool) -> None:
        self.study.told[self.number] = Failed(message, retry)


@dataclass
class FakeStudy:
    """Hands out a number of trials and then says that it is complete."""

    n_trials: int
    id: str = "s"
    problem: Problem = PROBLEM
    told: dict[int, Outcome] = field(default_factory=dict)
    released: list[tuple[int, str]] = field(default_factory=list)
    trials: list[FakeTrial] = field(default_factory=list)
    ask_errors: list[Exception] = field(default_factory=list)
    tell_error: Exception | None = None
    stop_at: int | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, n: int, *, wait_s: float) -> AskResult:
        assert (n, wait_s > 0) == (1, True)
        with self.lock:
            if self.ask_errors:
                raise self.ask_errors.pop(0)
            if len(self.trials) == self.n_trials:
                return AskResult((), AskReason.STUDY_NOT_ACTIVE, StudyState.COMPLETED)
            trial = FakeTrial(self, len(self.trials) + 1, stop_at=self.stop_at)
            self.trials.append(trial)
        return AskResult((cast(Trial, trial),), AskReason.COUNT_MET, StudyState.ACTIVE)

    def tell(self, trial: FakeTrial, outcome: Outcome) -> None:
        if self.tell_error is not None:
            raise self.tell_error
        with self.lock:
            self.told[trial.number] = outcome


@dataclass
class Bench:
    folder: Path
    said: list[str] = field(default_factory=list)

    def worker(self, study: FakeStudy, script: str, **changes: object) -> Worker:
        plan = SimpleNamespace(
            command=CommandTemplate.parse(
                ["sh", "-c", script], names=["x"], environment=os.environ
            ),
            metrics=parse_metrics_option("auto", frozenset({"loss"})),
            layout=Layout(self.folder / "work"),
            limits=Limits(grace_s=0.3, notice_s=0.1),
        )
        arguments = {**vars(plan), "server": "h:1", **changes}
        return Worker(
            cast(Study, study),
            WorkPlan(**arguments),
            say=self.said.append,
            environment={**os.environ, "OUT": str(self.folder)},
        )

    def run(self, study: FakeStudy, script: str, **changes: object) -> WorkResult:
        return self.worker(study, script, **changes).run()

    def run_and_signal(
        self, study: FakeStudy, script: str, *numbers: signal.Signals, **changes: object
    ) -> WorkResult:
        """Run, and signal this process once the program has made a file called ready."""

        def send() -> None:
            wait_until((self.folder / "ready").exists)
            for number in numbers:
                os.kill(os.getpid(), number)
                time.sleep(0.05)

        sender = threading.Thread(target=send)
        sender.start()
        result = self.run(study, script, **changes)
        sender.join()
        return result


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


HOLD = "touch $OUT/ready; sleep 30"


def test_a_worker_evaluates_until_the_study_is_finished(bench: Bench) -> None:
    study = FakeStudy(3)
    result = bench.run(study, "echo loss=$BBOPT_PARAM_X")
    assert result.end is WorkEnd.FINISHED
    assert result.tally.n_succeeded == 3
    losses = {
        number: outcome.measurement.metrics["loss"].value
        for number, outcome in study.told.items()
        if isinstance(outcome, Completed)
    }
    assert losses == {1: 0.01, 2: 0.02, 3: 0.03}


def test_a_worker_takes_as_many_trials_as_it_was_told(bench: Bench) -> None:
    study = FakeStudy(100)
    result = bench.run(study, "echo loss=1", count=4, parallel=3)
    assert result.end is WorkEnd.COUNT_REACHED
    assert sorted(study.told) == [1, 2, 3, 4]


def test_slots_run_at_the_same_time(bench: Bench) -> None:
    study = FakeStudy(2)
    script = (
        "touch $OUT/$BBOPT_TRIAL; i=0;"
        "while [ ! -e $OUT/$((3 - BBOPT_TRIAL)) ] && [ $i -lt 500 ]; do sleep 0.01; i=$((i+1));"
        " done; [ $i -lt 500 ] && echo loss=1"
    )
    assert bench.run(study, script, parallel=2).tally.n_succeeded == 2


def test_three_failures_in_the_first_minute_are_enough(bench: Bench) -> None:
    study = FakeStudy(100)
    result = bench.run(study, "exit 1")
    assert result.end is WorkEnd.FLAPPING
    assert len(study.told) == 3
    assert all(isinstance(outcome, Failed) for outcome in study.told.values())


def test_failures_among_successes_are_not_flapping(bench: Bench) -> None:
    script = "[ $((BBOPT_TRIAL % 3)) = 0 ] && exit 1; echo loss=1"
    result = bench.run(FakeStudy(12), script)
    assert (result.end, result.tally.n_failed) == (WorkEnd.FINISHED, 4)


def test_infeasible_points_are_no_failures(bench: Bench) -> None:
    study = FakeStudy(5)
    result = bench.run(study, 'echo \'::bbopt::{"infeasible": "no"}\'; exit 1')
    assert result.end is WorkEnd.FINISHED
    assert all(isinstance(outcome, Infeasible) for outcome in study.told.values())


def test_a_worker_may_be_told_not_to_give_up(bench: Bench) -> None:
    result = bench.run(FakeStudy(7), "exit 1", gives_up=False)
    assert (result.end, result.tally.n_failed) == (WorkEnd.FINISHED, 7)


def test_a_command_that_cannot_run_gives_its_trial_back(bench: Bench) -> None:
    study = FakeStudy(3)
    template = CommandTemplate.parse(["/no/such/program"], names=["x"], environment={})
    result = bench.run(study, "", command=template)
    assert result.end is WorkEnd.BROKEN
    assert "/no/such/program" in result.message
    assert (study.told, [number for number, _ in study.released]) == ({}, [1])


@pytest.mark.parametrize(
    ("number", "end"),
    [
        (signal.SIGTERM, WorkEnd.PREEMPTED),
        (signal.SIGUSR1, WorkEnd.PREEMPTED),
        (signal.SIGINT, WorkEnd.INTERRUPTED),
    ],
)
def test_a_signal_gives_the_trials_back(
    bench: Bench, number: signal.Signals, end: WorkEnd
) -> None:
    study = FakeStudy(9)
    result = bench.run_and_signal(study, HOLD, number, parallel=2)
    assert result.end is end
    assert study.told == {}
    assert sorted(number for number, _ in study.released) == [
        trial.number for trial in study.trials
    ]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_signal_does_not_wait_for_the_grace(bench: Bench) -> None:
    study = FakeStudy(9)
    started = time.monotonic()
    bench.run_and_signal(
        study,
        "trap '' TERM; touch $OUT/ready; while :; do sleep 0.05; done",
        signal.SIGTERM,
        signal.SIGTERM,
        limits=Limits(grace_s=60),
    )
    assert time.monotonic() - started < 20
    assert len(study.released) == 1


def test_a_preempted_trial_fails_where_that_is_asked_for(bench: Bench) -> None:
    study = FakeStudy(9)
    limits = Limits(grace_s=0.3, releases_on_preempt=False)
    bench.run_and_signal(study, HOLD, signal.SIGTERM, limits=limits)
    assert study.told == {1: Failed("the worker was told to go by SIGTERM", retryable=True)}


def test_an_order_to_stop_ends_the_program_and_its_measurement_is_told(bench: Bench) -> None:
    study = FakeStudy(1, stop_at=1)
    script = 'for i in 0 1; do echo "::bbopt::{\\"step\\": $i, \\"loss\\": $i}"; done; sleep 30'
    bench.run(study, script)
    told = study.told[1]
    assert isinstance(told, Stopped)
    assert told.measurement.metrics == {"loss": Value(1.0)}
    assert study.trials[0].reports == [0, 1]


@pytest.mark.parametrize("directive", [Directive.CANCEL, Directive.LOST])
def test_a_trial_that_is_no_longer_ours_is_not_told(bench: Bench, directive: Directive) -> None:
    study = FakeStudy(1)

    def lose() -> None:
        wait_until((bench.folder / "ready").exists)
        study.trials[0].directive = directive

    loser = threading.Thread(target=lose)
    loser.start()
    result = bench.run(study, HOLD)
    loser.join()
    assert (study.told, study.released) == ({}, [])
    assert result.end is WorkEnd.FINISHED


def test_a_server_that_is_away_is_waited_for(bench: Bench) -> None:
    study = FakeStudy(1, ask_errors=[UnavailableError("away"), UnavailableError("away")])
    assert bench.run(study, "echo loss=1").end is WorkEnd.FINISHED
    assert len(study.told) == 1
    assert sum("away" in line for line in bench.said) == 1


def test_a_server_that_stays_away_is_given_up(bench: Bench) -> None:
    study = FakeStudy(1, ask_errors=[UnavailableError("away") for _ in range(1000)])
    result = bench.run(study, "echo loss=1", patience_s=0.0)
    assert (result.end, result.message) == (WorkEnd.UNREACHABLE, "away")


def test_a_deleted_study_ends_the_work(bench: Bench) -> None:
    study = FakeStudy(1, ask_errors=[NotFoundError("no study s")])
    assert bench.run(study, "echo loss=1").end is WorkEnd.GONE


def test_an_unexpected_error_is_not_swallowed(bench: Bench) -> None:
    study = FakeStudy(1, ask_errors=[RuntimeError("bug")])
    with pytest.raises(RuntimeError, match="bug"):
        bench.run(study, "echo loss=1")


def test_a_result_that_the_server_refuses_fails_the_trial(bench: Bench) -> None:
    study = FakeStudy(1, tell_error=InvalidError.of("metrics[loss]", "sd is missing"))
    bench.run(study, "echo loss=1")
    told = study.told[1]
    assert isinstance(told, Failed)
    assert not told.retryable
    assert "sd is missing" in told.message


@pytest.mark.parametrize("error", [TrialFinishedError("done"), UnavailableError("away")])
def test_a_tell_that_does_not_arrive_does_not_end_the_work(
    bench: Bench, error: Exception
) -> None:
    assert bench.run(FakeStudy(2, tell_error=error), "echo loss=1").end is WorkEnd.FINISHED


def test_a_finished_study_is_waited_at_when_kept_alive(bench: Bench) -> None:
    study = FakeStudy(1)
    result = bench.run_and_signal(
        study, "touch $OUT/ready; echo loss=1", signal.SIGTERM, keep_alive=True
    )
    assert result.end is WorkEnd.PREEMPTED


def test_only_the_newest_directories_are_kept(bench: Bench) -> None:
    bench.run(FakeStudy(5), "echo loss=1", n_kept=2)
    kept = sorted(path.name for path in (bench.folder / "work").iterdir())
    assert kept == ["trial-000004", "trial-000005"]


def test_progress_is_one_line_a_trial(bench: Bench) -> None:
    bench.run(FakeStudy(2), "[ $BBOPT_TRIAL = 1 ] && echo loss=1 || { echo no >&2; exit 3; }")
    assert bench.said[0].startswith("trial 1 completed: loss=1 (")
    assert bench.said[1].startswith("trial 2 failed: exit code 3 ... no (")
