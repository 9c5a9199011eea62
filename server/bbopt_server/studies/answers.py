"""What the rules answer: rows as they stand, with what the rows do not hold."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from bbopt.errors import BboptError
from bbopt.rpc.names import StudyName
from bbopt_server.storage.store import EventRow, StudyRow, TrialRow


@dataclass(frozen=True, slots=True)
class StudyView:
    """One study and how many trials it has in each state."""

    row: StudyRow
    counts: Mapping[str, int]
    set_aside_until: float | None = None
    """Unix time until which no model answers its asks; ``None``: it is well."""


@dataclass(frozen=True, slots=True)
class TrialView:
    """One trial as a caller may see it."""

    study: StudyName
    row: TrialRow
    lease_expires_at: float | None = None
    """Unix seconds; ``None``: never, or nobody holds the trial."""
    is_for_holder: bool = False
    """Only the holder is shown the lease token."""
    measurements: tuple[bytes, ...] = ()


class AskReason(enum.Enum):
    """Why an answer has the trials that it has."""

    COUNT_MET = "count_met"
    WAITING_FOR_RESULTS = "waiting_for_results"
    """Nothing (more) can be handed out until results come, a trial comes back, or
    ``retry_after`` has passed.
    """
    SPACE_EXHAUSTED = "space_exhausted"
    BUDGET_EXHAUSTED = "budget_exhausted"
    """The study is complete because its budget is spent."""
    STUDY_NOT_ACTIVE = "study_not_active"
    TIMED_OUT = "timed_out"
    """Waited as long as the caller allowed, and nothing could be handed out."""


@dataclass(frozen=True, slots=True)
class AskAnswer:
    """Trials that now belong to the worker."""

    trials: tuple[TrialView, ...]
    reason: AskReason
    study_state: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What became of one item of a batch."""

    trial: str
    """As the caller named it."""
    state: str = ""
    """Empty where there is no such trial."""
    error: BboptError | None = None
    was_duplicate: bool = False
    was_late: bool = False


@dataclass(frozen=True, slots=True)
class TellAnswer:
    """What became of a batch of outcomes."""

    results: tuple[ItemResult, ...]
    revision: int
    study_state: str


class Action(enum.Enum):
    """What a worker is to do with a trial."""

    CONTINUE = "continue"
    STOP_EARLY = "stop_early"
    CANCEL = "cancel"
    LEASE_LOST = "lease_lost"


@dataclass(frozen=True, slots=True)
class Directive:
    """The order for one trial."""

    trial: str
    action: Action
    reason: str = ""
    lease_expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class ReportAnswer:
    """What a worker learns from reporting."""

    should_stop: bool
    reason: str
    lease_expires_at: float | None


@dataclass(frozen=True, slots=True)
class TrialPage:
    """Some trials, and where the next ones begin."""

    trials: tuple[TrialView, ...]
    next_page_token: str
    revision: int


@dataclass(frozen=True, slots=True)
class StudyPage:
    """Some studies, and where the next ones begin."""

    studies: tuple[StudyView, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a log with what it changed."""

    event: EventRow
    study: StudyView | None = None
    trial: TrialView | None = None
    measurement: bytes | None = None


@dataclass(frozen=True, slots=True)
class Best:
    """The trial to deploy."""

    trial: TrialView | None
    is_feasible: bool
    reason: str
