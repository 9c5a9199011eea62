"""Runs a function over a study: threads that ask, evaluate and tell until the end."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from bbopt.errors import BboptError, InvalidError, TrialFinishedError
from bbopt.trial import TrialState
from bbopt.trial.told import whole_number
from bbopt_client.heartbeat import Directive
from bbopt_client.outcomes import Result, is_finite
from bbopt_client.results import AskReason
from bbopt_client.trial import Trial, describe

if TYPE_CHECKING:
    from bbopt_client.study import Study

logger = logging.getLogger("bbopt.client")

Objective: TypeAlias = Callable[[Trial], Result | None]
"""Evaluates a trial; returns what ``Trial.tell`` takes, or ``None`` if it told by itself."""

_POLL_S = 0.2
"""How soon an interrupt is noticed while threads work."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come, after an evaluation."""

    trial: Trial
    """The trial that was just evaluated."""
    n_done: int
    """Evaluations that ended in this run, failed ones included."""
    n_failed: int
    n_total: int | None
    """Evaluations to make, where a number was given."""


def optimize(
    study: "Study",
    objective: Objective,
    *,
    n_trials: int | None,
    n_workers: int,
    callback: "Callable[[Study, Trial], None] | None",
    progress: Callable[[Progress], None] | None,
    max_failures: int,
) -> Trial | None:
    """Evaluate a function over a study; see ``Study.optimize``."""
    budget = study.problem.budget
    if n_trials is None and budget.trials is None and budget.cost is None:
        raise InvalidError.of("trials", "must be given: the study has no budget")
    n_trials = None if n_trials is None else whole_number("trials", n_trials, 0)
    n_workers = whole_number("workers", n_workers, 1)
    max_failures = whole_number("max_failures", max_failures, 1)
    if not callable(objective):
        raise TypeError(f"the objective cannot be called: {objective!r}")
    run = _Run(study, objective, n_trials, callback, progress, max_failures)
    if n_workers == 1:
        run.work()
    else:
        _work_in_threads(run, n_workers)
    if (error := run.error or run.only_failure) is not None:
        raise error
    return study.best()


def _work_in_threads(run: "_Run", n_workers: int) -> None:
    threads = [
        threading.Thread(target=run.work, name=f"bbopt-worker-{position}", daemon=True)
        for position in range(n_workers)
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(_POLL_S)
    except BaseException as error:
        run.give_back(describe(error))
        raise


class _Run:
    """One run: the counts that its threads share."""

    def __init__(
        self,
        study: "Study",
        objective: Objective,
        n_trials: int | None,
        callback: "Callable[[Study, Trial], None] | None",
        progress: Callable[[Progress], None] | None,
        max_failures: int,
    ) -> None:
        self._study = study
        self._objective = objective
        self._n_trials = n_trials
        self._callback = callback
        self._progress = progress
        self._max_failures = max_failures
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._running: dict[int, Trial] = {}
        self._n_begun = 0
        self._n_done = 0
        self._n_failed = 0
        self._n_failed_in_a_row = 0
        self._is_over = False
        self._has_warned = False
        self.error: BaseException | None = None
        """What ended the run early."""
        self.only_failure: Exception | None = None
        """The last exception of the objective, if there was never anything else."""

    def work(self) -> None:
        """Ask, evaluate, tell, until there is nothing left to do."""
        try:
            while self._begin():
                trial = self._next()
                if trial is None:
                    return
                self._evaluate(trial)
        except Exception as error:
            self._end(error)
        except BaseException as error:
            self.give_back(describe(error))
            raise

    def give_back(self, reason: str) -> None:
        """End the run and give every trial under way back to the server."""
        with self._lock:
            self._is_over = True
            running = list(self._running.values())
        for trial in running:
            try:
                trial.receive(Directive.LOST, reason)
                trial.release(reason)
            except BboptError as error:
                logger.warning("trial %d is left to its lease: %s", trial.number, error)

    def _begin(self) -> bool:
        with self._lock:
            if self._is_over or self._n_begun == self._n_trials:
                return False
            self._n_begun += 1
            return True

    def _next(self) -> Trial | None:
        """Wait for a trial; ``None`` when there will be none."""
        while not self._is_over:
            answer = self._study.ask()
            if answer.is_finished:
                return None
            if answer.reason is AskReason.WAITING_FOR_RESULTS:
                self._warn_of_own()
            if answer:
                with self._lock:
                    self._running[answer[0].number] = answer[0]
                return answer[0]
        return None

    def _warn_of_own(self) -> None:
        """Name, once, the trials that nobody but this process can end."""
        held = self._study.session.heartbeats.held(str(self._study.name))
        with self._lock:
            ours = {trial.name for trial in self._running.values()}
            others = [trial.name for trial in held if trial.name not in ours]
            is_news = bool(others) and not self._has_warned
            self._has_warned = self._has_warned or is_news
        if is_news:
            logger.warning(
                "waiting for results of %s, which this process asked for before: "
                "tell or release them",
                ", ".join(others),
            )

    def _evaluate(self, trial: Trial) -> None:
        failure: Exception | None = None
        try:
            result = self._objective(trial)
        except Exception as error:
            failure, result = error, None
            logger.warning("trial %d failed: %s", trial.number, describe(error))
            logger.debug("trial %d failed", trial.number, exc_info=True)
        if self._is_over and not trial.is_held:
            return  # Given back.
        if trial.directive is Directive.CANCEL:
            self._note(trial, None)
            return
        if failure is not None:
            trial.fail(describe(failure), retry=False)
        elif result is not None:
            _tell(trial, result)
        elif trial.is_held:
            raise TypeError("the objective returned nothing and did not tell the trial")
        self._note(trial, failure)

    def _note(self, trial: Trial, failure: Exception | None) -> None:
        """Count an evaluation; raise what the objective raised where it is too often."""
        with self._lock:
            self._running.pop(trial.number, None)
            self._n_done += 1
            is_failed = trial.state in (TrialState.FAILED, TrialState.QUEUED)
            self._n_failed += is_failed
            self._n_failed_in_a_row = self._n_failed_in_a_row + 1 if failure else 0
            self.only_failure = failure if self._n_failed_in_a_row == self._n_done else None
            is_flapping = self._n_failed_in_a_row >= self._max_failures
            progress = Progress(trial, self._n_done, self._n_failed, self._n_trials)
        with self._telling:
            if self._callback is not None:
                self._callback(self._study, trial)
            if self._progress is not None:
                self._progress(progress)
        if is_flapping and failure is not None:
            failure.add_note(f"{self._max_failures} evaluations failed in a row.")
            raise failure

    def _end(self, error: BaseException) -> None:
        with self._lock:
            self._is_over = True
            self.error = self.error or error
        self.give_back(describe(error))


def _tell(trial: Trial, result: Result) -> None:
    """Tell a result; numbers that are not finite are the point's fault."""
    try:
        if is_finite(result):
            trial.tell(result)
        else:
            trial.tell_infeasible(f"the objective returned {result!r}")
    except TrialFinishedError as error:
        # The lease was lost meanwhile, and whoever got the trial was quicker.
        logger.info("trial %d: %s", trial.number, error)
