"""What is known of a study's optimum: the trial to deploy, and what the model predicts."""

from collections.abc import Sequence
from dataclasses import dataclass

from bbopt.errors import (
    NumericalError,
    PreconditionError,
    RetryableError,
    UnsupportedError,
)
from bbopt.problem import Goal, Problem
from bbopt.rpc.names import StudyName
from bbopt.rpc.points import point_from_message
from bbopt.rpc.v1 import insight_service_pb2
from bbopt.rpc.violations import Violations
from bbopt.trial import Completed, Measurement, Stopped
from bbopt_server.compute import Compute, StudyLog
from bbopt_server.storage.store import Store, StudyRow, TrialRow
from bbopt_server.studies.answers import Best, TrialView
from bbopt_server.studies.log_reading import study_log
from bbopt_server.studies.records import SpecCache, outcome_from_bytes
from bbopt_server.studies.trials import read_trial

_PAGE = 500
_MEASURED = ("COMPLETED", "STOPPED")


_NO_ADVICE = (RetryableError, NumericalError, UnsupportedError, PreconditionError)
"""Why a model may have nothing to recommend, while measurements do."""


class Insight:
    """Answers about a study that change nothing."""

    def __init__(self, store: Store, compute: Compute, specs: SpecCache) -> None:
        self._store = store
        self._compute = compute
        self._specs = specs

    async def best(self, name: StudyName, study: StudyRow, *, uses_model: bool) -> Best:
        """Find the trial to deploy: as measured, or by the model's mean."""
        why_measured = "the best feasible trial as measured"
        if uses_model:
            try:
                recommended = await self._compute.recommend(self._log(study))
            except _NO_ADVICE as error:
                why_measured = f"{why_measured}, because the model cannot say: {error}"
            else:
                if (number := recommended.number) is not None:
                    view = await self._store.read(lambda tx: read_trial(tx, name, number))
                    return Best(view, view.row.feasible is not False, recommended.reason)
                why_measured = f"{why_measured}, because the model: {recommended.reason}"
        best = await measured_best(self._store, study, self._specs.spec_of(study).problem)
        if best is None:
            return Best(None, False, "no trial has a complete result yet")
        if best.is_feasible:
            return Best(TrialView(name, best.row), True, why_measured)
        reason = "no trial is feasible; this one is nearest to it"
        return Best(TrialView(name, best.row), False, reason)

    async def predict(
        self, study: StudyRow, points: Sequence[insight_service_pb2.Point]
    ) -> insight_service_pb2.PredictResponse:
        """Predict every metric at points.

        Raises:
            InvalidError: The space does not allow some of them.
        """
        space = self._specs.spec_of(study).problem.space
        violations = Violations()
        for position, point in enumerate(points):
            with violations.within(f"points[{position}]"):
                point_from_message(point.parameters, space)
        violations.check()
        return await self._compute.predict(self._log(study), points)

    def _log(self, study: StudyRow) -> StudyLog:
        return study_log(self._store, study, self._specs.spec_of(study))


@dataclass(frozen=True, slots=True)
class Ranked:
    """A measured trial and what decides its rank: smaller is better."""

    row: TrialRow
    is_feasible: bool
    rank: tuple[float, float]
    """How far it is from feasible, then its objective, negated when maximised."""


async def measured_best(store: Store, study: StudyRow, problem: Problem) -> Ranked | None:
    """Find the best feasible trial, or the one that is nearest to feasible.

    Pages through the trials so that commits go on in between. Of equals the first wins.
    """
    best: Ranked | None = None
    after = 0
    while True:
        rows: Sequence[TrialRow] = await store.read(
            lambda tx, after=after: tx.trials(  # type: ignore[misc]
                study.key, states=_MEASURED, after_number=after, limit=_PAGE
            ),
            is_long=True,
        )
        for row in rows:
            ranked = rank(row, problem)
            if ranked is not None and (best is None or ranked.rank < best.rank):
                best = ranked
        if len(rows) < _PAGE:
            return best
        after = rows[-1].number


def rank(row: TrialRow, problem: Problem) -> Ranked | None:
    """Rank a trial; ``None`` if its objective or a constraint was not measured."""
    if row.outcome is None:
        return None
    outcome = outcome_from_bytes(row.outcome)
    if not isinstance(outcome, Completed | Stopped):
        return None
    needed = [problem.objective.name, *(each.name for each in problem.constraints)]
    if any(name not in outcome.measurement.metrics for name in needed):
        return None
    objective = outcome.measurement.metrics[problem.objective.name].value
    sign = 1.0 if problem.objective.goal is Goal.MINIMIZE else -1.0
    violation = _violation(outcome.measurement, problem)
    return Ranked(row, violation == 0, (violation, sign * objective))


def _violation(measurement: Measurement, problem: Problem) -> float:
    """Add up how far each constraint is exceeded, relative to the size of its bound."""
    total = 0.0
    for metric in problem.constraints:
        value = measurement.metrics[metric.name].value
        for bound, excess in (
            (metric.lower, None if metric.lower is None else metric.lower - value),
            (metric.upper, None if metric.upper is None else value - metric.upper),
        ):
            if bound is not None and excess is not None and excess > 0:
                total += excess / max(1.0, abs(bound))
    return total
