"""The arguments of ``create_study`` -> the definition of a study."""

from collections.abc import Sequence
from typing import TypeAlias

from bbopt.errors import InvalidError, SpecError
from bbopt.problem import Budget, Fidelity, Metric, MetricKind, Problem
from bbopt.space import Constraint, Parameter, Space
from bbopt.specs import NAMES, LeasePolicy, StrategySpec, StudySpec

SpaceLike: TypeAlias = Space | Sequence[Parameter]


def define_study(
    space: SpaceLike,
    objective: str | Metric,
    *,
    constraints: Sequence[str | Metric] = (),
    metrics: Sequence[str | Metric] = (),
    parameter_constraints: Sequence[Constraint] = (),
    budget: Budget | None = None,
    fidelity: Fidelity | None = None,
    trials: int | None = None,
    strategy: str | StrategySpec = "auto",
    seed: int | None = None,
    lease_s: float | None = None,
    max_attempts: int | None = None,
) -> StudySpec:
    """Put the definition of a study together.

    Args:
        space: The parameters; a ``Space`` or a list.
        objective: ``"accuracy"`` is maximised, ``"-loss"`` minimised.
        constraints: Bounds on measured metrics, ``"latency_ms <= 20"``.
        metrics: More metrics; a name alone is recorded and not used.
        parameter_constraints: Known constraints between the parameters of a list.
        budget: When the study is complete.
        fidelity: How far a trial may be evaluated.
        trials: Short for ``Budget(trials=...)``.
        strategy: A name or its settings.
        seed: In ``[0, 2**64)``; ``None`` or 0 lets the server draw one.
        lease_s: How long a worker may be silent; 0 for leases that never expire.
        max_attempts: Times a point is handed out before it counts as failed.

    Raises:
        SpecError: Anything is wrong.
    """
    if budget is not None and trials is not None:
        raise SpecError.of("trials", "is given by the budget already")
    default = LeasePolicy()
    return StudySpec(
        problem=Problem(
            _space(space, parameter_constraints),
            (
                _metric(objective, "objective", MetricKind.OBJECTIVE),
                *(_metric(each, "constraints", MetricKind.CONSTRAINT) for each in constraints),
                *(_metric(each, "metrics", None) for each in metrics),
            ),
            budget or Budget(trials=trials),
            fidelity,
        ),
        strategy=strategy_named(strategy) if isinstance(strategy, str) else strategy,
        seed=_seed(seed),
        lease=LeasePolicy(
            default.duration_s if lease_s is None else lease_s,
            default.max_attempts if max_attempts is None else max_attempts,
        ),
    )


def strategy_named(name: str) -> StrategySpec:
    """Return the default settings of a strategy.

    Raises:
        SpecError: There is no such strategy.
    """
    if name not in NAMES:
        raise SpecError.of("strategy", f"must be one of {', '.join(NAMES)}, not {name!r}")
    return NAMES[name]()


def _space(space: SpaceLike, constraints: Sequence[Constraint]) -> Space:
    if not isinstance(space, Space):
        return Space(tuple(space), tuple(constraints))
    if constraints:
        raise SpecError.of("parameter_constraints", "belong into the Space that is given")
    return space


def _metric(given: str | Metric, field: str, kind: MetricKind | None) -> Metric:
    if isinstance(given, str):
        metric = Metric(given, MetricKind.TRACKED) if kind is None else Metric.parse(given)
    else:
        metric = given
    if kind is not None and metric.kind is not kind:
        raise SpecError.of(field, f"{metric.name!r} is not of kind {kind.value}")
    return metric


def _seed(seed: int | None) -> int:
    if seed is None:
        return 0
    if type(seed) is not int:
        raise TypeError(f"a seed is an integer, not {seed!r}")
    if not 0 <= seed < 2**64:
        raise InvalidError.of("seed", f"must be in [0, 2**64), not {seed}")
    return seed
