"""``Rungs``: what each configuration measured at each rung of the fidelity.

Folded from the log, by the strategy that promotes and by the server that stops. A *rung* is a
position in ``Fidelity.rungs``. A report counts at the highest rung that its step has reached:
the smallest step counts, and of the same step the last report. What a trial measured when it
ended counts at the rung that it was to reach, unless it was told to stop before.
"""

import math
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias, assert_never

from bbopt.errors import SpecError
from bbopt.problem import Problem
from bbopt.trial import (
    Abandoned,
    Amended,
    Asked,
    Completed,
    Enqueued,
    Event,
    Failed,
    Infeasible,
    Leased,
    Measurement,
    NewTrial,
    Outcome,
    Reported,
    Requeued,
    Stage,
    Stopped,
    StopRequested,
    Told,
)

Score: TypeAlias = tuple[float, float]
"""Larger is better: how little constraints are missed, then the objective, maximised."""

WORST: Final[Score] = (-math.inf, -math.inf)
"""Of a point that cannot be evaluated: it counts at its rung and is never promoted."""


@dataclass(slots=True)
class Run:
    """One trial's part of the evaluation of its configuration."""

    number: int
    configuration: int
    fidelity: int
    """Steps that the trial is to reach."""
    base: int
    """Rung that the configuration had reached before; -1: none."""
    reported: dict[int, tuple[int, Score]] = field(default_factory=dict)
    """By rung: the step that counts there, and its score."""
    final: dict[int, Score] = field(default_factory=dict)
    """At most one rung and its score: how the trial ended."""
    is_stopping: bool = False
    can_be_resumed: bool = False
    """It ended with data."""

    def scores(self) -> dict[int, Score]:
        """Return what counts at each rung."""
        return {rung: score for rung, (_, score) in self.reported.items()} | self.final


