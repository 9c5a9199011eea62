"""The log as arrays: what models learn from, in the unit cube and maximised.

The one place where units and signs of measurements are turned: the objective is maximised,
and every bound of a constraint is a column that is feasible where it is ``<= 0``.
"""

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar, assert_never

import numpy as np
from numpy.typing import NDArray

from bbopt.errors import DataLossError, InvalidError
from bbopt.problem import Problem
from bbopt.space import Codec
from bbopt.trial.events import (
    Amended,
    Asked,
    Enqueued,
    Event,
    Leased,
    NewTrial,
    Reported,
    Requeued,
    StopRequested,
    Told,
)
from bbopt.trial.trial import (
    Abandoned,
    Completed,
    Failed,
    Infeasible,
    Measurement,
    Outcome,
    Stopped,
)

FloatArray: TypeAlias = NDArray[np.float64]
BoolArray: TypeAlias = NDArray[np.bool_]
AnyScalar = TypeVar("AnyScalar", bound=np.generic)

LARGEST = float(np.finfo(np.float64).max)
FIRST_CAPACITY = 64


class OutcomeCode(enum.IntEnum):
    """What a row is."""

    MEASURED = 0
    """The objective was measured."""
    INFEASIBLE = 1
    """The point cannot be evaluated."""
    PARTIAL = 2
    """Stopped before the objective was measured; some constraint was."""
    WITHDRAWN = 3
    """Corrected to an outcome that says nothing about the point."""


@dataclass(frozen=True, slots=True)
class Output:
    """One column of ``Y``: ``sign * value + offset`` of a metric."""

    metric: str
    sign: float
    offset: float
    label: str

    def of(self, measurement: Measurement) -> tuple[float, float]:
        """Return value and known variance, NaN where there is none."""
        measured = measurement.metrics.get(self.metric)
        if measured is None or not math.isfinite(measured.value):
            return math.nan, math.nan
        value = self.sign * measured.value + self.offset
        variance = math.nan if measured.sd is None else measured.sd * measured.sd
        return min(max(value, -LARGEST), LARGEST), min(variance, LARGEST)


def outputs_of(problem: Problem) -> tuple[Output, ...]:
    """List the columns of ``Y``: the objective, then the bounds of every constraint."""
    objective = problem.objective
    sign = 1.0 if objective.is_maximized else -1.0
    outputs = [Output(objective.name, sign, 0.0, objective.name)]
    for metric in problem.constraints:
        if metric.lower is not None:
            label = f"{metric.name} >= {metric.lower!r}"
            outputs.append(Output(metric.name, -1.0, metric.lower, label))
        if metric.upper is not None:
            label = f"{metric.name} <= {metric.upper!r}"
            outputs.append(Output(metric.name, 1.0, -metric.upper, label))
    return tuple(outputs)


