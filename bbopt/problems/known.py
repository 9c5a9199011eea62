"""``KnownProblem``: a problem whose answer is known, to test and compare strategies on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bbopt.problem import Goal, Problem
from bbopt.space import ParamValue


@dataclass(frozen=True, slots=True)
class KnownProblem:
    """A problem, its function and its optimum."""

    name: str
    problem: Problem
    evaluate: Callable[[Mapping[str, ParamValue]], dict[str, float]]
    """Measures every metric at a point in user units, without noise."""
    optimum: float
    """The objective's best feasible value."""
    optimizer: Mapping[str, ParamValue]
    """A point that reaches it (to the digits given by its source)."""

    def regret(self, value: float) -> float:
        """Return by how much a feasible value misses the optimum; 0 is perfect."""
        if self.problem.objective.goal is Goal.MAXIMIZE:
            return self.optimum - value
        return value - self.optimum
