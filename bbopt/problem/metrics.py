"""What is measured, and which way is better."""

import enum
import math
from dataclasses import dataclass

from bbopt.errors import SpecError
from bbopt.space.parameters import as_real


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
    """One measured quantity, in the user's own unit.

    Names of enum members are accepted for ``kind``, ``goal`` and ``noise``. Whether the
    metric makes sense is for the ``Problem`` to say, which lists every fault at once.
    """

    name: str
    kind: MetricKind = MetricKind.OBJECTIVE
    goal: Goal | None = None
    """For an objective; ``None`` otherwise."""
    lower: float | None = None
    """For a constraint: smallest feasible value."""
    upper: float | None = None
    """For a constraint: largest feasible value."""
    noise: Noise = Noise.LEARNED

    def __post_init__(self) -> None:
        for field in ("lower", "upper"):
            object.__setattr__(self, field, as_real(getattr(self, field)))
        for field, members in (("kind", MetricKind), ("goal", Goal), ("noise", Noise)):
            given = getattr(self, field)
            if isinstance(given, str):
                named = {member.value: member for member in members}
                object.__setattr__(self, field, named.get(given.lower(), given))

    @classmethod
    def parse(cls, text: str) -> "Metric":
        """Read ``"accuracy"`` (maximise), ``"-loss"`` (minimise), ``"latency_ms <= 20"``,
        ``"qps >= 100"`` or ``"0.1 <= ratio <= 0.9"``.

        Raises:
            SpecError: The text is none of these.
        """
        from bbopt.problem.grammar import Bounds, Direction, read

        match read(text):
            case str(fault):
                raise SpecError.of("metrics", fault)
            case Direction(name, is_minimized):
                goal = Goal.MINIMIZE if is_minimized else Goal.MAXIMIZE
                return cls(name, MetricKind.OBJECTIVE, goal)
            case Bounds(name, lower, upper):
                return cls(name, MetricKind.CONSTRAINT, None, lower, upper)

    @property
    def is_maximized(self) -> bool:
        """Whether larger is better (an objective without a goal does not get here)."""
        return self.goal is Goal.MAXIMIZE

    def violation(self, value: float) -> float:
        """Return by how much a value misses this constraint's bounds; 0 where feasible.

        In units of the bound's magnitude, so that constraints can be compared.
        """
        below = 0.0 if self.lower is None else (self.lower - value) / _unit(self.lower)
        above = 0.0 if self.upper is None else (value - self.upper) / _unit(self.upper)
        return max(below, above, 0.0)


def _unit(bound: float) -> float:
    return abs(bound) if bound != 0 and math.isfinite(bound) else 1.0
