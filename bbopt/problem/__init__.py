"""What is sought: metrics, budgets, the problem."""

from bbopt.problem.metrics import Goal, Metric, MetricKind, Noise
from bbopt.problem.problem import Budget, Problem

__all__ = ["Budget", "Goal", "Metric", "MetricKind", "Noise", "Problem"]
