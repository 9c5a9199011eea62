"""The arguments of ``create_study`` -> the definition of a study."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from bbopt.errors import InvalidError, SpecError, Violation
from bbopt.problem import Budget, Fidelity, Metric, MetricKind, Problem
from bbopt.problem.problem import problem_violations
from bbopt.rpc.violations import Violations
from bbopt.space import Constraint, Parameter, Space
from bbopt.space.validation import Unread
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
        seed: In ``[0, 2**64)``; ``None`` lets the server draw one.
        lease_s: How long a worker may be silent; 0 for leases that never expire.
        max_attempts: Times a point is handed out before it counts as failed.

    Raises:
        SpecError: Anything is wrong; everything that is wrong is listed.
    """
    for path, several in (("constraints", constraints), ("metrics", metrics)):
        if isinstance(several, str):
            raise SpecError.of(path, f"must be a list, such as [{several!r}]")
    if isinstance(parameter_constraints, str):
        given = f"not {parameter_constraints!r}"
        raise SpecError.of("parameter_constraints", f"must be a list of constraints, {given}")
    if budget is not None and trials is not None:
        raise SpecError.of("trials", "is given by the budget already")
    violations = Violations(SpecError)
    names: tuple[str, ...] = ()
    with violations.within(""):
        read_space = _space(space, parameter_constraints)
        names = read_space.names
    read: list[Metric | Unread] = []
    for path, given, kind in (
        ("objective", objective, MetricKind.OBJECTIVE),
        *(
            (f"constraints[{i}]", each, MetricKind.CONSTRAINT)
            for i, each in enumerate(constraints)
        ),
        *((f"metrics[{i}]", each, None) for i, each in enumerate(metrics)),
    ):
        metric: Metric | Unread = Unread("")
        with violations.within(""):
            metric = _metric(given, path, kind)
        read.append(metric)
    with violations.within(""):
        settings = _settings(strategy)
    with violations.within(""):
        lease = _lease(lease_s, max_attempts)
    with violations.within(""):
        checked_seed = _seed(seed)
    limits = budget or Budget(trials=trials)
    if violations:
        violations.extend(problem_violations(read, limits, fidelity, parameter_names=names))
        raise violations.as_error()
    problem = Problem(read_space, tuple(read), limits, fidelity)  # type: ignore[arg-type]
    return StudySpec(problem, settings, checked_seed, lease)


def strategy_named(name: str) -> StrategySpec:
    """Return the default settings of a strategy.

    Raises:
        SpecError: There is no such strategy.
    """
    if name not in NAMES:
        raise SpecError.of("strategy", f"must be one of {', '.join(NAMES)}, not {name!r}")
    return NAMES[name]()


def _settings(given: str | StrategySpec) -> StrategySpec:
    if isinstance(given, str):
        return strategy_named(given)
    if type(given) not in NAMES.values():
        text = f"must be a name or settings such as GPSpec(), got {given!r}"
        raise SpecError.of("strategy", text)
    return given


def _space(space: SpaceLike, constraints: Sequence[Constraint]) -> Space:
    if isinstance(space, str | Mapping) or not isinstance(space, Space | Iterable):
        kind = type(space).__name__
        raise SpecError.of("space", f"must be a Space or a list of parameters, got {kind}")
    if not isinstance(space, Space):
        return Space(tuple(space), tuple(constraints))
    if constraints:
        raise SpecError.of("parameter_constraints", "belong into the Space that is given")
    return space


def _metric(given: str | Metric, field: str, kind: MetricKind | None) -> Metric:
    if isinstance(given, str):
        try:
            metric = Metric(given, MetricKind.TRACKED) if kind is None else Metric.parse(given)
        except SpecError as error:
            found = [Violation(field, each.message) for each in error.violations]
            raise SpecError(found) from error
    elif isinstance(given, Metric):
        metric = given
    else:
        raise SpecError.of(field, f"must be text or a Metric, got {type(given).__name__}")
    if kind is not None and metric.kind is not kind:
        wanted = "'accuracy' or '-loss'" if kind is MetricKind.OBJECTIVE else "'qps >= 100'"
        what = given if isinstance(given, str) else metric.name
        raise SpecError.of(field, f"{what!r} is no {kind.value}, such as {wanted}")
    return metric


def _lease(duration_s: float | None, max_attempts: int | None) -> LeasePolicy:
    default = LeasePolicy()
    try:
        return LeasePolicy.of_new_study(
            default.duration_s if duration_s is None else duration_s,
            default.max_attempts if max_attempts is None else max_attempts,
        )
    except SpecError as error:
        names = {"duration_s": "lease_s", "max_attempts": "max_attempts"}
        found = [Violation(names[each.field], each.message) for each in error.violations]
        raise SpecError(found) from error


def _seed(seed: int | None) -> int | None:
    if seed is None:
        return None
    if type(seed) is not int:
        raise TypeError(f"a seed is an integer, not {seed!r}")
    if not 0 <= seed < 2**64:
        raise InvalidError.of("seed", f"must be in [0, 2**64), not {seed}")
    return seed
