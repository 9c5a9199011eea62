import threading
import time

import pytest

from bbopt.errors import InvalidError
from bbopt.trial import TrialState
from bbopt_client import AskResult, Client, Directive, Float, Progress, Study, Trial
from tests.unit.client.fake_server import FakeService


def square(trial: Trial) -> float:
    return (float(trial["x"]) - 0.3) ** 2


def test_optimize_makes_as_many_evaluations_as_it_was_told(study: Study) -> None:
    best = study.optimize(square, trials=7)

    trials = study.trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETED] * 7
    assert best is not None
    assert best.metrics["loss"] == min(trial.metrics["loss"] for trial in trials)


def test_optimize_ends_with_the_budget_of_the_study(client: Client) -> None:
    study = client.create_study("b", space=[Float("x", 0, 1)], objective="-loss", trials=5)

    study.optimize(square, trials=100)

    assert len(study.trials()) == 5


def test_optimize_wants_an_end(study: Study) -> None:
    with pytest.raises(InvalidError, match="no budget"):
        study.optimize(square)


def test_threads_evaluate_at_once_and_every_trial_once(
    study: Study, service: FakeService
) -> None:
    together = threading.Barrier(4)

    def objective(trial: Trial) -> float:
        together.wait(10)
        return square(trial)

    study.optimize(objective, trials=12, workers=4)

    assert service.n_told == dict.fromkeys(range(1, 13), 1)


def test_an_exception_fails_the_trial_and_the_run_goes_on(study: Study) -> None:
    def objective(trial: Trial) -> float:
        if trial.number == 2:
            raise RuntimeError("out of memory")
        return square(trial)

    study.optimize(objective, trials=4)

    states = [trial.state for trial in study.trials()]
    assert states == [TrialState.COMPLETED, TrialState.FAILED] + [TrialState.COMPLETED] * 2
    assert study.trial(2).message == "RuntimeError: out of memory"


@pytest.mark.parametrize("workers", [1, 3])
def test_an_objective_that_only_fails_ends_the_run_with_its_own_error(
    study: Study, workers: int
) -> None:
    def objective(trial: Trial) -> float:
        raise KeyError(f"no such column {trial.number}")

    with pytest.raises(KeyError, match="no such column"):
        study.optimize(objective, trials=100, workers=workers, max_failures=3)

    assert len(study.trials()) <= 3 + workers


def test_a_short_run_that_only_failed_ends_with_the_last_error(
    study: Study, caplog: pytest.LogCaptureFixture
) -> None:
    def objective(trial: Trial) -> float:
        raise KeyError(f"no such column {trial.number}")

    with pytest.raises(KeyError, match="no such column 2"):
        study.optimize(objective, trials=2)

    assert "trial 1 failed: KeyError" in caplog.text


def test_what_cannot_be_called_is_no_objective(study: Study) -> None:
    with pytest.raises(TypeError, match="cannot be called"):
        study.optimize(3, trials=2)  # type: ignore[arg-type]

    assert study.trials() == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"loss": float("-inf")}])
def test_a_result_that_is_not_finite_is_infeasible(study: Study, value: object) -> None:
    study.optimize(lambda _: value, trials=1)  # type: ignore[arg-type,return-value]

    assert study.trial(1).state is TrialState.INFEASIBLE


@pytest.mark.parametrize("value", ["0.5", {"loss": "0.5"}, [1, 2, 3], {"loss": 10**400}])
def test_a_result_that_is_no_number_is_named(study: Study, value: object) -> None:
    with pytest.raises(
        InvalidError, match=r"metrics\[loss\]: (must be a number|int too large)"
    ):
        study.optimize(lambda _: value, trials=1)  # type: ignore[arg-type,return-value]


def test_results_that_are_not_finite_spend_the_budget(client: Client) -> None:
    study = client.create_study("b", space=[Float("x", 0, 1)], objective="-loss", trials=7)

    assert study.optimize(lambda _: float("nan"), max_failures=3) is None

    assert [trial.state for trial in study.trials()] == [TrialState.INFEASIBLE] * 7


def test_an_objective_may_tell_its_trial_itself(study: Study) -> None:
    def objective(trial: Trial) -> None:
        if trial.number % 2:
            trial.tell_infeasible("does not converge")
        else:
            trial.tell_stopped(0.5)

    study.optimize(objective, trials=2)

    assert [trial.state for trial in study.trials()] == [
        TrialState.INFEASIBLE,
        TrialState.STOPPED,
    ]


