"""What can happen in a study: the events of its append-only log.

A log is the truth about a study; everything else (trials, columns, models) is folded from
it. Events are never changed: a correction is an event. An event's position in the log,
counted from 1, is the study's *revision*.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from bbopt.space import ParamValue
from bbopt.trial.state import StrategyState
from bbopt.trial.trial import Measurement, Outcome, Provenance, Stage


@dataclass(frozen=True, slots=True)
class NewTrial:
    """A trial that an ask created."""

    number: int
    parameters: Mapping[str, ParamValue]
    provenance: Provenance
    stage: Stage | None = None
    """``None`` where the problem has no fidelity."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A strategy's suggestions became trials.

    ``state`` is the strategy's state *after* this ask (``None`` when a fallback answered
    and the strategy did not move). Folding the event adopts it: live state and state that
    is rebuilt after a crash come from the same place.
    """

    trials: tuple[NewTrial, ...]
    state: StrategyState | None


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A person asked for this point to be evaluated; it waits as a QUEUED trial."""

    trial: NewTrial


@dataclass(frozen=True, slots=True)
class Leased:
    """A worker took a trial (again)."""

    number: int
    worker: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Requeued:
    """A trial lost its worker (lease expired, released, failed and retryable) and waits."""

    number: int
    message: str
    attempt: int
    """The attempt that will run next."""


@dataclass(frozen=True, slots=True)
class Reported:
    """An intermediate measurement arrived."""

    number: int
    measurement: Measurement


@dataclass(frozen=True, slots=True)
class StopRequested:
    """A person or a rule asked for the trial to stop early."""

    number: int
    message: str


@dataclass(frozen=True, slots=True)
class Told:
    """A trial has its final outcome."""

    number: int
    outcome: Outcome
    late: bool = False
    """The lease was gone when the result came."""


@dataclass(frozen=True, slots=True)
class Amended:
    """A final outcome was corrected."""

    number: int
    outcome: Outcome
    message: str


Event: TypeAlias = (
    Asked | Enqueued | Leased | Requeued | Reported | StopRequested | Told | Amended
)