class Columns:
    """Rows of finished trials, in the order in which they were told, and pending points.

    Arrays are views: they show the rows there were when they were read, and rows that are
    amended later change in them. Failed and abandoned trials leave no row.

    Args:
        problem: Says what is measured.
        codec: Of the problem's space.
        events: Folded at once.
    """

    def __init__(self, problem: Problem, codec: Codec, events: Iterable[Event] = ()) -> None:
        self.problem = problem
        self.codec = codec
        self.outputs = outputs_of(problem)
        self.column_names = tuple(output.label for output in self.outputs)
        self.amended_revision = 0
        """Counts the times that a row changed after it was told."""
        self._n = 0
        n_outputs = len(self.outputs)
        self._X = np.empty((FIRST_CAPACITY, codec.dim))
        self._Y = np.empty((FIRST_CAPACITY, n_outputs))
        self._variance = np.empty((FIRST_CAPACITY, n_outputs))
        self._numbers = np.empty(FIRST_CAPACITY, dtype=np.int64)
        self._outcome = np.empty(FIRST_CAPACITY, dtype=np.int64)
        self._feasible = np.empty(FIRST_CAPACITY, dtype=np.bool_)
        self._row_of: dict[int, int] = {}
        self._x_of: dict[int, FloatArray] = {}
        """Points of trials that have left no row."""
        self._pending: dict[int, None] = {}
        """Numbers of unfinished trials; ascending, since trials are created in order."""
        self._suggested: list[int] = []
        for event in events:
            self.fold(event)

    def __len__(self) -> int:
        return self._n

    @property
    def X(self) -> FloatArray:  # noqa: N802 - a matrix
        """Canonical unit-cube rows, ``(n, D)``."""
        return _view(self._X, self._n)

    @property
    def Y(self) -> FloatArray:  # noqa: N802 - a matrix
        """Measurements ``(n, m)``, NaN where not measured: the objective, maximised, and one
        column for each bound of each constraint, feasible where ``<= 0``.
        """
        return _view(self._Y, self._n)

    @property
    def variance(self) -> FloatArray:
        """Known variances of ``Y``, ``(n, m)``, NaN where unknown."""
        return _view(self._variance, self._n)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Trial numbers, ``(n,)``."""
        return _view(self._numbers, self._n)

    @property
    def outcome(self) -> NDArray[np.int64]:
        """``OutcomeCode`` of each row, ``(n,)``."""
        return _view(self._outcome, self._n)

    @property
    def is_infeasible(self) -> BoolArray:
        """Rows of points that cannot be evaluated, ``(n,)``."""
        return np.asarray(self.outcome == OutcomeCode.INFEASIBLE)

    @property
    def feasible(self) -> BoolArray:
        """Rows that were evaluated and satisfy every constraint, of metrics and of
        parameters, ``(n,)``.
        """
        return _view(self._feasible, self._n)

    @property
    def pending(self) -> FloatArray:
        """Points of unfinished trials, ``(p, D)``, by trial number."""
        rows = [self._x_of[number] for number in self._pending]
        return np.stack(rows) if rows else np.empty((0, self.codec.dim))

    @property
    def pending_numbers(self) -> tuple[int, ...]:
        """Numbers of the trials in ``pending``."""
        return tuple(self._pending)

    def is_pending(self, number: int) -> bool:
        """Whether a trial is unfinished."""
        return number in self._pending

    def suggested_number(self, index: int) -> int | None:
        """Return the trial that the strategy's suggestion ``index`` became.

        Suggestions count from 0 over the whole study, in the order in which the strategy made
        them; points that were enqueued or given by a fallback are none. ``None``: no such
        suggestion has been stored yet.
        """
        return self._suggested[index] if index < len(self._suggested) else None

    def row_of(self, number: int) -> int | None:
        """Return the row of a trial, or ``None`` if it has left none."""
        return self._row_of.get(number)

    def fold(self, event: Event) -> None:
        """Take over what an event changes.

        Raises:
            DataLossError: A trial is unknown, or its point is not one of this space.
        """
        match event:
            case Asked(trials=trials, state=state):
                self._open(trials)
                if state is not None:
                    self._suggested += [trial.number for trial in trials]
            case Enqueued(trial=trial):
                self._open([trial])
            case Told(number=number, outcome=outcome) | Amended(number=number, outcome=outcome):
                self._settle(number, outcome)
            case Leased() | Requeued() | Reported() | StopRequested():
                pass
            case _:
                assert_never(event)

    def _open(self, trials: Sequence[NewTrial]) -> None:
        if not trials:
            return
        try:
            rows = self.codec.encode_all([trial.parameters for trial in trials])
        except InvalidError as error:
            numbers = " or ".join(f"trial {trial.number}" for trial in trials)
            raise DataLossError(f"{numbers}: {error}") from error
        for trial, x in zip(trials, rows, strict=True):
            self._x_of[trial.number] = x.copy()
            self._pending[trial.number] = None

    def _settle(self, number: int, outcome: Outcome) -> None:
        row = self._row_of.get(number)
        if row is None and number not in self._x_of:
            raise DataLossError(f"there is no trial {number}")
        self._pending.pop(number, None)
        code, values, variances = self._read(outcome)
        if row is None:
            if code is OutcomeCode.WITHDRAWN:
                return
            row = self._append(number)
        else:
            self.amended_revision += 1
        self._outcome[row] = code
        self._Y[row] = values
        self._variance[row] = variances
        self._feasible[row] = (
            code in (OutcomeCode.MEASURED, OutcomeCode.PARTIAL)
            and bool((self._Y[row, 1:] <= 0.0).all())
            and bool(self.codec.is_feasible(self._X[row : row + 1])[0])
        )

    def _append(self, number: int) -> int:
        if self._n == len(self._X):
            for name in ("_X", "_Y", "_variance", "_numbers", "_outcome", "_feasible"):
                array = getattr(self, name)
                setattr(self, name, np.concatenate([array, np.empty_like(array)]))
        row = self._n
        self._X[row] = self._x_of.pop(number)
        self._numbers[row] = number
        self._row_of[number] = row
        self._n += 1
        return row

    def _read(self, outcome: Outcome) -> tuple[OutcomeCode, list[float], list[float]]:
        """Return what a row says: its code, its values and their variances."""
        nothing = [math.nan] * len(self.outputs)
        match outcome:
            case Completed(measurement) | Stopped(measurement):
                pairs = [output.of(measurement) for output in self.outputs]
                values = [value for value, _ in pairs]
                variances = [variance for _, variance in pairs]
                if not math.isnan(values[0]):
                    return OutcomeCode.MEASURED, values, variances
                if not all(math.isnan(value) for value in values):
                    return OutcomeCode.PARTIAL, values, variances
                return OutcomeCode.WITHDRAWN, nothing, nothing
            case Infeasible():
                # What a crashed evaluation printed before it crashed is no measurement.
                return OutcomeCode.INFEASIBLE, nothing, nothing
            case Failed() | Abandoned():
                return OutcomeCode.WITHDRAWN, nothing, nothing
            case _:
                assert_never(outcome)


def _view(array: NDArray[AnyScalar], n: int) -> NDArray[AnyScalar]:
    view = array[:n]
    view.setflags(write=False)
    return view
