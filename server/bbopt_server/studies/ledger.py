"""The study that a transaction changes: events get revisions, the row is saved once."""

from dataclasses import dataclass, field
from typing import NamedTuple

from bbopt.errors import NotFoundError, StudyDeletedError
from bbopt.rpc.names import StudyName
from bbopt.specs import StudySpec
from bbopt.trial import Event
from bbopt_server.crash_points import reach
from bbopt_server.storage.store import EventRow, StudyRow, Transaction, TrialRow
from bbopt_server.studies.outside import Outside
from bbopt_server.studies.records import (
    AskedBytes,
    StudyChanged,
    event_to_bytes,
    outcome_from_bytes,
    state_reason_to_bytes,
    told_to_bytes,
)

OPEN = ("QUEUED", "ACTIVE", "STOPPING")
HELD = ("ACTIVE", "STOPPING")
UNCOUNTED = ("FAILED", "ABANDONED")
"""Final states that do not count against ``Budget.trials``."""
LEASE_EXPIRED = "LEASE_EXPIRED"
"""How the message of a trial begins that FAILED because nobody was heard of; a result that
comes after all is still taken.
"""


class HeldLease(NamedTuple):
    """A worker's hold on a trial."""

    study_key: int
    number: int
    token: str
    duration_s: float
    """0: never expires."""


@dataclass(slots=True)
class Effects:
    """What is to happen in memory once a transaction is durable."""

    taken: list[HeldLease] = field(default_factory=list)
    freed: list[tuple[int, int]] = field(default_factory=list)
    """Study key and number of trials that nobody holds any more."""
    changed: set[int] = field(default_factory=set)
    """Keys of studies that have new events."""
    told: dict[int, int] = field(default_factory=dict)
    """How many new final results studies have, by their keys."""
    deleted: list[StudyRow] = field(default_factory=list)
    answered_ready: list[int] = field(default_factory=list)
    """Keys of studies of which an ask was answered with points of the ready queue."""


def find_study(tx: Transaction, name: StudyName) -> StudyRow:
    """Return a study that is not deleted.

    Raises:
        StudyDeletedError: The one that is meant was deleted.
        NotFoundError: There is none, or it is not the one of that name that is meant.
    """
    row = tx.study(name.project, name.study)
    if row is not None and name.uid in ("", row.uid):
        return row
    meant = tx.study_by_uid(name.uid)
    was_deleted = meant is not None and meant.state == "DELETED"
    error = StudyDeletedError if was_deleted else NotFoundError
    if row is None:
        raise error(f"there is no study {name}")
    raise error(f"{name} is another study now: the one that was meant is gone")


def find_trial(tx: Transaction, study: StudyRow, number: int) -> TrialRow:
    """Return a trial.

    Raises:
        NotFoundError: There is none.
    """
    row = tx.trial(study.key, number)
    if row is None:
        name = f"projects/{study.project}/studies/{study.study_id}/trials/{number}"
        raise NotFoundError(f"there is no trial {name}")
    return row


class Ledger:
    """One study inside one transaction.

    Keeps the study's row up to date while events are appended; ``save`` writes it. Whatever
    changes is in an event. Nothing here is remembered after the transaction.
    """

    def __init__(
        self, tx: Transaction, row: StudyRow, outside: Outside, effects: Effects
    ) -> None:
        self.tx = tx
        self.row = self._written = row
        self.at = outside.wall()
        self.outside = outside
        self.effects = effects
        self.spec: StudySpec = outside.specs.spec_of(row)

    def append(self, event: Event | StudyChanged, trial: int | None = None) -> int:
        """Append an event to the log and return its revision."""
        return self._append(*event_to_bytes(event), trial)

    def append_told(self, number: int, outcome: bytes, *, is_late: bool) -> int:
        """Append the serialised outcome of a trial and return the event's revision."""
        return self._append("told", told_to_bytes(number, outcome, is_late=is_late), number)

    def append_asked(self, asked: AskedBytes) -> int:
        """Append an ``Asked`` event and return its revision."""
        return self._append("asked", asked.payload, asked.first_number)

    def _append(self, kind: str, payload: bytes, trial: int | None) -> int:
        revision = self.row.revision + 1
        self.tx.append_event(
            EventRow(
                study_key=self.row.key,
                revision=revision,
                kind=kind,
                trial=trial,
                payload=payload,
                at=self.at,
            )
        )
        reach("ledger.after_event")
        self.row = self.row._replace(revision=revision, updated_at=self.at)
        key, told = self.row.key, self.effects.told
        self.effects.changed.add(key)
        if kind == "told":
            told[key] = told.get(key, 0) + 1
        return revision

    def add_cost(self, trial: TrialRow, *, sign: float = 1.0) -> None:
        """Add what a finished trial spent to the study's total; ``sign=-1`` takes it back."""
        cost = self.spec.problem.cost
        if cost is None or trial.outcome is None:
            return
        measurement = getattr(outcome_from_bytes(trial.outcome), "measurement", None)
        if measurement is not None and cost.name in measurement.metrics:
            spent = sign * measurement.metrics[cost.name].value
            self.row = self.row._replace(cost_spent=self.row.cost_spent + spent)

    def change_state(self, state: str, code: str, message: str) -> None:
        """Move the study to another state and say so in the log."""
        reason = state_reason_to_bytes(code, message)
        etag = self.outside.new_uid()[:16]
        self.row = self.row._replace(state=state, state_reason=reason, etag=etag)
        self.append(StudyChanged(state, reason))
        reach("study.changed")

    def complete_if_spent(self) -> None:
        """Complete an active study whose budget of trials or of cost is spent."""
        budget = self.spec.problem.budget
        if self.row.state != "ACTIVE":
            return
        if budget.trials is not None:
            counts = self.tx.count_trials(self.row.key, states=(*OPEN, *UNCOUNTED))
            if self.row.n_trials - sum(counts.values()) >= budget.trials:
                text = f"{budget.trials} trials have a final result"
                self.change_state("COMPLETED", "TRIAL_BUDGET", text)
                return
        if budget.cost is not None and self.row.cost_spent >= budget.cost:
            text = f"finished trials have spent {self.row.cost_spent:g} of {budget.cost:g}"
            self.change_state("COMPLETED", "COST_BUDGET", text)

    def hold(self, trial: TrialRow) -> None:
        """Note that a worker holds a trial from now on."""
        lease = HeldLease(self.row.key, trial.number, trial.lease_token, trial.lease_duration_s)
        self.effects.taken.append(lease)

    def free(self, number: int) -> None:
        """Note that nobody holds a trial any more."""
        self.effects.freed.append((self.row.key, number))

    def save(self) -> None:
        """Write the study's row if it changed: what was refused leaves no trace, not even of
        its time.
        """
        if self.row is self._written:
            return
        reach("ledger.before_save")
        self.tx.update_study(self.row)
        self._written = self.row
