"""The problem: a space, what is measured in it, and what may be spent."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bbopt.errors import Violation
from bbopt.problem.metrics import Metric
from bbopt.space import Space


@dataclass(frozen=True, slots=True)
class Budget:
    """When a study is complete; ``None`` means without limit."""

    trials: int | None = None
    """Trials with a final result (completed, stopped or infeasible) that end the study."""
    cost: float | None = None
    """Sum of the cost metric over finished trials that ends the study."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is sought: exactly one objective for now, any number of constraints.

    Raises:
        SpecError: Anything is wrong; every fault is listed.
    """

    space: Space
    metrics: tuple[Metric, ...]
    budget: Budget = field(default_factory=Budget)

    @property
    def objective(self) -> Metric:
        """The one objective."""
        raise NotImplementedError

    @property
    def constraints(self) -> tuple[Metric, ...]:
        """The constraint metrics, in order."""
        raise NotImplementedError

    @property
    def cost(self) -> Metric | None:
        """The cost metric, if there is one."""
        raise NotImplementedError

    def check_metrics(self, names: Mapping[str, object]) -> list[Violation]:
        """List unknown and missing metrics of a final result."""
        raise NotImplementedError
