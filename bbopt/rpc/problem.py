"""Metrics, fidelities and budgets <-> messages."""

from bbopt.errors import SpecError
from bbopt.problem import Budget, Fidelity, Goal, Metric, MetricKind, Noise
from bbopt.rpc.enums import known
from bbopt.rpc.v1 import study_pb2
from bbopt.rpc.violations import Violations

_KIND_TO_MESSAGE = {
    MetricKind.OBJECTIVE: study_pb2.Metric.KIND_OBJECTIVE,
    MetricKind.CONSTRAINT: study_pb2.Metric.KIND_CONSTRAINT,
    MetricKind.COST: study_pb2.Metric.KIND_COST,
    MetricKind.TRACKED: study_pb2.Metric.KIND_TRACKED,
}
_KIND_FROM_MESSAGE = {number: kind for kind, number in _KIND_TO_MESSAGE.items()}

_GOAL_TO_MESSAGE = {
    None: study_pb2.Metric.GOAL_UNSPECIFIED,
    Goal.MINIMIZE: study_pb2.Metric.GOAL_MINIMIZE,
    Goal.MAXIMIZE: study_pb2.Metric.GOAL_MAXIMIZE,
}
_GOAL_FROM_MESSAGE = {number: goal for goal, number in _GOAL_TO_MESSAGE.items()}

_NOISE_TO_MESSAGE = {
    Noise.LEARNED: study_pb2.Metric.NOISE_LEARNED,
    Noise.NONE: study_pb2.Metric.NOISE_NONE,
    Noise.REPORTED: study_pb2.Metric.NOISE_REPORTED,
}
_NOISE_FROM_MESSAGE = {number: noise for noise, number in _NOISE_TO_MESSAGE.items()} | {
    study_pb2.Metric.NOISE_UNSPECIFIED: Noise.LEARNED
}

_DEFAULT_ETA = 3


def metric_to_message(metric: Metric) -> study_pb2.Metric:
    """Write a metric."""
    return study_pb2.Metric(
        id=metric.name,
        kind=_KIND_TO_MESSAGE[metric.kind],
        goal=_GOAL_TO_MESSAGE[metric.goal],
        lower=metric.lower,
        upper=metric.upper,
        noise=_NOISE_TO_MESSAGE[metric.noise],
    )


def metric_from_message(message: study_pb2.Metric) -> Metric:
    """Read a metric.

    Raises:
        SpecError: The id or the kind is missing, or a value is not a known one.
    """
    violations = Violations(SpecError)
    violations.require(message.id, "id", "must not be empty")
    with violations.within("kind"):
        kind = known(message.kind, _KIND_FROM_MESSAGE)
    with violations.within("goal"):
        goal = known(message.goal, _GOAL_FROM_MESSAGE)
    with violations.within("noise"):
        noise = known(message.noise, _NOISE_FROM_MESSAGE)
    violations.check()
    return Metric(
        message.id,
        kind=kind,
        goal=goal,
        lower=message.lower if message.HasField("lower") else None,
        upper=message.upper if message.HasField("upper") else None,
        noise=noise,
    )


def fidelity_to_message(fidelity: Fidelity) -> study_pb2.Fidelity:
    """Write a fidelity."""
    return study_pb2.Fidelity(
        id=fidelity.name, low=fidelity.low, high=fidelity.high, eta=fidelity.eta
    )


def fidelity_from_message(message: study_pb2.Fidelity) -> Fidelity:
    """Read a fidelity; whether it makes sense is for the problem to say."""
    return Fidelity(message.id, message.low, message.high, message.eta or _DEFAULT_ETA)


def budget_to_message(budget: Budget) -> study_pb2.Budget:
    """Write a budget; what has no limit is left out."""
    return study_pb2.Budget(max_trials=budget.trials, max_cost=budget.cost)


def budget_from_message(message: study_pb2.Budget) -> Budget:
    """Read a budget."""
    return Budget(
        trials=message.max_trials if message.HasField("max_trials") else None,
        cost=message.max_cost if message.HasField("max_cost") else None,
    )
