"""A trial: a point handed out or enqueued, and what became of it."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from bbopt.space import ParamValue


class TrialState(enum.Enum):
    """Where a trial is in its life."""

    QUEUED = "queued"
    """Waiting for a worker: enqueued by a person, or requeued after a lost lease."""
    ACTIVE = "active"
    """Held by a worker."""
    STOPPING = "stopping"
    """Held by a worker that has been asked to stop."""
    COMPLETED = "completed"
    STOPPED = "stopped"
    """Ended early; its partial result is used."""
    INFEASIBLE = "infeasible"
    """The point is to blame; the strategy learns from it."""
    FAILED = "failed"
    """The machine is to blame; the strategy does not learn from it."""
    ABANDONED = "abandoned"
    """Given up by a person."""

    @property
    def is_final(self) -> bool:
        """Whether the trial has left the workers' hands."""
        return self not in (TrialState.QUEUED, TrialState.ACTIVE, TrialState.STOPPING)


@dataclass(frozen=True, slots=True)
class Value:
    """One measured number."""

    value: float
    """In the metric's own unit; finite."""
    sd: float | None = None
    """Standard deviation of ``value`` (of the mean, over replicates); non-negative."""
    replicates: int = 1
    """How many measurements were averaged."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The metrics of a trial at one step, or at its end."""

    metrics: Mapping[str, Value]
    step: int | None = None
    """Training step, epoch or other progress counter of an intermediate report."""
    elapsed_s: float | None = None
    """Seconds since the trial started, as the worker measured them."""


@dataclass(frozen=True, slots=True)
class Completed:
    """The trial ran to its end."""

    measurement: Measurement


@dataclass(frozen=True, slots=True)
class Stopped:
    """The trial was ended early; what it measured is data."""

    measurement: Measurement


@dataclass(frozen=True, slots=True)
class Infeasible:
    """The point cannot be evaluated: a crash that the parameters cause."""

    message: str = ""
    measurement: Measurement | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker or its machine failed; the point says nothing."""

    message: str = ""
    retryable: bool = True
    """Run the same point again while attempts are left."""
    measurement: Measurement | None = None


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A person gave the trial up."""

    message: str = ""


Outcome: TypeAlias = Completed | Stopped | Infeasible | Failed | Abandoned


@dataclass(frozen=True, slots=True)
class Predicted:
    """What the model expected of a metric at the suggested point, in user units."""

    mean: float
    sd: float


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a suggestion came from."""

    generator: str
    """``sobol``, ``random``, ``gp``, ``default``, ``enqueued``, ``fallback`` ..."""
    data_revision: int = 0
    """Last event of the log that the suggestion has seen."""
    degraded_from: str = ""
    """The generator that should have answered, when a deadline or a failure forbade it."""
    reason: str = ""
    """Why it was degraded, or why ``auto`` chose this generator."""
    acquisition_value: float | None = None
    predicted: Mapping[str, Predicted] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stage:
    """How far a trial takes the evaluation of its configuration, and what it continues.

    A *configuration* is a point that is evaluated further and further, by one trial or by
    several of which each resumes the one before.
    """

    fidelity: int
    """Evaluate up to this many steps of ``Problem.fidelity``, counted from the beginning of the
    configuration.
    """
    resume_from: int | None = None
    """Number of the trial whose run this one continues, from its checkpoint if it left one."""
    configuration: int | None = None
    """Number of the configuration's first trial; ``None``: this one."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A point that a strategy computed and nobody holds yet, in user units."""

    parameters: Mapping[str, ParamValue]
    provenance: Provenance
    stage: Stage | None = None
    """``None``: the strategy does not care, or there is no fidelity."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A snapshot of one trial."""

    number: int
    """From 1, without gaps, in the order of asking."""
    parameters: Mapping[str, ParamValue]
    state: TrialState
    provenance: Provenance
    outcome: Outcome | None = None
    attempt: int = 1
    stage: Stage | None = None
    """``None`` where the problem has no fidelity."""
