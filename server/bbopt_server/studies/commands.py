"""What callers want, as the domain says it: one class per request, free of the wire."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from bbopt.errors import Violation
from bbopt.problem import Problem
from bbopt.rpc.names import StudyName
from bbopt.space import ParamValue
from bbopt.specs import StudySpec
from bbopt.trial import Measurement, Outcome, Value

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Call(Generic[A]):
    """One mutation as its caller identifies it, and how its answer is written down.

    The answer is stored as bytes in the transaction that made it true, so that the same
    call, sent again, gets the same bytes.
    """

    method: str
    request_id: str
    body_hash: bytes
    """Of the whole request, deterministic: one id must not serve two requests."""
    encode: Callable[[A], bytes]


class IfExists(enum.Enum):
    """What to do when the name of a new study is taken."""

    FAIL = "fail"
    LOAD_IF_SPEC_EQUAL = "load_if_spec_equal"
    LOAD = "load"


@dataclass(frozen=True, slots=True)
class CreateStudy:
    """Found a study."""

    name: StudyName
    spec: StudySpec
    """No seed asks for one to be drawn."""
    display_name: str
    labels: Mapping[str, str]
    if_exists: IfExists
    is_trial_run: bool
    """Check everything, create nothing."""


@dataclass(frozen=True, slots=True)
class DeleteStudy:
    """Hide a study and free its name."""

    name: StudyName
    etag: str
    """Empty: whatever its version."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Hand out trials."""

    study: StudyName
    count: int
    worker: str
    lease_duration_s: float | None = None
    """``None``: the study's."""
    max_wait_s: float | None = None
    """How long to wait for something to hand out; ``None``: until the deadline is near."""
    allows_fallback: bool = True


@dataclass(frozen=True, slots=True)
class Misread:
    """A message of measured numbers that is wrong whatever the study; with the numbers, since
    the study may find more.
    """

    faults: tuple[Violation, ...]
    path: str = ""
    """Where the numbers are, e.g. ``outcome.completed``."""
    metrics: Mapping[str, Value] = field(default_factory=dict)
    is_partial: bool = True

    def all_faults(self, problem: Problem) -> list[Violation]:
        """List what is wrong by itself, then what the problem says; each field once."""
        named = {each.field for each in self.faults}
        more = problem.check_result(self.metrics, partial=self.is_partial)
        found = [Violation(f"{self.path}.{each.field}", each.message) for each in more]
        return [*self.faults, *(each for each in found if each.field not in named)]


@dataclass(frozen=True, slots=True)
class TellItem:
    """The final outcome of one trial, or what was wrong with the message that held it."""

    trial: str
    """As the caller named it."""
    number: int
    """0 where the name could not be read."""
    lease_token: str
    outcome: Outcome | Misread


@dataclass(frozen=True, slots=True)
class Tell:
    """Record final outcomes."""

    study: StudyName
    items: tuple[TellItem, ...]
    is_atomic: bool


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that a worker believes to hold."""

    trial: str
    number: int
    lease_token: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Say that the worker of these trials is alive."""

    study: StudyName
    held: tuple[Held, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """Hand trials back so that another worker runs the same points."""

    study: StudyName
    held: tuple[Held, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """Record intermediate measurements of a trial that is being run."""

    study: StudyName
    number: int
    lease_token: str
    measurements: tuple[Measurement | Misread, ...]

    @property
    def faults(self) -> list[Violation]:
        """What is wrong whatever the study."""
        return [
            fault
            for each in self.measurements
            if isinstance(each, Misread)
            for fault in each.faults
        ]


@dataclass(frozen=True, slots=True)
class CreateTrial:
    """Enqueue a point, or record an observation that is already there."""

    study: StudyName
    parameters: Mapping[str, ParamValue]
    outcome: Outcome | Misread | None
    labels: Mapping[str, str]
    faults: tuple[Violation, ...] = ()
    """What is wrong with the rest whatever the study; such parameters are left out."""

    @property
    def all_faults(self) -> tuple[Violation, ...]:
        """What is wrong whatever the study."""
        misread = self.outcome.faults if isinstance(self.outcome, Misread) else ()
        return (*self.faults, *misread)


@dataclass(frozen=True, slots=True)
class AmendTrial:
    """Correct a final outcome."""

    study: StudyName
    number: int
    outcome: Outcome | Misread
    reason: str


@dataclass(frozen=True, slots=True)
class StopTrial:
    """End a trial early."""

    study: StudyName
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class ListTrials:
    """Page through trials."""

    study: StudyName
    page_size: int
    page_token: str
    states: tuple[str, ...]
    since_revision: int
