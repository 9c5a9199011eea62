"""What an ask hands out: waiting trials first, then what the strategy computed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from bbopt.errors import BboptError, ExhaustedError, NotFoundError
from bbopt.specs import StudySpec
from bbopt.trial import Asked, NewTrial, Requeued, StrategyState, Suggestion
from bbopt_server.storage.store import StudyRow, Transaction, TrialRow
from bbopt_server.studies.answers import AskAnswer, AskReason, TrialView
from bbopt_server.studies.commands import Ask, Call
from bbopt_server.studies.idempotency import store_answer, stored_answer
from bbopt_server.studies.leasing import LeaseTerms, take
from bbopt_server.studies.ledger import HELD, OPEN, UNCOUNTED, Effects, Ledger, find_study
from bbopt_server.studies.outside import Outside
from bbopt_server.studies.records import (
    has_state,
    new_trial_to_bytes,
    state_reason_code,
    trial_labels_to_bytes,
)

MAX_COUNT = 256
"""Trials that one ask may want."""
MAX_OPEN = 1000
"""Trials of one study that may be queued or held at a time."""
MAX_TRIALS = 100_000
"""Trials of one study."""
RETRY_AFTER_S = 1.0
"""When to ask again where only a result, or a trial that comes back, can help."""

_NO_LABELS = trial_labels_to_bytes({})


@dataclass(frozen=True, slots=True)
class Room:
    """How many trials a study has left to give."""

    n_open: int
    n_queued: int
    n_hand_out: int
    """Trials, queued or new, that may be handed out now."""
    n_new: int
    """Trials that may be created now."""


def room_of(tx: Transaction, row: StudyRow, spec: StudySpec) -> Room:
    """Count what a study may still hand out: never more than its budget has open.

    Finished trials are many, so they are not counted but subtracted.
    """
    counts = tx.count_trials(row.key, states=(*OPEN, *UNCOUNTED))
    n_queued = counts.get("QUEUED", 0)
    n_held = sum(counts.get(state, 0) for state in HELD)
    n_open = n_queued + n_held
    n_new = min(MAX_OPEN - n_open, MAX_TRIALS - row.n_trials)
    n_hand_out = MAX_OPEN
    if spec.problem.budget.trials is not None:
        n_left = spec.problem.budget.trials - (row.n_trials - sum(counts.values()))
        n_new = min(n_new, n_left - n_open)
        n_hand_out = n_left - n_held
    return Room(n_open, n_queued, max(0, n_hand_out), max(0, n_new))


@dataclass(frozen=True, slots=True)
class Answered:
    """The ask is answered, for good."""

    response: bytes


@dataclass(frozen=True, slots=True)
class NeedsPoints:
    """The ask needs points that nobody has computed yet."""

    study: StudyRow
    n_new: int
    """Beside those that wait in the queue."""
    n_room: int
    """The most that may be created for all asks together."""


@dataclass(frozen=True, slots=True)
class MustWait:
    """Nothing can be handed out until something happens to the study."""

    study: StudyRow


Outlook: TypeAlias = Answered | NeedsPoints | MustWait


@dataclass(frozen=True, slots=True)
class Stale:
    """The points were computed from a log that has grown since in a way that matters."""


@dataclass(frozen=True, slots=True)
class CallerAsk:
    """An ask with the identity of its call."""

    ask: Ask
    call: Call[AskAnswer]


def assess(tx: Transaction, caller: CallerAsk, outside: Outside) -> Outlook:
    """Find out, without changing anything, what it takes to answer an ask.

    Raises:
        NotFoundError: There is no such study.
        RequestIdReusedError: The id was used for another request.
        ExhaustedError: The study has too many trials.
    """
    ask = caller.ask
    stored = stored_answer(tx, ask.study.project, caller.call)
    if stored is not None:
        return Answered(stored)
    row = find_study(tx, ask.study)
    if row.state != "ACTIVE":
        return Answered(caller.call.encode(closed_answer(row)))
    room = room_of(tx, row, outside.specs.spec_of(row))
    n_waiting = min(room.n_queued, room.n_hand_out)
    n_new = min(ask.count - n_waiting, room.n_new)
    if n_waiting <= 0 and n_new <= 0:
        _check_limits(row, room)
        return MustWait(row)
    return NeedsPoints(row, max(0, n_new), room.n_new)


def _check_limits(row: StudyRow, room: Room) -> None:
    if row.n_trials >= MAX_TRIALS:
        raise ExhaustedError(
            f"study {row.study_id} has {MAX_TRIALS} trials, the most that it can have",
            retry_after_s=60.0,
        )
    if room.n_open >= MAX_OPEN:
        raise ExhaustedError(
            f"study {row.study_id} has {MAX_OPEN} unfinished trials, the most that it can have"
        )


def closed_answer(row: StudyRow) -> AskAnswer:
    """Answer an ask of a study that hands out nothing any more."""
    reason = AskReason.STUDY_NOT_ACTIVE
    if row.state == "COMPLETED":
        code = state_reason_code(row.state_reason)
        reason = _COMPLETED_REASONS.get(code, AskReason.STUDY_NOT_ACTIVE)
    return AskAnswer((), reason, row.state)


_COMPLETED_REASONS = {
    "TRIAL_BUDGET": AskReason.BUDGET_EXHAUSTED,
    "COST_BUDGET": AskReason.BUDGET_EXHAUSTED,
    "SPACE_EXHAUSTED": AskReason.SPACE_EXHAUSTED,
}


def hand_out_queued(
    tx: Transaction, caller: CallerAsk, outside: Outside, effects: Effects
) -> Answered | MustWait:
    """Answer an ask from the queue alone."""
    stored = stored_answer(tx, caller.ask.study.project, caller.call)
    if stored is not None:
        return Answered(stored)
    ledger = Ledger(tx, find_study(tx, caller.ask.study), outside, effects)
    if ledger.row.state != "ACTIVE":
        return Answered(caller.call.encode(closed_answer(ledger.row)))
    answered = _serve(ledger, caller, _stock(ledger))
    ledger.save()
    return answered


@dataclass(frozen=True, slots=True)
class Points:
    """Points for the trials of one ``Asked`` event."""

    suggestions: Sequence[Suggestion]
    state: StrategyState | None
    revision: int
    """Last event that they have seen."""


def commit_points(
    tx: Transaction,
    study_key: int,
    points: Points,
    *,
    callers: Sequence[CallerAsk],
    may_be_stale: bool,
    outside: Outside,
    effects: Effects,
) -> list[Answered | MustWait | BboptError] | Stale:
    """Turn computed points into trials and answer the asks that wait for them.

    All points become trials of one ``Asked`` event, because the strategy's state belongs to
    all of them. Each ask gets queued trials first. Points that nobody needs any more wait
    in the queue; if nobody at all needs any, none becomes a trial.
    """
    row = tx.study_by_key(study_key)
    if row is None or row.state == "DELETED":
        gone = NotFoundError("the study was deleted")
        return [gone for _ in callers]
    if row.state != "ACTIVE":
        return [Answered(each.call.encode(closed_answer(row))) for each in callers]
    is_stale = outdated(tx, row, points)
    if points.suggestions and is_stale is not None and (not may_be_stale or is_stale == MOVED):
        return Stale()
    stored = [_stored_or_error(tx, each) for each in callers]
    if all(each is not None for each in stored):
        return [each for each in stored if each is not None]
    ledger = Ledger(tx, row, outside, effects)
    stock = _stock(ledger, points)
    # Looked up again one by one: a repetition may wait beside the call that it repeats.
    outcomes: list[Answered | MustWait | BboptError] = [
        _stored_or_error(tx, caller) or _serve(ledger, caller, stock) for caller in callers
    ]
    for trial in stock.fresh:
        _leave_waiting(ledger, trial)
    ledger.save()
    return outcomes


def _stored_or_error(tx: Transaction, caller: CallerAsk) -> Answered | BboptError | None:
    try:
        stored = stored_answer(tx, caller.ask.study.project, caller.call)
    except BboptError as error:
        return error
    return None if stored is None else Answered(stored)


def outdated(tx: Transaction, row: StudyRow, points: Points) -> str | None:
    """Name the kind of event that happened since the points were computed and that they
    ought to have seen; ``None`` if they are up to date.

    ``MOVED`` wins over everything. A fallback's points are only more pending ones.
    """
    if points.revision >= row.revision:
        return None
    found = None
    for event in tx.events(row.key, after_revision=points.revision):
        if event.kind == "asked" and has_state(event.payload):
            return MOVED
        if event.kind in _LEARNED_FROM:
            found = event.kind
    return found


_LEARNED_FROM = frozenset({"told", "amended", "enqueued", "asked"})
MOVED = "moved"
"""The strategy moved on from the state that points continue."""


def _create(ledger: Ledger, points: Points) -> list[TrialRow]:
    """Append the ``Asked`` event; return its trials, which nobody holds yet."""
    first = ledger.row.n_trials + 1
    trials = tuple(
        NewTrial(number, suggestion.parameters, suggestion.provenance)
        for number, suggestion in enumerate(points.suggestions, start=first)
    )
    if not trials:
        return []
    ledger.row = replace(ledger.row, n_trials=trials[-1].number)
    revision = ledger.append(Asked(trials, points.state), trials[0].number)
    return [new_row(ledger, trial, revision) for trial in trials]


def new_row(ledger: Ledger, trial: NewTrial, revision: int) -> TrialRow:
    """Build the row of a trial that waits for a worker."""
    return TrialRow(
        study_key=ledger.row.key,
        number=trial.number,
        state="QUEUED",
        state_message="",
        point=new_trial_to_bytes(trial),
        outcome=None,
        labels=_NO_LABELS,
        attempt=1,
        worker="",
        lease_token="",
        lease_duration_s=0.0,
        late=False,
        feasible=None,
        amendments=0,
        revision=revision,
        created_at=ledger.at,
        started_at=None,
        ended_at=None,
    )


@dataclass(slots=True)
class _Stock:
    """What a transaction can still hand out."""

    n_queued: int
    n_allowed: int
    """By the budget, queued or fresh."""
    fresh: list[TrialRow]
    """Of the ``Asked`` event of this transaction; not inserted yet."""


def _stock(ledger: Ledger, points: Points | None = None) -> _Stock:
    """Count what there is, then add points to it."""
    room = room_of(ledger.tx, ledger.row, ledger.spec)
    fresh = [] if points is None else _create(ledger, points)
    return _Stock(room.n_queued, room.n_hand_out, fresh)


def _serve(ledger: Ledger, caller: CallerAsk, stock: _Stock) -> Answered | MustWait:
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
        tuple(TrialView(ledger.name, row, expires_at, is_for_holder=True) for row in rows),
        AskReason.COUNT_MET if is_met else AskReason.WAITING_FOR_RESULTS,
        ledger.row.state,
        None if is_met else RETRY_AFTER_S,
    )
    project = ask.study.project
    return Answered(store_answer(ledger.tx, project, caller.call, answer=answer, at=ledger.at))


def _take_queued(
    ledger: Ledger, stock: _Stock, count: int, terms: LeaseTerms
) -> list[TrialRow]:
    """Hand out waiting trials, lowest number first."""
    if stock.n_queued == 0 or count == 0:
        return []
    waiting = ledger.tx.trials(ledger.row.key, states=("QUEUED",), limit=count)
    stock.n_queued -= len(waiting)
    return [take(ledger, row, terms) for row in waiting]


def _take_fresh(ledger: Ledger, row: TrialRow, terms: LeaseTerms) -> TrialRow:
    """Hand out a trial of the ``Asked`` event that was just appended, which implies it."""
    taken = replace(
        row,
        state="ACTIVE",
        worker=terms.worker,
        lease_token=ledger.outside.new_token(),
        lease_duration_s=terms.duration_s,
        started_at=ledger.at,
    )
    ledger.tx.insert_trial(taken)
    ledger.hold(taken)
    return taken


def _leave_waiting(ledger: Ledger, row: TrialRow) -> None:
    """Queue a trial whose asker needs it no longer."""
    text = "nobody waits for it any more"
    revision = ledger.append(Requeued(row.number, text, row.attempt), row.number)
    waiting = replace(row, state_message=text, revision=revision)
    ledger.tx.insert_trial(waiting)


def give_up(
    tx: Transaction,
    caller: CallerAsk,
    reason: AskReason,
    *,
    outside: Outside,
    effects: Effects,
) -> bytes:
    """Answer an ask with nothing, and complete a study whose space is exhausted.

    The answer is not stored: nothing was handed out, so asking again does no harm.
    """
    row = find_study(tx, caller.ask.study)
    is_over = reason is AskReason.SPACE_EXHAUSTED and row.state == "ACTIVE"
    if is_over and not any(tx.count_trials(row.key, states=OPEN).values()):
        ledger = Ledger(tx, row, outside, effects)
        ledger.change_state("COMPLETED", "SPACE_EXHAUSTED", "every point has a result")
        ledger.save()
        row = ledger.row
    retry_after_s = RETRY_AFTER_S if row.state == "ACTIVE" else None
    return caller.call.encode(AskAnswer((), reason, row.state, retry_after_s))


def commit_fallback(
    tx: Transaction,
    row: StudyRow,
    points: Points,
    *,
    caller: CallerAsk,
    is_last: bool,
    outside: Outside,
    effects: Effects,
) -> Answered | MustWait | None:
    """Turn points that no model made into trials of one ask.

    Args:
        tx: The transaction.
        row: The study as it was when the points were drawn for its next numbers.
        points: The points; the strategy does not move.
        caller: The ask.
        is_last: Take the points even if the numbers have gone to other trials.
        outside: Clocks and randomness.
        effects: What is to follow.

    Returns:
        ``None`` if the points were drawn for numbers that are taken by now.
    """
    stored = stored_answer(tx, caller.ask.study.project, caller.call)
    if stored is not None:
        return Answered(stored)
    current = find_study(tx, caller.ask.study)
    if current.state != "ACTIVE":
        return Answered(caller.call.encode(closed_answer(current)))
    if current.n_trials != row.n_trials and not is_last:
        return None
    ledger = Ledger(tx, current, outside, effects)
    room = room_of(tx, current, ledger.spec)
    needed = caller.ask.count - min(room.n_queued, room.n_hand_out)
    n_new = max(0, min(needed, room.n_new, len(points.suggestions)))
    stock = _stock(ledger, replace(points, suggestions=points.suggestions[:n_new]))
    answered = _serve(ledger, caller, stock)
    ledger.save()
    return answered
