"""Test problems with known optima; numpy only."""

from bbopt.problems.continuous import ackley, branin, hartmann6, levy, rosenbrock
from bbopt.problems.known import KnownProblem
from bbopt.problems.structured import constrained_gramacy, mixed_conditional

__all__ = [
    "KnownProblem",
    "ackley",
    "branin",
    "constrained_gramacy",
    "hartmann6",
    "levy",
    "mixed_conditional",
    "rosenbrock",
]
