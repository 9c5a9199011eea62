"""What is measured, and which way is better."""

import enum
from dataclasses import dataclass


class MetricKind(enum.Enum):
    """The part that a metric plays."""

    OBJECTIVE = "objective"
    CONSTRAINT = "constraint"
    """Feasible while within ``lower`` and ``upper``."""
    COST = "cost"
    """What a trial spends; adds up against ``Budget.cost``."""
    TRACKED = "tracked"
    """Recorded, not used by the search."""


class Goal(enum.Enum):
    """Which way an objective is better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


class Noise(enum.Enum):
    """What is known about a metric's measurement noise."""

    LEARNED = "learned"
    """Unknown level, estimated from the data."""
    NONE = "none"
    """The same point always measures the same value."""
    REPORTED = "reported"
    """Every told value carries its standard deviation."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured quantity, in the user's own unit."""

    name: str
    kind: MetricKind = MetricKind.OBJECTIVE
    goal: Goal | None = None
    """For an objective; ``None`` otherwise."""
    lower: float | None = None
    """For a constraint: smallest feasible value."""
    upper: float | None = None
    """For a constraint: largest feasible value."""
    noise: Noise = Noise.LEARNED

    @classmethod
    def parse(cls, text: str) -> "Metric":
        """Read ``"accuracy"`` (maximise), ``"-loss"`` (minimise), ``"latency_ms <= 20"``,
        ``"qps >= 100"`` or ``"0.1 <= ratio <= 0.9"``.

        Raises:
            SpecError: The text is none of these.
        """
        raise NotImplementedError
