"""Judging measured results, in user units."""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from bbopt.errors import Violation
from bbopt.problem.metrics import Metric, MetricKind, Noise
from bbopt.space.values import is_real


class Measured(Protocol):
    """One measured number; ``bbopt.trial.Value`` is one."""

    @property
    def value(self) -> float:
        """In the metric's own unit."""

    @property
    def sd(self) -> float | None:
        """Standard deviation of ``value``, if known."""

    @property
    def replicates(self) -> int:
        """How many measurements were averaged."""


def result_violations(
    metrics: Sequence[Metric], values: Mapping[str, Measured]
) -> list[Violation]:
    """List what is wrong with the numbers of a result; unknown names are passed over."""
    violations = []
    for metric in metrics:
        if metric.name not in values:
            continue
        path = f"metrics[{metric.name}]"
        violations += [
            Violation(f"{path}.{field}", message)
            for field, message in _faults(metric, values[metric.name])
        ]
    return violations


def is_within(constraint: Metric, values: Mapping[str, Measured]) -> bool:
    """Say whether a constraint was measured and is satisfied."""
    measured = values.get(constraint.name)
    if measured is None or not math.isfinite(measured.value):
        return False
    lower = -math.inf if constraint.lower is None else constraint.lower
    upper = math.inf if constraint.upper is None else constraint.upper
    return lower <= measured.value <= upper


def is_better(
    objective: Metric,
    constraints: Sequence[Metric],
    a: Mapping[str, Measured],
    b: Mapping[str, Measured],
) -> bool:
    """Say whether result ``a`` is strictly better than ``b``."""
    return _rank(objective, constraints, a) > _rank(objective, constraints, b)


def _rank(
    objective: Metric, constraints: Sequence[Metric], values: Mapping[str, Measured]
) -> tuple[bool, bool, float, float]:
    """Order results: has an objective, is feasible, misses by less, reaches more."""
    measured = values.get(objective.name)
    if measured is None or not math.isfinite(measured.value):
        return (False, False, 0.0, 0.0)
    missed = math.fsum(
        constraint.violation(values[constraint.name].value)
        if constraint.name in values
        else math.inf
        for constraint in constraints
    )
    height = measured.value if objective.is_maximized else -measured.value
    is_feasible = all(is_within(constraint, values) for constraint in constraints)
    return (True, is_feasible, 0.0 if is_feasible else -missed, height)


def _faults(metric: Metric, measured: Measured) -> list[tuple[str, str]]:
    faults = []
    if not is_real(measured.value):
        faults.append(("value", f"must be a finite number, got {measured.value!r}"))
    elif metric.kind is MetricKind.COST and measured.value < 0:
        faults.append(("value", f"a cost must not be negative, got {measured.value}"))
    if measured.sd is None:
        if metric.noise is Noise.REPORTED:
            faults.append(("sd", "is missing: the noise of this metric is reported"))
    elif not is_real(measured.sd) or measured.sd < 0:
        faults.append(("sd", f"must be finite and not negative, got {measured.sd!r}"))
    if type(measured.replicates) is not int or measured.replicates < 1:
        faults.append(("replicates", f"must be at least 1, got {measured.replicates!r}"))
    return faults
