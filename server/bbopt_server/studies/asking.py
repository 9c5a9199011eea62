"""What an ask hands out: waiting trials first, then what the strategy computed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from bbopt.errors import BboptError, NotFoundError
from bbopt_server.storage.store import StudyRow, Transaction
from bbopt_server.studies.answers import AskAnswer, AskReason
from bbopt_server.studies.handing_out import (
    RETRY_AFTER_S,
    Answered,
    CallerAsk,
    MustWait,
    Points,
    Stock,
    leave_waiting,
    serve,
    stock_of,
)
from bbopt_server.studies.idempotency import stored_answer
from bbopt_server.studies.ledger import OPEN, Effects, Ledger, find_study
from bbopt_server.studies.outside import Outside
from bbopt_server.studies.ready import Filled
from bbopt_server.studies.records import (
    has_state,
    state_reason_code,
)
from bbopt_server.studies.room import Room, check_limits, room_of
from bbopt_server.studies.series import Series

MAX_COUNT = 256
"""Trials that one ask may want."""


@dataclass(frozen=True, slots=True)
class NeedsPoints:
    """The ask needs points that nobody has computed yet."""

    study: StudyRow
    n_new: int
    """Beside those that wait in the queue."""
    room: Room
    """For all asks together."""


Outlook: TypeAlias = Answered | NeedsPoints | MustWait
Outcome: TypeAlias = Answered | MustWait | BboptError
"""Of one of several asks."""


@dataclass(frozen=True, slots=True)
class Stale:
    """The points were computed from a log that has grown since in a way that matters."""


def assess(tx: Transaction, caller: CallerAsk, outside: Outside) -> Outlook:
    """Find out, without changing anything, what it takes to answer an ask.

    Raises:
        NotFoundError: There is no such study.
        RequestIdReusedError: The id was used for another request.
        LimitError: The study has all the trials that it can have.
        ExhaustedError: It has too many unfinished ones.
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
    n_new = room.n_fresh(ask.count)
    if n_waiting <= 0 and n_new <= 0:
        check_limits(row, room)
        return MustWait(row)
    return NeedsPoints(row, n_new, room)


def answer_at_once(
    tx: Transaction, caller: CallerAsk, ready: Filled, outside: Outside, effects: Effects
) -> Outlook:
    """Answer an ask with points that are ready; where they do not fit, only ``assess`` it.

    Raises:
        BboptError: As for ``assess``.
    """
    outlook = assess(tx, caller, outside)
    if not isinstance(outlook, NeedsPoints):
        return outlook
    points = ready.points_for(outlook.study, outlook.n_new)
    if points is None:
        return outlook
    ledger = Ledger(tx, outlook.study, outside, effects)
    answered = serve(ledger, caller, stock_of(ledger, outlook.room, points))
    effects.answered_ready.append(ledger.row.key)
    ledger.save()
    return answered


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
    room = room_of(tx, ledger.row, ledger.spec)
    answered = serve(ledger, caller, stock_of(ledger, room))
    ledger.save()
    return answered


