"""The problem: a space, what is measured in it, and what may be spent."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from bbopt.errors import SpecError, Violation
from bbopt.problem.fidelity import Fidelity, fidelity_violations
from bbopt.problem.metrics import Metric, MetricKind
from bbopt.problem.results import Measured, is_better, is_within, result_violations
from bbopt.problem.validation import budget_violations, metric_violations
from bbopt.space import Parameter, Space
from bbopt.space.parameters import as_real, as_tuple, plain
from bbopt.space.validation import Unread


@dataclass(frozen=True, slots=True)
class Budget:
    """When a study is complete; ``None`` means without limit."""

    trials: int | None = None
    """Trials with a final result (completed, stopped or infeasible) that end the study."""
    cost: float | None = None
    """Sum of the cost metric over finished trials that ends the study."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "trials", plain(self.trials))
        object.__setattr__(self, "cost", as_real(self.cost))


@dataclass(frozen=True, slots=True)
class Problem:
    """What is sought: exactly one objective for now, any number of constraints.

    Raises:
        SpecError: Anything is wrong; every fault is listed.
    """

    space: Space
    metrics: tuple[Metric, ...]
    budget: Budget = field(default_factory=Budget)
    fidelity: Fidelity | None = None
    """How far a trial may be evaluated; ``None``: always in full."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", as_tuple(self.metrics))
        violations = self._violations()
        if violations:
            raise SpecError(violations)

    @classmethod
    def of(
        cls,
        space: Space | Sequence[Parameter],
        objective: str | Metric,
        *,
        constraints: Sequence[str | Metric] = (),
        cost: str | Metric | None = None,
        tracked: Sequence[str | Metric] = (),
        budget: Budget | int | None = None,
        fidelity: Fidelity | None = None,
    ) -> "Problem":
        """Build a problem from the short forms of its parts.

        Args:
            space: A space, or its parameters.
            objective: ``"accuracy"`` to maximise, ``"-loss"`` to minimise, or a metric.
            constraints: Such as ``"latency_ms <= 20"``, or metrics.
            cost: The metric that a trial spends.
            tracked: Metrics that are only recorded.
            budget: A budget, or a number of trials.
            fidelity: How far a trial may be evaluated.

        Raises:
            SpecError: Anything is wrong; every fault is listed.
        """
        for name, several in (("constraints", constraints), ("tracked", tracked)):
            if isinstance(several, str):
                raise SpecError.of(name, f"must be a list, such as [{several!r}]")
        given = [(objective, MetricKind.OBJECTIVE)]
        given += [(constraint, MetricKind.CONSTRAINT) for constraint in constraints]
        given += [] if cost is None else [(cost, MetricKind.COST)]
        given += [(metric, MetricKind.TRACKED) for metric in tracked]
        metrics: list[Metric] = []
        violations: list[Violation] = []
        for metric, kind in given:
            try:
                metrics.append(_metric_of(metric, kind))
            except SpecError as error:
                violations += error.violations
        if violations:
            raise SpecError(violations)
        return cls(
            space if isinstance(space, Space) else Space(tuple(space)),
            tuple(metrics),
            budget if isinstance(budget, Budget) else Budget(trials=budget),
            fidelity,
        )

    @property
    def objective(self) -> Metric:
        """The one objective."""
        return self._of_kind(MetricKind.OBJECTIVE)[0]

    @property
    def constraints(self) -> tuple[Metric, ...]:
        """The constraint metrics, in order."""
        return self._of_kind(MetricKind.CONSTRAINT)

    @property
    def cost(self) -> Metric | None:
        """The cost metric, if there is one."""
        return next(iter(self._of_kind(MetricKind.COST)), None)

    def metric(self, name: str) -> Metric:
        """Return the metric of that name.

        Raises:
            KeyError: There is none.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(name)

    def check_metrics(self, names: Mapping[str, object]) -> list[Violation]:
        """List unknown and missing metrics of a final result."""
        return self._unknown(names) + [
            Violation(f"metrics[{metric.name}]", f"the {metric.kind.value} is missing")
            for metric in self.metrics
            if metric.kind is not MetricKind.TRACKED and metric.name not in names
        ]

    def check_result(
        self, metrics: Mapping[str, Measured], *, partial: bool = False
    ) -> list[Violation]:
        """List what is wrong with a measurement.

        Args:
            metrics: What was measured, by metric.
            partial: Whether metrics may be missing: an intermediate report, a stopped or
                infeasible trial.

        Returns:
            Unknown and missing metrics, values that are not finite, negative costs, and
            standard deviations that are wrong or missing though declared as reported.
        """
        violations = self._unknown(metrics) if partial else self.check_metrics(metrics)
        return violations + result_violations(self.metrics, metrics)

    def is_feasible(self, values: Mapping[str, Measured]) -> bool:
        """Say whether a result satisfies every constraint; one not measured is not met."""
        return all(is_within(constraint, values) for constraint in self.constraints)

    def better(self, a: Mapping[str, Measured], b: Mapping[str, Measured]) -> bool:
        """Say whether result ``a`` is strictly better than ``b``, in user units.

        A feasible result beats an infeasible one; two feasible ones are compared by the
        objective; of two infeasible ones the better misses its bounds by less in sum. A
        result without the objective is beaten by any other.
        """
        return is_better(self.objective, self.constraints, a, b)

    def _unknown(self, names: Mapping[str, object]) -> list[Violation]:
        known = {metric.name for metric in self.metrics}
        return [
            Violation(f"metrics[{name}]", "there is no such metric")
            for name in names
            if name not in known
        ]

    def _of_kind(self, kind: MetricKind) -> tuple[Metric, ...]:
        return tuple(metric for metric in self.metrics if metric.kind is kind)

    def _violations(self) -> list[Violation]:
        violations: list[Violation] = []
        names: Sequence[str] = ()
        if isinstance(self.space, Space):
            names = self.space.names
        else:
            violations.append(Violation("space", "must be a Space"))
        return violations + problem_violations(
            self.metrics, self.budget, self.fidelity, parameter_names=names
        )


def problem_violations(
    metrics: Sequence[object],
    budget: Budget,
    fidelity: Fidelity | None,
    *,
    parameter_names: Collection[str],
) -> list[Violation]:
    """List every fault of a problem but those of its space; fields as in Python."""
    has_cost = any(
        isinstance(each, Unread) or getattr(each, "kind", None) is MetricKind.COST
        for each in metrics
    )
    return [
        *metric_violations(metrics, parameter_names=parameter_names),
        *fidelity_violations(fidelity),
        *budget_violations(budget.trials, budget.cost, has_cost=has_cost),
    ]


def _metric_of(metric: str | Metric, kind: MetricKind) -> Metric:
    """Read a metric that was given as text, and see that it plays the part it was given."""
    if isinstance(metric, str):
        if kind in (MetricKind.COST, MetricKind.TRACKED):
            return Metric(metric, kind)
        metric = Metric.parse(metric)
    if not isinstance(metric, Metric):
        kind_given = type(metric).__name__
        raise SpecError.of(kind.value, f"must be text or a Metric, got {kind_given}")
    if metric.kind is not kind:
        raise SpecError.of(
            f"metrics[{metric.name}].kind", f"must be a {kind.value}, got a {metric.kind.value}"
        )
    return metric
