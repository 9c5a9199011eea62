"""What happens to a trial when its result comes: once, late, twice, or corrected."""

from dataclasses import replace
from typing import assert_never

from bbopt.errors import (
    BboptError,
    InvalidError,
    LeaseLostError,
    PreconditionError,
    TrialFinishedError,
)
from bbopt.problem import Problem
from bbopt.trial import (
    Abandoned,
    Amended,
    Completed,
    Failed,
    Infeasible,
    Measurement,
    Outcome,
    Requeued,
    Stopped,
)
from bbopt_server.crash_points import reach
from bbopt_server.storage.store import TrialRow
from bbopt_server.studies.answers import ItemResult, TellAnswer
from bbopt_server.studies.commands import AmendTrial, Misread, Tell, TellItem
from bbopt_server.studies.ledger import LEASE_EXPIRED, OPEN, Ledger, find_trial
from bbopt_server.studies.records import outcome_from_bytes, outcome_to_bytes


class BatchRefusedError(BboptError):
    """An atomic batch had a bad item; carries what each item would have got."""

    def __init__(self, results: tuple[ItemResult, ...]) -> None:
        self.results = results
        super().__init__("one item of an atomic batch was refused, so all were")


def tell(ledger: Ledger, command: Tell) -> TellAnswer:
    """Record a batch of outcomes, each by itself unless the batch is atomic.

    Raises:
        BatchRefusedError: The batch is atomic and an item is wrong; nothing must remain.
    """
    results = tuple(_tell_item(ledger, item) for item in command.items)
    if command.is_atomic and any(result.error is not None for result in results):
        raise BatchRefusedError(_all_refused(results))
    ledger.complete_if_spent()
    ledger.save()
    return TellAnswer(results, ledger.row.revision, ledger.row.state)


def _all_refused(results: tuple[ItemResult, ...]) -> tuple[ItemResult, ...]:
    """Give the items that were fine the reason why they are not recorded either."""
    because = PreconditionError("not recorded: another item of this atomic batch was refused")
    return tuple(
        result if result.error is not None else ItemResult(result.trial, error=because)
        for result in results
    )


def _tell_item(ledger: Ledger, item: TellItem) -> ItemResult:
    state = ""
    try:
        if isinstance(item.outcome, Misread):
            raise InvalidError(item.outcome.all_faults(ledger.spec.problem))
        row = find_trial(ledger.tx, ledger.row, item.number)
        state = row.state
        check_outcome(ledger.spec.problem, item.outcome)
        return _record(ledger, row, item, item.outcome)
    except BboptError as error:
        return ItemResult(item.trial, state=state, error=error)


def check_outcome(problem: Problem, outcome: Outcome | Misread) -> Outcome:
    """Check what an outcome measured against the metrics of the problem, and return it.

    Raises:
        InvalidError: Listing every fault, fields as on the wire.
    """
    measurement: Measurement | None
    match outcome:
        case Misread():
            raise InvalidError(outcome.all_faults(problem))
        case Completed(measurement):
            kind, is_partial = "completed", False
        case Stopped(measurement):
            kind, is_partial = "stopped", True
        case Infeasible(measurement=measurement):
            kind, is_partial = "infeasible.partial", True
        case Failed(measurement=measurement):
            kind, is_partial = "failed.partial", True
        case Abandoned():
            return outcome
        case _:
            assert_never(outcome)
    if measurement is None:
        return outcome
    faults = problem.check_result(measurement.metrics, partial=is_partial)
    if faults:
        prefix = f"outcome.{kind}"
        raise InvalidError(
            [replace(fault, field=f"{prefix}.{fault.field}") for fault in faults]
        )
    return outcome


def _record(ledger: Ledger, row: TrialRow, item: TellItem, outcome: Outcome) -> ItemResult:
    """Decide what the valid outcome of an item means for its trial as it stands; write it."""
    is_expired = row.state == "FAILED" and row.state_message.startswith(LEASE_EXPIRED)
    if row.state not in OPEN and not is_expired:
        return _tell_again(row, item, outcome)
    is_stale = bool(item.lease_token) and item.lease_token != row.lease_token
    was_held = row.worker != ""
    is_late = is_expired or is_stale or (row.state == "QUEUED" and was_held)
    if isinstance(outcome, Failed):
        if is_late:
            # Whoever failed has lost the trial already: it waits, or somebody else runs it.
            raise LeaseLostError(
                f"trial {row.number} is no longer held under this lease; "
                "its failure was counted when the lease was lost"
            )
        if outcome.retryable and may_run_again(ledger, row):
            requeue(ledger, row, f"failed: {outcome.message}", uses_attempt=True)
            return ItemResult(item.trial, state="QUEUED")
    state = finish(ledger, row, outcome, is_late=is_late)
    return ItemResult(item.trial, state=state, was_late=is_late)