def test_an_objective_that_returns_nothing_is_told_so(study: Study) -> None:
    with pytest.raises(TypeError, match="returned nothing"):
        study.optimize(lambda _: None, trials=3)

    assert study.trial(1).state is TrialState.QUEUED


def test_a_result_that_does_not_fit_ends_the_run_and_gives_the_trial_back(
    study: Study,
) -> None:
    with pytest.raises(InvalidError, match="accuracy"):
        study.optimize(lambda _: {"accuracy": 0.5}, trials=3)

    assert study.trial(1).state is TrialState.QUEUED
    assert len(study.trials()) == 1


def test_an_interrupt_gives_the_trial_back(study: Study, service: FakeService) -> None:
    def objective(trial: Trial) -> float:
        if trial.number == 2:
            raise KeyboardInterrupt
        return square(trial)

    with pytest.raises(KeyboardInterrupt):
        study.optimize(objective, trials=5)

    assert [trial.state for trial in study.trials()] == [
        TrialState.COMPLETED,
        TrialState.QUEUED,
    ]
    assert service.requests("ReleaseTrials")[0].reason == "KeyboardInterrupt"


def test_an_interrupt_gives_back_what_every_thread_holds(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = threading.Barrier(4)
    left = threading.Event()

    def objective(trial: Trial) -> float:
        running.wait(10)
        while not trial.should_stop():
            time.sleep(0.005)
        left.set()
        return 0.5

    join = threading.Thread.join

    def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
        if thread.name.startswith("bbopt-worker") and threading.current_thread() is main:
            running.wait(10)
            monkeypatch.setattr(threading.Thread, "join", join)
            raise KeyboardInterrupt
        join(thread, timeout)

    main = threading.current_thread()
    monkeypatch.setattr(threading.Thread, "join", interrupted)

    with pytest.raises(KeyboardInterrupt):
        study.optimize(objective, trials=100, workers=3)

    assert left.wait(10)
    assert [trial.state for trial in study.trials()] == [TrialState.QUEUED] * 3


def test_progress_counts_what_is_done_and_what_failed(study: Study) -> None:
    seen: list[Progress] = []
    called: list[int] = []

    def objective(trial: Trial) -> float:
        if trial.number == 2:
            raise RuntimeError
        return square(trial)

    study.optimize(
        objective,
        trials=3,
        progress=seen.append,
        callback=lambda _, trial: called.append(trial.number),
    )

    assert [(each.n_done, each.n_failed, each.n_total) for each in seen] == [
        (1, 0, 3),
        (2, 1, 3),
        (3, 1, 3),
    ]
    assert called == [1, 2, 3]


def test_a_trial_that_another_worker_finished_is_let_go(
    study: Study, service: FakeService
) -> None:
    def objective(trial: Trial) -> float:
        if trial.number == 1:
            trial.receive(Directive.CANCEL, "told by another")
        return 0.5

    study.optimize(objective, trials=2)

    assert service.n_told == {2: 1}


def test_a_late_result_that_comes_second_does_not_end_the_run(
    study: Study, service: FakeService
) -> None:
    def objective(trial: Trial) -> float:
        if trial.number == 1:
            trial.receive(Directive.LOST, "expired")
            study.tell(1, 0.25)
        return 0.5

    study.optimize(objective, trials=2)

    assert service.n_told == {1: 1, 2: 1}


def test_a_callback_that_raises_ends_the_run_with_its_error(study: Study) -> None:
    def callback(_: Study, trial: Trial) -> None:
        raise ZeroDivisionError(trial.number)

    with pytest.raises(ZeroDivisionError):
        study.optimize(square, trials=5, callback=callback)

    assert len(study.trials()) == 1


def test_a_run_that_waits_for_trials_of_its_own_process_names_them_once(
    client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = client.create_study("b", space=[Float("x", 0, 1)], objective="-loss", trials=2)
    (forgotten,) = study.ask()
    asked, ask = [0], study.ask

    def count_and_ask() -> AskResult:
        asked[0] += 1
        if asked[0] == 4:
            forgotten.tell(0.5)
        return ask(wait_s=0)

    monkeypatch.setattr(study, "ask", count_and_ask)
    study.optimize(square)

    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert warnings == [
        "waiting for results of projects/default/studies/b/trials/1, which this process "
        "asked for before: tell or release them"
    ]
