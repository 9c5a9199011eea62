"""Everything that can be wrong with metrics and budgets, listed at once."""

from collections.abc import Collection, Sequence

from bbopt.errors import Violation
from bbopt.problem.metrics import Goal, Metric, MetricKind, Noise
from bbopt.space.validation import Unread, name_fault
from bbopt.space.values import is_real

MAX_CONSTRAINTS = 64
MAX_METRICS = 256


def metric_violations(
    metrics: Sequence[object], *, parameter_names: Collection[str]
) -> list[Violation]:
    """List the faults of metrics, alone and together."""
    if len(metrics) > MAX_METRICS:
        return [Violation("metrics", f"at most {MAX_METRICS} metrics, got {len(metrics)}")]
    violations: list[Violation] = []
    seen: set[str] = set()
    for index, metric in enumerate(metrics):
        if isinstance(metric, Unread):
            seen.add(metric.name)
            continue
        if not isinstance(metric, Metric):
            kind = type(metric).__name__
            violations.append(Violation(f"metrics[{index}]", f"must be a metric, got {kind}"))
            continue
        fault = name_fault(metric.name)
        path = f"metrics[{metric.name if fault is None else index}]"
        if fault is None and metric.name in seen:
            fault = "is used by two metrics"
        if fault is None and metric.name in parameter_names:
            fault = "is the name of a parameter too"
        if fault is not None:
            violations.append(Violation(f"{path}.name", fault))
        seen.add(str(metric.name))
        violations += [
            Violation(f"{path}.{field}", message) for field, message in _faults(metric)
        ]
    if any(isinstance(metric, Unread) for metric in metrics):
        return violations
    return violations + _count_violations([m for m in metrics if isinstance(m, Metric)])


def budget_violations(trials: object, cost: float | None, *, has_cost: bool) -> list[Violation]:
    """List the faults of a budget."""
    violations = []
    if trials is not None and (type(trials) is not int or not 1 <= trials < 2**63):
        message = f"must be a whole number in [1, 2**63), got {trials!r}"
        violations.append(Violation("budget.trials", message))
    if cost is not None and (not is_real(cost) or cost <= 0):
        violations.append(Violation("budget.cost", f"must be positive, got {cost!r}"))
    elif cost is not None and not has_cost:
        violations.append(Violation("budget.cost", "needs a metric of kind cost"))
    return violations


def _count_violations(metrics: Sequence[Metric]) -> list[Violation]:
    kinds = [metric.kind for metric in metrics]
    violations = []
    n_objectives = kinds.count(MetricKind.OBJECTIVE)
    if n_objectives != 1:
        message = f"exactly one objective is supported, got {n_objectives}"
        violations.append(Violation("metrics", message))
    if kinds.count(MetricKind.COST) > 1:
        violations.append(Violation("metrics", "at most one metric of kind cost"))
    n_constraints = kinds.count(MetricKind.CONSTRAINT)
    if n_constraints > MAX_CONSTRAINTS:
        message = f"at most {MAX_CONSTRAINTS} constraints, got {n_constraints}"
        violations.append(Violation("metrics", message))
    return violations


def _faults(metric: Metric) -> list[tuple[str, str]]:
    """List (field, message) for one metric but its name."""
    faults = [
        (field, f"must be one of {', '.join(m.value for m in members)}, got {given!r}")
        for field, given, members in (
            ("kind", metric.kind, MetricKind),
            ("noise", metric.noise, Noise),
            ("goal", metric.goal, Goal),
        )
        if not isinstance(given, members) and not (field == "goal" and given is None)
    ]
    if faults:
        return faults
    is_objective = metric.kind is MetricKind.OBJECTIVE
    if is_objective and metric.goal is None:
        faults.append(("goal", "an objective must say minimize or maximize"))
    if not is_objective and metric.goal is not None:
        faults.append(("goal", f"a {metric.kind.value} has no goal"))
    return faults + _bound_faults(metric)


def _bound_faults(metric: Metric) -> list[tuple[str, str]]:
    bounds = [
        (field, bound)
        for field, bound in (("lower", metric.lower), ("upper", metric.upper))
        if bound is not None
    ]
    if metric.kind is not MetricKind.CONSTRAINT:
        kind = metric.kind.value
        return [(field, f"a {kind} has no bounds: add a constraint") for field, _ in bounds]
    if not bounds:
        return [("upper", "a constraint needs lower or upper")]
    faults = [
        (field, f"must be a finite number, got {bound!r}")
        for field, bound in bounds
        if not is_real(bound)
    ]
    if faults or metric.lower is None or metric.upper is None or metric.lower < metric.upper:
        return faults
    return [("lower", f"lower {metric.lower} is not below upper {metric.upper}")]
