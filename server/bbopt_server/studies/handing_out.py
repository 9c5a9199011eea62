"""Turning points into trials, and trials into somebody's: the queue before what is fresh."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from bbopt.specs import StudySpec
from bbopt.stopping import initial_stage
from bbopt.trial import Requeued
from bbopt_server.crash_points import reach
from bbopt_server.storage.store import StudyRow, TrialRow
from bbopt_server.studies.answers import AskAnswer, AskReason, TrialView
from bbopt_server.studies.commands import Ask, Call
from bbopt_server.studies.idempotency import store_answer
from bbopt_server.studies.leasing import LeaseTerms, take
from bbopt_server.studies.ledger import Ledger
from bbopt_server.studies.records import (
    AskedBytes,
    asked_to_bytes,
    begun_at,
    trial_labels_to_bytes,
)
from bbopt_server.studies.room import Room

RETRY_AFTER_S = 1.0
"""When to ask again where only a result, or a trial that comes back, can help."""

_NO_LABELS = trial_labels_to_bytes({})


@dataclass(frozen=True, slots=True)
class CallerAsk:
    """An ask with the identity of its call."""

    ask: Ask
    call: Call[AskAnswer]


@dataclass(frozen=True, slots=True)
class Answered:
    """The ask is answered, for good."""

    response: bytes


@dataclass(frozen=True, slots=True)
class MustWait:
    """Nothing can be handed out until something happens to the study."""

    study: StudyRow


@dataclass(frozen=True, slots=True)
class Points:
    """Points for the trials of one ``Asked`` event."""

    suggestions: Sequence[bytes]
    """As ``suggestion_to_bytes`` writes them."""
    state: bytes | None
    """The strategy's, serialised."""
    revision: int
    """Last event that they have seen."""
    asked: AskedBytes | None = None
    """The event that they make after that one, where it was written down beforehand."""


def written_down(points: Points, row: StudyRow, spec: StudySpec) -> Points:
    """Return points, at least one, with the event that they make as the study's next trials."""
    begins = initial_stage(spec.problem, spec.strategy)
    trials = points.suggestions
    if begins is not None:
        trials = [begun_at(each, begins) for each in trials]
    return replace(points, asked=asked_to_bytes(row.n_trials + 1, trials, points.state))


class Created(NamedTuple):
    """A trial that an event of this transaction created; it has no row yet."""

    number: int
    point: bytes
    """``NewTrial``."""
    revision: int
    """Of the event."""


def _create(ledger: Ledger, points: Points) -> list[Created]:
    """Append the ``Asked`` event of points; return its trials."""
    if not points.suggestions:
        return []
    first, asked = ledger.row.n_trials + 1, points.asked
    if asked is None or asked.first_number != first:
        asked = written_down(points, ledger.row, ledger.spec).asked
        assert asked is not None  # noqa: S101 - it was just written down.
    ledger.row = ledger.row._replace(n_trials=ledger.row.n_trials + len(asked.trials))
    revision = ledger.append_asked(asked)
    return [
        Created(number, point, revision)
        for number, point in enumerate(asked.trials, start=first)
    ]


def new_row(ledger: Ledger, created: Created, terms: LeaseTerms | None = None) -> TrialRow:
    """Build the row of a new trial; without ``terms`` it waits for a worker."""
    return TrialRow(
        study_key=ledger.row.key,
        number=created.number,
        state="QUEUED" if terms is None else "ACTIVE",
        state_message="",
        point=created.point,
        outcome=None,
        labels=_NO_LABELS,
        attempt=1,
        worker="" if terms is None else terms.worker,
        lease_token="" if terms is None else ledger.outside.new_token(),
        lease_duration_s=0.0 if terms is None else terms.duration_s,
        late=False,
        feasible=None,
        amendments=0,
        revision=created.revision,
        created_at=ledger.at,
        started_at=None if terms is None else ledger.at,
        ended_at=None,
    )


@dataclass(slots=True)
class Stock:
    """What a transaction can still hand out."""

    n_queued: int
    n_allowed: int
    """By the budget, queued or fresh."""
    fresh: list[Created]
    """Of the ``Asked`` event of this transaction."""


def stock_of(ledger: Ledger, room: Room, points: Points | None = None) -> Stock:
    """Add points to what there is room for."""
    fresh = [] if points is None else _create(ledger, points)
    return Stock(room.n_queued, room.n_hand_out, fresh)


def serve(ledger: Ledger, caller: CallerAsk, stock: Stock) -> Answered | MustWait:
    """Give an ask what there is, queued trials before fresh ones, and store its answer."""
    ask = caller.ask
    duration_s = ask.lease_duration_s
    if duration_s is None:
        duration_s = ledger.spec.lease.duration_s
    terms = LeaseTerms(ask.worker, duration_s)
    rows = _take_queued(ledger, stock, min(ask.count, stock.n_allowed), terms)
    while stock.fresh and len(rows) < min(ask.count, stock.n_allowed):
        rows.append(_take_fresh(ledger, stock.fresh.pop(0), terms))
    stock.n_allowed -= len(rows)
    if not rows:
        return MustWait(ledger.row)
    expires_at = ledger.at + duration_s if duration_s > 0 else None
    is_met = len(rows) == ask.count
    answer = AskAnswer(
        tuple(TrialView(ask.study, row, expires_at, is_for_holder=True) for row in rows),
        AskReason.COUNT_MET if is_met else AskReason.WAITING_FOR_RESULTS,
        ledger.row.state,
        None if is_met else RETRY_AFTER_S,
    )
    project = ask.study.project
    return Answered(store_answer(ledger.tx, project, caller.call, answer=answer, at=ledger.at))


def _take_queued(ledger: Ledger, stock: Stock, count: int, terms: LeaseTerms) -> list[TrialRow]:
    """Hand out waiting trials, lowest number first."""
    if stock.n_queued == 0 or count == 0:
        return []
    waiting = ledger.tx.trials(ledger.row.key, states=("QUEUED",), limit=count)
    stock.n_queued -= len(waiting)
    return [take(ledger, row, terms) for row in waiting]


def _take_fresh(ledger: Ledger, created: Created, terms: LeaseTerms) -> TrialRow:
    """Hand out a trial of the ``Asked`` event that was just appended, which implies it."""
    taken = new_row(ledger, created, terms)
    reach("ask.before_row")
    ledger.tx.insert_trial(taken)
    ledger.hold(taken)
    return taken


def leave_waiting(ledger: Ledger, created: Created) -> None:
    """Queue a trial whose asker needs it no longer."""
    text = "nobody waits for it any more"
    row = new_row(ledger, created)
    revision = ledger.append(Requeued(row.number, text, row.attempt), row.number)
    waiting = row._replace(state_message=text, revision=revision)
    ledger.tx.insert_trial(waiting)