def _is_same(first: Outcome, second: Outcome) -> bool:
    """Say whether outcomes are the same; how long it took to get there does not matter, and who
    repeats a result, by hand or on another machine, does not know it.
    """
    return _timeless(first) == _timeless(second)


def _timeless(outcome: Outcome) -> Outcome:
    measurement = getattr(outcome, "measurement", None)
    if isinstance(outcome, Abandoned) or measurement is None:
        return outcome
    return replace(outcome, measurement=replace(measurement, elapsed_s=None))


def _tell_again(row: TrialRow, item: TellItem, outcome: Outcome) -> ItemResult:
    """Answer a tell for a trial that has its final result."""
    if row.outcome is not None and _is_same(outcome_from_bytes(row.outcome), outcome):
        return ItemResult(item.trial, state=row.state, was_duplicate=True, was_late=row.late)
    raise TrialFinishedError(
        f"trial {row.number} already is {row.state} with another result; "
        "an amendment corrects a result"
    )


def may_run_again(ledger: Ledger, row: TrialRow) -> bool:
    """Say whether a trial that was lost or failed goes back to the queue: attempts are left,
    and nobody ordered it to stop.
    """
    return row.state != "STOPPING" and row.attempt < ledger.spec.lease.max_attempts


def requeue(ledger: Ledger, row: TrialRow, message: str, *, uses_attempt: bool) -> TrialRow:
    """Put a trial back into the queue, under the same number and with the same point."""
    attempt = row.attempt + 1 if uses_attempt else row.attempt
    revision = ledger.append(Requeued(row.number, message, attempt), row.number)
    queued = row._replace(
        state="QUEUED",
        state_message=message,
        attempt=attempt,
        lease_token="",
        lease_duration_s=0.0,
        revision=revision,
    )
    ledger.tx.update_trial(queued)
    ledger.free(row.number)
    return queued


def finish(ledger: Ledger, row: TrialRow, outcome: Outcome, *, is_late: bool = False) -> str:
    """Give a trial its final outcome and return its state."""
    if row.outcome is not None:
        ledger.add_cost(row, sign=-1.0)  # Of a lost trial that is now found.
    payload = outcome_to_bytes(outcome)
    revision = ledger.append_told(row.number, payload, is_late=is_late)
    final = _judged(ledger.spec.problem, row, outcome, payload=payload)._replace(
        lease_token="",
        lease_duration_s=0.0,
        late=is_late,
        revision=revision,
        ended_at=ledger.at,
    )
    reach("tell.before_row")
    ledger.tx.update_trial(final)
    ledger.add_cost(final)
    ledger.free(row.number)
    return final.state


def _judged(problem: Problem, row: TrialRow, outcome: Outcome, *, payload: bytes) -> TrialRow:
    """Put an outcome, as ``payload`` has it, and what it makes of its trial into the row."""
    state, message, is_feasible = _judge(problem, outcome)
    return row._replace(
        state=state,
        state_message=message,
        outcome=payload,
        feasible=is_feasible,
    )


def _judge(problem: Problem, outcome: Outcome) -> tuple[str, str, bool | None]:
    """Say what an outcome makes of a trial: state, message, whether it is feasible."""
    match outcome:
        case Completed(measurement):
            return "COMPLETED", "", problem.is_feasible(measurement.metrics)
        case Stopped(measurement):
            is_partial = bool(problem.check_result(measurement.metrics, partial=False))
            is_feasible = None if is_partial else problem.is_feasible(measurement.metrics)
            return "STOPPED", "", is_feasible
        case Infeasible(text):
            return "INFEASIBLE", text, False
        case Failed(text):
            return "FAILED", text, None
        case Abandoned(text):
            return "ABANDONED", text, None
        case _:
            assert_never(outcome)


def amend(ledger: Ledger, command: AmendTrial) -> TrialRow:
    """Correct a final outcome; the earlier one stays in the log.

    Raises:
        PreconditionError: The trial has no final outcome yet.
        InvalidError: The outcome does not fit the problem.
    """
    row = find_trial(ledger.tx, ledger.row, command.number)
    if row.state in OPEN:
        raise PreconditionError(f"trial {row.number} is {row.state}: tell its first result")
    outcome = check_outcome(ledger.spec.problem, command.outcome)
    ledger.add_cost(row, sign=-1.0)
    event = Amended(row.number, outcome, command.reason)
    revision = ledger.append(event, row.number)
    payload = outcome_to_bytes(outcome)
    amended = _judged(ledger.spec.problem, row, outcome, payload=payload)._replace(
        amendments=row.amendments + 1,
        revision=revision,
    )
    ledger.tx.update_trial(amended)
    ledger.add_cost(amended)
    ledger.complete_if_spent()
    ledger.save()
    return amended
