"""The best trial so far, exactly as measured."""

from collections.abc import Sequence
from dataclasses import dataclass

from bbopt.problem import Goal, Problem
from bbopt.trial import Completed, Measurement, Stopped
from bbopt_server.storage.store import Store, StudyRow, TrialRow
from bbopt_server.studies.records import outcome_from_bytes

_PAGE = 500
_MEASURED = ("COMPLETED", "STOPPED")


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
