"""The log as arrays: signs, units, order and corrections."""

import math

import numpy as np
import pytest

from bbopt.errors import DataLossError
from bbopt.problem import Problem
from bbopt.space import Categorical, Codec, Equals, Float, Linear, Space
from bbopt.trial import (
    Abandoned,
    Amended,
    Asked,
    Columns,
    Completed,
    Enqueued,
    Failed,
    Infeasible,
    Leased,
    Measurement,
    NewTrial,
    OutcomeCode,
    Provenance,
    Reported,
    Requeued,
    Stopped,
    StopRequested,
    Told,
    Value,
)

SPACE = Space(
    (
        Float("x", 0, 10),
        Categorical("kind", ("a", "b")),
        Float("y", 0, 1, active_if=Equals("kind", ("b",))),
    )
)
PROBLEM = Problem.of(
    SPACE, "-loss", constraints=["0.1 <= ratio <= 0.9", "qps >= 100"], tracked=["note"]
)
NAN = math.nan


def new(number: int, **parameters: float | str) -> NewTrial:
    point = parameters or {"x": float(number), "kind": "a"}
    return NewTrial(number, point, Provenance("sobol"))


def asked(*numbers: int) -> Asked:
    return Asked(tuple(new(number) for number in numbers), None)


def measured(**values: float) -> Measurement:
    return Measurement({name: Value(value) for name, value in values.items()})


def done(loss: float, ratio: float = 0.5, qps: float = 200.0) -> Completed:
    return Completed(measured(loss=loss, ratio=ratio, qps=qps))


def columns(*events: object, problem: Problem = PROBLEM) -> Columns:
    return Columns(problem, Codec(problem.space), events)  # type: ignore[arg-type]


def test_no_trials_are_empty_arrays() -> None:
    empty = columns()
    assert len(empty) == 0
    assert empty.X.shape == (0, 3)
    assert empty.Y.shape == (0, 4)
    assert empty.variance.shape == (0, 4)
    assert empty.pending.shape == (0, 3)
    assert empty.numbers.shape == empty.feasible.shape == (0,)


def test_the_objective_is_maximised_and_bounds_are_feasible_below_zero() -> None:
    folded = columns(asked(1), Told(1, done(2.0, ratio=0.95, qps=150.0)))
    assert folded.column_names == ("loss", "ratio >= 0.1", "ratio <= 0.9", "qps >= 100.0")
    assert folded.Y[0] == pytest.approx([-2.0, 0.1 - 0.95, 0.95 - 0.9, 100.0 - 150.0])
    assert folded.feasible.tolist() == [False]
    larger = Problem.of(SPACE, "gain")
    assert columns(asked(1), Told(1, Completed(measured(gain=3.0))), problem=larger).Y == [
        [3.0]
    ]


def test_a_value_on_a_bound_is_feasible() -> None:
    folded = columns(asked(1), Told(1, done(2.0, ratio=0.9, qps=100.0)))
    assert folded.feasible.tolist() == [True]


def test_rows_come_in_the_order_of_the_tells_and_are_canonical() -> None:
    folded = columns(asked(1, 2, 3), Told(3, done(3.0)), Told(1, done(1.0)))
    assert folded.numbers.tolist() == [3, 1]
    assert folded.X[:, 0] == pytest.approx([0.3, 0.1])
    assert folded.X[:, 1:].tolist() == [[0.25, 0.5], [0.25, 0.5]]
    assert (folded.row_of(1), folded.row_of(2)) == (1, None)


def test_known_deviations_become_variances() -> None:
    values = {"loss": Value(1.0, sd=0.5), "ratio": Value(0.5, sd=0.1), "qps": Value(200.0)}
    folded = columns(asked(1), Told(1, Completed(Measurement(values))))
    assert folded.variance[0, :3] == pytest.approx([0.25, 0.01, 0.01])
    assert math.isnan(folded.variance[0, 3])


def test_failed_and_abandoned_trials_leave_no_row() -> None:
    folded = columns(asked(1, 2), Told(1, Failed()), Told(2, Abandoned()))
    assert (len(folded), len(folded.pending)) == (0, 0)


def test_an_infeasible_trial_is_a_row_without_measurements() -> None:
    outcome = Infeasible("diverged", measured(loss=1.0, qps=200.0))
    folded = columns(asked(1), Told(1, outcome))
    assert folded.outcome.tolist() == [OutcomeCode.INFEASIBLE]
    assert folded.is_infeasible.tolist() == [True]
    assert np.isnan(folded.Y).all()
    assert folded.feasible.tolist() == [False]