class Rungs:
    """The rungs of one study, as of the last event that was folded."""

    def __init__(self, problem: Problem) -> None:
        """Start with empty rungs.

        Args:
            problem: With a fidelity.

        Raises:
            SpecError: The problem has none.
        """
        if problem.fidelity is None:
            raise SpecError.of("fidelity", "is needed")
        self.steps = problem.fidelity.rungs
        """Steps of each rung, ascending."""
        self._eta = problem.fidelity.eta
        self._problem = problem
        self._runs: dict[int, Run] = {}
        self._latest: dict[int, Run] = {}
        """By configuration."""
        self._scores: list[dict[int, Score]] = [{} for _ in self.steps]
        """Of each rung, by configuration."""

    # ------------------------------------------------------------------ what there is

    @property
    def top(self) -> int:
        """The last rung: a full evaluation."""
        return len(self.steps) - 1

    def run(self, number: int) -> Run | None:
        """Return what is known of a trial; not to be changed."""
        return self._runs.get(number)

    def scores(self, rung: int) -> dict[int, Score]:
        """Return what counts at a rung, by configuration."""
        return dict(self._scores[rung])

    def rung_of(self, step: int) -> int:
        """Return the highest rung that a step has reached; -1: none."""
        return bisect_right(self.steps, step) - 1

    def highest(self, configuration: int) -> int:
        """Return the highest rung where a configuration has a result; -1: none."""
        rungs = range(self.top, -1, -1)
        return next((k for k in rungs if configuration in self._scores[k]), -1)

    def best(self, rung: int, *, at_least: int = 0) -> list[int]:
        """List the best ``1 / eta`` of a rung's configurations, the best first.

        Args:
            rung: Where.
            at_least: How many to list even if that is more than ``1 / eta``.
        """
        scores = self._scores[rung]
        n = max(len(scores) // self._eta, at_least)
        able = [each for each, score in scores.items() if score > WORST]
        # Of equals the older configuration: it has waited longer.
        return sorted(able, key=lambda each: (_descending(scores[each]), each))[:n]

    def promotable(self, taken: Collection[int] = (), *, at_least: int = 0) -> Run | None:
        """Choose what to resume: the first of ``all_promotable`` that is not taken.

        Args:
            taken: Configurations that are promoted already though the log does not say so yet.
            at_least: As in ``best``.
        """
        runs = self.all_promotable(at_least=at_least)
        return next((run for run in runs if run.configuration not in taken), None)

    def all_promotable(self, *, at_least: int = 0) -> Iterator[Run]:
        """Go through what can be resumed: from the highest rung down, and there from the best.

        A configuration is promoted from the rung where its last trial ended with data, once.
        One whose promotion failed for good, or was stopped before it got to the next rung, is
        left alone. Each rung is sorted when it is come to; nothing must be folded meanwhile.

        Args:
            at_least: As in ``best``.
        """
        for rung in range(self.top - 1, -1, -1):
            for configuration in self.best(rung, at_least=at_least):
                run = self._latest[configuration]
                is_waiting = run.can_be_resumed and rung in run.scores()
                if is_waiting and self.highest(configuration) == rung:
                    yield run

    # ------------------------------------------------------------------ what happens

    def fold(self, events: Iterable[Event | None]) -> None:
        """Take over what happened, in log order; ``None`` is an event of the service."""
        for event in events:
            match event:
                case Asked(trials=trials):
                    for trial in trials:
                        self._open(trial)
                case Enqueued(trial=trial):
                    self._open(trial)
                case Reported(number=number, measurement=measurement):
                    self._report(self._runs[number], measurement)
                case StopRequested(number=number):
                    self._runs[number].is_stopping = True
                case Requeued(number=number):
                    self._runs[number].is_stopping = False
                case Told(number=number, outcome=outcome):
                    self._end(self._runs[number], outcome)
                case Amended(number=number, outcome=outcome):
                    self._amend(self._runs[number], outcome)
                case Leased() | None:
                    pass
                case _:
                    assert_never(event)

    def _open(self, trial: NewTrial) -> None:
        stage = trial.stage or Stage(self.steps[-1])
        configuration = stage.configuration or trial.number
        base = self.highest(configuration)
        run = Run(trial.number, configuration, stage.fidelity, base)
        self._runs[trial.number] = self._latest[configuration] = run

    def _report(self, run: Run, measurement: Measurement) -> None:
        score = self._score(measurement)
        if measurement.step is None or score is None:
            return
        rung = self.rung_of(measurement.step)
        # A run that begins anew, without a checkpoint, repeats what is known already.
        if rung <= run.base:
            return
        counted = run.reported.get(rung)
        if counted is None or measurement.step <= counted[0]:
            run.reported[rung] = (measurement.step, score)
            self._publish(run)

    def _end(self, run: Run, outcome: Outcome) -> None:
        run.can_be_resumed = isinstance(outcome, Completed | Stopped)
        run.final = {}
        match outcome:
            case Completed(measurement) if not run.is_stopping:
                step = run.fidelity if measurement.step is None else measurement.step
                score, rung = self._score(measurement), self.rung_of(step)
                if score is not None and rung > run.base:
                    run.final = {rung: score}
            case Completed(measurement) | Stopped(measurement):
                self._report(run, measurement)
            case Infeasible():
                rung = max([run.base, *run.reported]) + 1
                run.final = {min(rung, self.top): WORST}
            case Failed() | Abandoned():
                pass
            case _:
                assert_never(outcome)
        self._publish(run)

    def _amend(self, run: Run, outcome: Outcome) -> None:
        if isinstance(outcome, Failed | Abandoned):
            self._withdraw(run)
            run.reported = {}
        self._end(run, outcome)
        measurement = getattr(outcome, "measurement", None)
        score = None if measurement is None else self._score(measurement)
        if run.can_be_resumed and run.reported and not run.final and score is not None:
            # A corrected result that does not say its step is about the last one.
            run.final = {max(run.reported): score}
            self._publish(run)

    def _publish(self, run: Run) -> None:
        self._withdraw(run)
        for rung, score in run.scores().items():
            self._scores[rung][run.configuration] = score

    def _withdraw(self, run: Run) -> None:
        # Above its base a configuration has only what this run measured there.
        for scores in self._scores[run.base + 1 :]:
            scores.pop(run.configuration, None)

    def _score(self, measurement: Measurement) -> Score | None:
        objective = self._problem.objective
        measured = measurement.metrics.get(objective.name)
        if measured is None or not math.isfinite(measured.value):
            return None
        missed = math.fsum(
            constraint.violation(measurement.metrics[constraint.name].value)
            for constraint in self._problem.constraints
            if constraint.name in measurement.metrics
        )
        return -missed, measured.value if objective.is_maximized else -measured.value


def _descending(score: Score) -> Score:
    return -score[0], -score[1]
