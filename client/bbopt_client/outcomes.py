"""What people write for a result (a number, a mapping, a pair) -> an outcome."""

import math
from collections.abc import Mapping
from typing import TypeAlias

from bbopt.errors import InvalidError, Violation
from bbopt.problem import MetricKind, Problem
from bbopt.trial import (
    Abandoned,
    Completed,
    Failed,
    Infeasible,
    Measurement,
    Outcome,
    Stopped,
    Value,
)
from bbopt_client.arguments import text

Number: TypeAlias = float | int
"""A Python number; NumPy's and torch's scalars are taken too."""
GivenValue: TypeAlias = Number | tuple[Number, Number] | Value
"""A number, ``(mean, standard deviation)``, or a ``Value``."""
Metrics: TypeAlias = Mapping[str, GivenValue] | GivenValue
"""One value per metric; a single value where the problem has a single metric."""
Result: TypeAlias = Metrics | Measurement | Outcome
"""Anything that says how a trial ended; metrics alone mean that it completed."""


def outcome_of(result: Result, problem: Problem, *, elapsed_s: float | None = None) -> Outcome:
    """Turn a result into an outcome and check it against the problem.

    Args:
        result: Metrics (the trial completed) or an outcome.
        problem: Says which metrics there are.
        elapsed_s: Filled in where the result does not say how long the trial ran.

    Raises:
        InvalidError: A metric is unknown, missing or no finite number; all are listed.
    """
    match result:
        case Abandoned(message):
            return Abandoned(text("message", message))
        case Completed(measurement):
            return Completed(check_measurement(measurement, problem, elapsed_s=elapsed_s))
        case Stopped(measurement):
            # Ended early, it may lack what is only measured at the end; the server takes it.
            return Stopped(
                check_measurement(measurement, problem, partial=True, elapsed_s=elapsed_s)
            )
        case Infeasible(message, partial):
            return Infeasible(text("message", message), _partial(partial, problem, elapsed_s))
        case Failed(message, retryable, partial):
            found = _partial(partial, problem, elapsed_s)
            return Failed(text("message", message), retryable, found)
        case Measurement():
            return Completed(check_measurement(result, problem, elapsed_s=elapsed_s))
        case _:
            measurement = measurement_of(result, problem)
            return Completed(check_measurement(measurement, problem, elapsed_s=elapsed_s))


def measurement_of(
    metrics: Metrics, problem: Problem, *, step: int | None = None
) -> Measurement:
    """Turn metrics as people write them into a measurement; not yet checked.

    Raises:
        InvalidError: Something is no number, or a lone value does not say which metric.
    """
    if isinstance(metrics, Measurement):
        return metrics
    named = metrics if isinstance(metrics, Mapping) else {_only_metric(problem): metrics}
    violations: list[Violation] = []
    values: dict[str, Value] = {}
    for name, given in named.items():
        try:
            values[name] = value_of(given)
        except (TypeError, ValueError, OverflowError) as error:
            violations.append(Violation(f"metrics[{name}]", str(error)))
    if violations:
        raise InvalidError(violations)
    return Measurement(values, step)


def value_of(given: object) -> Value:
    """Turn a number or a pair into a value; not yet checked.

    Raises:
        TypeError: It is neither; a list is none, as it may as well mean repetitions.
        ValueError: It is a pair of the wrong length.
    """
    if isinstance(given, Value):
        return given
    if isinstance(given, tuple):
        if len(given) != 2:
            raise ValueError(f"must be a number or (mean, sd), not {len(given)} numbers")
        return Value(_number(given[0]), _number(given[1]))
    return Value(_number(given))


def check_measurement(
    measurement: Measurement,
    problem: Problem,
    *,
    partial: bool = False,
    elapsed_s: float | None = None,
) -> Measurement:
    """Return the measurement, with its time filled in, if it fits the problem.

    Raises:
        InvalidError: It does not; everything that is wrong is listed.
    """
    violations = problem.check_result(measurement.metrics, partial=partial)
    if violations:
        raise InvalidError(violations)
    if measurement.elapsed_s is None and elapsed_s is not None:
        return Measurement(measurement.metrics, measurement.step, elapsed_s)
    return measurement


def is_finite(result: Result) -> bool:
    """Say whether every number of a completed result is finite; what is no number is left to
    whoever checks the result.
    """
    match result:
        case Completed(measurement):
            return is_finite(measurement)
        case Measurement(metrics):
            return is_finite(metrics)
        case Stopped() | Infeasible() | Failed() | Abandoned():
            return True
        case Mapping():
            return all(_is_finite_number(each) for each in result.values())
        case _:
            return _is_finite_number(result)


def _partial(
    measurement: Measurement | None, problem: Problem, elapsed_s: float | None
) -> Measurement | None:
    if measurement is None:
        return None
    return check_measurement(measurement, problem, partial=True, elapsed_s=elapsed_s)


def _only_metric(problem: Problem) -> str:
    required = [
        metric.name for metric in problem.metrics if metric.kind is not MetricKind.TRACKED
    ]
    if len(required) != 1:
        names = ", ".join(required)
        raise InvalidError.of("metrics", f"needs a name for each value: {names}")
    return required[0]


def _is_finite_number(given: object) -> bool:
    try:
        return math.isfinite(value_of(given).value)
    except (TypeError, ValueError, OverflowError):
        return True


def _number(given: object) -> float:
    if isinstance(given, bool | str | bytes) or not hasattr(given, "__float__"):
        raise TypeError(f"must be a number or the tuple (mean, sd), not {given!r}")
    return float(given)
