"""What a person says: results, turned into outcomes, and whole numbers."""

import math
import operator
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from bbopt.errors import InvalidError, Violation
from bbopt.problem import Problem
from bbopt.trial.trial import (
    Abandoned,
    Completed,
    Failed,
    Infeasible,
    Measurement,
    Outcome,
    Stopped,
    Value,
)

Number: TypeAlias = float | tuple[float, float] | Value
"""One metric: a number, a ``(mean, sd)`` pair or a ``Value``."""
ToldOutcome: TypeAlias = float | Mapping[str, Number] | Outcome
"""A number where there is one metric; numbers, ``(mean, sd)`` pairs or ``Value``s by metric
name; or an ``Outcome``."""


def outcome_of(problem: Problem, outcome: ToldOutcome) -> Outcome:
    """Turn what a person told into an outcome; a value that is not finite makes the point
    infeasible: a strategy that learned nothing from it would suggest its like again.

    Args:
        problem: Whose metrics were measured.
        outcome: What was told.

    Raises:
        InvalidError: A metric is unknown or missing, or a value is not a number.
    """
    match outcome:
        case Completed() | Stopped() | Infeasible() | Failed() | Abandoned():
            return _checked(problem, outcome)
        case _:
            values = values_of(problem, outcome)
    broken = [f"{n} = {v.value}" for n, v in values.items() if not math.isfinite(v.value)]
    if broken:
        return Infeasible(f"not finite: {', '.join(broken)}")
    _refuse(problem.check_result(values))
    return Completed(Measurement(values))


def values_of(problem: Problem, told: float | Mapping[str, Number]) -> dict[str, Value]:
    """Turn told numbers into values by metric; whether they fit the problem is not checked.

    Args:
        problem: Whose metrics were measured.
        told: A number where there is one metric; else numbers, pairs or values by name.

    Raises:
        InvalidError: A value is not a number, or a bare number is not enough.
    """
    if not isinstance(told, Mapping):
        if len(problem.metrics) != 1:
            names = ", ".join(metric.name for metric in problem.metrics)
            raise InvalidError.of("outcome", f"a bare number needs one metric, not {names}")
        told = {problem.objective.name: told}
    return {name: _value_of(name, value) for name, value in told.items()}


def whole_number(field: str, given: object, low: int, high: int | None = None) -> int:
    """Return an integer in ``[low, high]``, of whichever library's type.

    Raises:
        InvalidError: It is none.
    """
    wanted = f"at least {low}" if high is None else f"in [{low}, {high}]"
    try:
        number = operator.index(given)  # type: ignore[arg-type]  # That is what is asked here.
    except TypeError as error:
        raise InvalidError.of(
            field, f"must be a whole number {wanted}, not {given!r}"
        ) from error
    if number < low or (high is not None and number > high):
        raise InvalidError.of(field, f"must be {wanted}, not {number}")
    return number


def _checked(problem: Problem, outcome: Outcome) -> Outcome:
    if not isinstance(outcome, Abandoned) and outcome.measurement is not None:
        is_partial = not isinstance(outcome, Completed)
        _refuse(problem.check_result(outcome.measurement.metrics, partial=is_partial))
    return outcome


def _value_of(name: str, told: object) -> Value:
    match told:
        case Value():
            return told
        case tuple((mean, sd)):
            return Value(_number(name, mean), _number(name, sd))
        case _:
            return Value(_number(name, told))


def _number(name: str, told: object) -> float:
    """Read anything that is a real number, of any library's type; not text, not a boolean."""
    try:
        if hasattr(told, "__float__") and not isinstance(told, bool):
            return float(told)
    except (TypeError, ValueError, OverflowError):
        pass
    message = f"must be a number or the tuple (mean, sd), not {told!r}"
    raise InvalidError.of(f"metrics[{name}]", message)


def _refuse(violations: Sequence[Violation]) -> None:
    if violations:
        raise InvalidError(violations)