def commit_points(
    tx: Transaction,
    study_key: int,
    points: Points,
    *,
    callers: Sequence[CallerAsk],
    are_new: bool,
    may_be_stale: bool,
    outside: Outside,
    effects: Effects,
) -> list[Outcome] | Stale:
    """Turn computed points into trials and answer the asks that wait for them.

    All points become trials of one ``Asked`` event, because the strategy's state belongs to
    all of them. Each ask gets queued trials first. Points that nobody needs any more wait
    in the queue; if nobody at all needs any, none becomes a trial.

    Args:
        tx: The transaction.
        study_key: The study.
        points: Computed for its next trials.
        callers: The asks, in order.
        are_new: Not to look up whether they were answered before.
        may_be_stale: Take the points even if there are results that they have not seen.
        outside: Clocks and randomness.
        effects: What is to follow.

    Raises:
        RepeatedError: One of them was answered before and ``are_new``: what this did must be
            undone, and done again with a look at each.
    """
    row = tx.study_by_key(study_key)
    if row is None or row.state != "ACTIVE":
        return [_closed(tx, row, each) for each in callers]
    is_stale = outdated(tx, row, points)
    if points.suggestions and is_stale is not None and (not may_be_stale or is_stale == MOVED):
        return Stale()
    ledger = Ledger(tx, row, outside, effects)
    room = room_of(tx, row, ledger.spec)
    if len(points.suggestions) > room.n_new:
        # Other asks took the room while these were computed; the strategy's state belongs to
        # all of the points, so that they cannot be split.
        if room.n_new > 0:
            return Stale()
        points = replace(points, suggestions=(), state=None)
    if _n_asked(tx, callers, are_new=are_new) == 0:
        points = replace(points, suggestions=(), state=None)
    return _answer(ledger, callers, stock_of(ledger, room, points), are_new=are_new)


def commit_series(
    tx: Transaction,
    series: Series,
    *,
    callers: Sequence[CallerAsk],
    are_new: bool,
    outside: Outside,
    effects: Effects,
) -> tuple[list[Outcome], Series] | Stale:
    """Turn as many points of a series into trials as some asks need, and answer these.

    Args:
        tx: The transaction.
        series: Of the study.
        callers: The asks, in order.
        are_new: Not to look up whether they were answered before.
        outside: Clocks and randomness.
        effects: What is to follow.

    Returns:
        What each ask gets, and what is left of the series.

    Raises:
        RepeatedError: As for ``commit_points``.
    """
    row = tx.study_by_key(series.study_key)
    if row is None or row.state != "ACTIVE":
        return [_closed(tx, row, each) for each in callers], series
    ledger = Ledger(tx, row, outside, effects)
    room = room_of(tx, row, ledger.spec)
    points = series.points_for(row, room.n_fresh(_n_asked(tx, callers, are_new=are_new)))
    if points is None:
        return Stale()
    outcomes = _answer(ledger, callers, stock_of(ledger, room, points), are_new=are_new)
    rest = series.at(ledger.row.n_trials + 1)
    assert rest is not None  # noqa: S101 - the trials before were made of its points just now.
    return outcomes, rest


def _n_asked(tx: Transaction, callers: Sequence[CallerAsk], *, are_new: bool) -> int:
    """Count the trials that asks want which have no answer yet, repeated ones once."""
    if are_new:
        return sum(each.ask.count for each in callers)
    wanted: dict[str, int] = {}
    for each in callers:
        if _stored_or_error(tx, each) is None:
            wanted.setdefault(f"{each.call.method} {each.call.request_id}", each.ask.count)
    return sum(wanted.values())


def _answer(
    ledger: Ledger, callers: Sequence[CallerAsk], stock: Stock, *, are_new: bool
) -> list[Outcome]:
    """Answer asks in order from what there is; what is left waits in the queue."""
    outcomes: list[Outcome] = []
    for each in callers:  # One may repeat another that waits beside it.
        stored = None if are_new else _stored_or_error(ledger.tx, each)
        outcomes.append(serve(ledger, each, stock) if stored is None else stored)
    for trial in stock.fresh:
        leave_waiting(ledger, trial)
    ledger.save()
    return outcomes


def _closed(tx: Transaction, row: StudyRow | None, caller: CallerAsk) -> Outcome:
    """Answer an ask of a study that hands out nothing any more, or is gone."""
    if row is None or row.state == "DELETED":
        return NotFoundError("the study was deleted")
    stored = _stored_or_error(tx, caller)
    return stored or Answered(caller.call.encode(closed_answer(row)))


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
    affordable = replace(points, suggestions=points.suggestions[:n_new])
    stock = stock_of(ledger, room, affordable)
    answered = serve(ledger, caller, stock)
    ledger.save()
    return answered
