"""Studies whose data break Gaussian processes, told in a few words each, and what must hold for
whatever the default strategy answers to them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bbopt import Float, Metric, MetricKind, Noise, Optimizer, Problem, Space
from bbopt.problem import Goal
from bbopt.specs import GPSpec, Quality
from bbopt.trial import (
    Asked,
    Completed,
    Enqueued,
    Event,
    Failed,
    Infeasible,
    Measurement,
    NewTrial,
    Outcome,
    Provenance,
    Suggestion,
    Told,
    Value,
)

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, Array], Array]

LARGEST: Final = float(np.finfo(np.float64).max)
SMALLEST: Final = 5e-324


# ---------------------------------------------------------------------- where trials lie


def _with_repeats(rng: np.random.Generator, X: Array) -> Array:
    """Return a tenth of the points, each about ten times."""
    return X[rng.integers(max(1, len(X) // 10), size=len(X))]


ROWS: Final[Mapping[str, Draw]] = {
    "spread": lambda _, X: X,
    "repeated": _with_repeats,
    "all the same": lambda _, X: np.broadcast_to(X[:1], X.shape),
    "nearly the same": lambda _, X: np.clip(X[:1] + 1e-9 * (X - 0.5), 0.0, 1.0),
    "on a line": lambda _, X: np.broadcast_to(X[:, :1], X.shape),
    "in corners": lambda _, X: np.round(X),
    "in two clusters": lambda rng, X: np.clip(
        rng.integers(2, size=(len(X), 1)) + 1e-6 * (X - 0.5), 0.0, 1.0
    ),
}

# ---------------------------------------------------------------------- what they measured


def _smooth(_: np.random.Generator, X: Array) -> Array:
    y: Array = np.sin(5.0 * X).sum(axis=1) + X[:, 0]
    return y


def _noise(rng: np.random.Generator, X: Array) -> Array:
    return rng.standard_normal(len(X))


def _outlying(rng: np.random.Generator, X: Array) -> Array:
    y = _smooth(rng, X) + 0.1 * _noise(rng, X)
    y[rng.integers(len(y))] += 1e6 * rng.choice((-1.0, 1.0))
    return y


def _mixed(rng: np.random.Generator, X: Array) -> Array:
    return rng.choice((1e300, -1e300, 1e-300, -1e-300, 1.0, 0.0), size=len(X))


def _extreme(rng: np.random.Generator, X: Array) -> Array:
    ends = (LARGEST, -LARGEST, 1e308, -1e308, SMALLEST, -SMALLEST, 2.3e-308, 0.0)
    return rng.choice(ends, size=len(X))


VALUES: Final[Mapping[str, Draw]] = {
    "noise-free": _smooth,
    "noise only": _noise,
    "noisy": lambda rng, X: _smooth(rng, X) + 0.3 * _noise(rng, X),
    "constant": lambda _, X: np.full(len(X), 3.7),
    "zero": lambda _, X: np.zeros(len(X)),
    "constant but for one": lambda _, X: np.where(np.arange(len(X)) == 0, 1.0, 0.0),
    "constant but for rounding": lambda rng, X: 1.0 + 1e-16 * _noise(rng, X),
    "two values": lambda rng, X: rng.choice((0.0, 1.0), size=len(X)),
    "huge": lambda rng, X: 1e300 * _smooth(rng, X) / X.shape[1],
    "tiny": lambda rng, X: 1e-300 * _smooth(rng, X),
    "denormal": lambda rng, X: SMALLEST * np.round(100.0 * rng.random(len(X))),
    "huge and tiny": _mixed,
    "at the ends of the range": _extreme,
    "one outlier of a million sd": _outlying,
    "far from zero": lambda rng, X: 1e15 + _smooth(rng, X),
    "over all magnitudes": lambda rng, X: np.exp(rng.uniform(-600.0, 600.0, len(X))),
    "not finite": lambda rng, X: rng.choice((np.inf, -np.inf, np.nan, 1.0, 2.0), size=len(X)),
    "a cliff": lambda _, X: np.where(X[:, 0] > 0.5, 1e12, -1.0),
}

SDS: Final[Sequence[float | None]] = (None, 0.0, 1e-300, 1e-3, 1.0, 1e6, 1e300)
"""Reported standard deviations; ``None`` reports none."""

# ---------------------------------------------------------------------- cases


@dataclass(frozen=True, slots=True)
class Case:
    """A study in words; ``seed`` fills in the numbers."""

    n: int
    """Finished trials."""
    d: int = 2
    rows: str = "spread"
    """A key of ``ROWS``."""
    values: str = "noise-free"
    """A key of ``VALUES``: what the objective measures."""
    constraint: str | None = None
    """Likewise, of a constraint that is feasible up to 0.5; ``None``: there is none."""
    noise: Noise = Noise.LEARNED
    sd: float | None = None
    """Reported with every value."""
    crashed: float = 0.0
    """Share of points that cannot be evaluated."""
    failed: float = 0.0
    """Share of trials whose worker failed."""
    n_pending: int = 0
    """Unfinished trials at points that are finished as well."""
    n_asked: int = 1
    quality: Quality = Quality.BALANCED
    seed: int = 0


def problem_of(case: Case) -> Problem:
    metrics = [Metric("loss", goal=Goal.MINIMIZE, noise=case.noise)]
    if case.constraint is not None:
        kind = MetricKind.CONSTRAINT
        metrics.append(Metric("load", kind, lower=-1e308, upper=0.5, noise=case.noise))
    space = Space(tuple(Float(f"x{i}", 0.0, 1.0) for i in range(case.d)))
    return Problem(space, tuple(metrics))


def events_of(case: Case) -> list[Event]:
    """Write the log of a study whose points were enqueued; the last ones are still pending.

    A pending point repeats a finished one.
    """
    rng = np.random.default_rng(case.seed)
    X = ROWS[case.rows](rng, rng.random((case.n, case.d)))
    columns = {"loss": VALUES[case.values](rng, X)}
    if case.constraint is not None:
        columns["load"] = VALUES[case.constraint](rng, X)
    rows = np.concatenate([X, X[rng.integers(case.n, size=case.n_pending)]])
    events: list[Event] = []
    for number, row in enumerate(rows, 1):
        point = {f"x{i}": float(value) for i, value in enumerate(row)}
        events.append(Enqueued(NewTrial(number, point, Provenance("enqueued"))))
    for index in range(case.n):
        values = {name: _value(case, column[index]) for name, column in columns.items()}
        events.append(Told(index + 1, _outcome(case, rng, values)))
    return events


def _value(case: Case, value: float) -> Value:
    return Value(float(value), case.sd if case.noise is not Noise.NONE else None)


def _outcome(case: Case, rng: np.random.Generator, values: Mapping[str, Value]) -> Outcome:
    if rng.random() < case.failed:
        return Failed("the machine", retryable=False)
    if rng.random() < case.crashed:
        return Infeasible("diverged", Measurement(values))
    return Completed(Measurement(values))


# ---------------------------------------------------------------------- what must hold


def check_suggestion(problem: Problem, suggestion: Suggestion) -> None:
    """The point lies in the space, numbers are finite, and what is not the model says why."""
    assert problem.space.check(suggestion.parameters) == []
    provenance = suggestion.provenance
    numbers = [m for p in provenance.predicted.values() for m in (p.mean, p.sd)]
    if provenance.acquisition_value is not None:
        numbers.append(provenance.acquisition_value)
    assert all(math.isfinite(number) for number in numbers)
    is_model = provenance.generator == "gp" and not provenance.degraded_from
    is_design = provenance.reason == "initial design"
    if is_model:
        assert provenance.reason == ""
        assert provenance.acquisition_value is not None
    elif not is_design:
        assert provenance.degraded_from == "gp"
        assert provenance.reason


def check_answers(optimizer: Optimizer, points: Sequence[Suggestion]) -> None:
    """Predictions and the recommendation are numbers, or refused because nothing is known."""
    found = optimizer.recommendation()
    best = optimizer.best()
    assert (found is None) == (best is None)
    n_measured = np.isfinite(optimizer._columns.Y[:, 0]).sum()
    if n_measured < 2:
        return
    for prediction in optimizer.predict([point.parameters for point in points]):
        for moments in prediction.metrics.values():
            assert math.isfinite(moments.mean)
            assert math.isfinite(moments.sd)
            assert moments.sd >= 0.0
        assert 0.0 <= prediction.probability_feasible <= 1.0


def check_case(case: Case) -> Sequence[Suggestion]:
    """Ask, look at everything, tell, and ask again; return the first answer."""
    problem = problem_of(case)
    optimizer = Optimizer(problem, GPSpec(n_initial=1, quality=case.quality), case.seed)
    optimizer.fold(events_of(case))
    first = _check_ask(optimizer, case)
    check_answers(optimizer, first)
    rng = np.random.default_rng(case.seed + 1)
    for trial in list(optimizer.trials.values())[-case.n_asked :]:
        x = np.array([[float(value) for value in trial.parameters.values()]])
        values = {
            name: _value(case, VALUES[kind](rng, x)[0])
            for name, kind in (("loss", case.values), ("load", case.constraint))
            if kind is not None
        }
        optimizer.fold([Told(trial.number, _outcome(case, rng, values))])
    _check_ask(optimizer, case)
    return first


def _check_ask(optimizer: Optimizer, case: Case) -> Sequence[Suggestion]:
    suggested = optimizer.suggest(case.n_asked)
    assert len(suggested.suggestions) == case.n_asked
    for suggestion in suggested.suggestions:
        check_suggestion(optimizer.problem, suggestion)
    new = (
        NewTrial(number, each.parameters, each.provenance)
        for number, each in enumerate(suggested.suggestions, len(optimizer.trials) + 1)
    )
    optimizer.fold([Asked(tuple(new), suggested.state)])
    return suggested.suggestions
