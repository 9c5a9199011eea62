"""What is sought: metrics, fidelity, budgets, the problem."""

from bbopt.problem.fidelity import Fidelity
from bbopt.problem.metrics import Goal, Metric, MetricKind, Noise
from bbopt.problem.problem import Budget, Problem

__all__ = ["Budget", "Fidelity", "Goal", "Metric", "MetricKind", "Noise", "Problem"]