def test_a_stopped_trial_is_data_as_far_as_it_got() -> None:
    folded = columns(
        asked(1, 2, 3, 4),
        Told(1, Stopped(measured(loss=1.0, ratio=0.5, qps=200.0))),
        Told(2, Stopped(measured(loss=2.0))),
        Told(3, Stopped(measured(qps=50.0))),
        Told(4, Stopped(measured(note=1.0))),
    )
    assert folded.numbers.tolist() == [1, 2, 3]
    assert folded.outcome.tolist() == [
        OutcomeCode.MEASURED,
        OutcomeCode.MEASURED,
        OutcomeCode.PARTIAL,
    ]
    assert folded.feasible.tolist() == [True, False, False]
    assert folded.Y[2, 3] == 50.0
    assert np.isnan(folded.Y[2, :3]).all()


def test_unfinished_trials_are_pending_by_number() -> None:
    folded = columns(
        asked(1, 2),
        Enqueued(new(3, x=5.0, kind="b", y=1.0)),
        Leased(3, "w", 1),
        StopRequested(1, ""),
        Reported(1, measured(loss=1.0)),
        Requeued(2, "", 2),
    )
    assert list(folded.pending_numbers) == [1, 2, 3]
    assert folded.pending[:, 0] == pytest.approx([0.1, 0.2, 0.5])
    assert folded.pending[2, 1:].tolist() == [0.75, 1.0]
    folded.fold(Told(2, Failed()))
    assert list(folded.pending_numbers) == [1, 3]


def test_an_amended_row_changes_in_place_and_is_counted() -> None:
    folded = columns(asked(1, 2), Told(1, done(1.0)), Told(2, done(2.0)))
    assert folded.amended_revision == 0
    folded.fold(Amended(1, done(9.0, qps=1.0), "typo"))
    assert folded.numbers.tolist() == [1, 2]
    assert folded.Y[:, 0].tolist() == [-9.0, -2.0]
    assert folded.feasible.tolist() == [False, True]
    assert folded.amended_revision == 1


def test_a_withdrawn_result_leaves_an_empty_row() -> None:
    folded = columns(asked(1), Told(1, done(1.0)), Amended(1, Failed(), "wrong machine"))
    assert folded.outcome.tolist() == [OutcomeCode.WITHDRAWN]
    assert np.isnan(folded.Y).all()
    assert (folded.feasible.tolist(), folded.is_infeasible.tolist()) == ([False], [False])
    folded.fold(Amended(1, done(4.0), ""))
    assert folded.Y[0, 0] == -4.0


def test_a_failed_trial_that_is_amended_or_told_late_becomes_the_last_row() -> None:
    folded = columns(asked(1, 2, 3), Told(1, Failed()), Told(2, done(2.0)), Told(3, Failed()))
    folded.fold(Amended(1, done(1.0), "it had run"))
    folded.fold(Told(3, done(3.0), late=True))
    assert folded.numbers.tolist() == [2, 1, 3]
    assert folded.amended_revision == 0


def test_rows_survive_growth_and_views_are_read_only() -> None:
    n = 1000
    folded = columns(asked(*range(1, n + 1)))
    first = None
    for number in range(1, n + 1):
        folded.fold(Told(number, done(float(number))))
        first = folded.X[:1] if first is None else first
    assert folded.numbers.tolist() == list(range(1, n + 1))
    assert (-folded.Y[:, 0]).tolist() == list(range(1, n + 1))
    with pytest.raises(ValueError, match="read-only"):
        folded.Y[0, 0] = 0.0


def test_folding_one_by_one_or_at_once_is_the_same() -> None:
    events = [
        asked(1, 2, 3),
        Told(2, done(2.0)),
        Told(1, Infeasible()),
        asked(4),
        Amended(2, done(5.0), ""),
    ]
    once, stepwise = columns(*events), columns()
    for event in events:
        stepwise.fold(event)  # type: ignore[arg-type]
    for name in ("X", "Y", "variance", "numbers", "outcome", "feasible", "pending"):
        assert np.array_equal(getattr(once, name), getattr(stepwise, name), equal_nan=True)


def test_huge_values_stay_finite() -> None:
    folded = columns(asked(1), Told(1, done(1e308, ratio=-1.7e308, qps=-1.7e308)))
    assert np.isfinite(folded.Y).all()


def test_a_point_that_breaks_a_parameter_constraint_is_never_feasible() -> None:
    space = Space((Float("x", 0, 1), Float("y", 0, 1)), (Linear({"x": 1, "y": 1}, upper=1),))
    problem = Problem.of(space, "gain")
    trial = NewTrial(1, {"x": 0.9, "y": 0.9}, Provenance("enqueued"))
    folded = columns(Enqueued(trial), Told(1, Completed(measured(gain=1.0))), problem=problem)
    assert folded.feasible.tolist() == [False]
    assert folded.Y.tolist() == [[1.0]]


def test_a_point_of_another_space_is_data_loss() -> None:
    with pytest.raises(DataLossError, match=r"trial 1: parameters\[x\]"):
        columns(Enqueued(new(1, kind="a")))
    with pytest.raises(DataLossError):
        columns(Told(1, done(1.0)))
