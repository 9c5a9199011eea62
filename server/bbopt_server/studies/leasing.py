"""Who holds which trial, and until when.

The token of a lease is in the trial's row; its deadline is in memory only, by a clock that
cannot jump. So a restart can lose no lease: it gives every live one a full new term.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from bbopt.errors import (
    BboptError,
    InvalidError,
    LeaseLostError,
    LimitError,
    TrialFinishedError,
    Violation,
)
from bbopt.problem import Problem
from bbopt.specs import AshaSpec
from bbopt.stopping import reason_to_stop
from bbopt.trial import Abandoned, Failed, Leased, Measurement, Reported, StopRequested
from bbopt_server.storage.store import MeasurementRow, Transaction, TrialRow
from bbopt_server.studies.answers import Action, Directive, ItemResult, ReportAnswer
from bbopt_server.studies.commands import Heartbeat, Held, Misread, Release, Report
from bbopt_server.studies.ledger import (
    HELD,
    LEASE_EXPIRED,
    OPEN,
    HeldLease,
    Ledger,
    find_study,
    find_trial,
)
from bbopt_server.studies.records import measurement_to_bytes
from bbopt_server.studies.telling import finish, may_run_again, requeue

MAX_MEASUREMENTS = 10_000
"""Intermediate measurements of one trial."""
_PAGE = 500


class LeaseTable:
    """Deadlines of live leases, on a monotonic clock; lives on the event loop."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._leases: dict[tuple[int, int], tuple[HeldLease, float]] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def hold(self, lease: HeldLease) -> None:
        """Start, or start again, the term of a lease; one without a term is not kept."""
        key = (lease.study_key, lease.number)
        if lease.duration_s > 0:
            self._leases[key] = (lease, self._monotonic() + lease.duration_s)
        else:
            self._leases.pop(key, None)

    def renew(self) -> None:
        """Give every lease a full new term."""
        for lease, _ in list(self._leases.values()):
            self.hold(lease)

    def put_back(self, lease: HeldLease) -> None:
        """Keep a lease whose end could not be written, unless another took its place."""
        if (lease.study_key, lease.number) not in self._leases:
            self.hold(lease)

    def drop(self, study_key: int, number: int) -> None:
        """Forget a lease that ended by itself."""
        self._leases.pop((study_key, number), None)

    def drop_study(self, study_key: int) -> None:
        """Forget every lease of a study."""
        for key in [key for key in self._leases if key[0] == study_key]:
            del self._leases[key]

    def extend(self, study_key: int, number: int, token: str) -> bool:
        """Give a lease a new term; false where it has run out or belongs to another."""
        held = self._leases.get((study_key, number))
        if held is None or held[0].token != token:
            return False
        self.hold(held[0])
        return True

    def time_left(self, study_key: int, number: int) -> float | None:
        """Return the seconds that a lease has left; ``None`` if it has no deadline."""
        held = self._leases.get((study_key, number))
        return None if held is None else held[1] - self._monotonic()

    def pop_expired(self) -> list[HeldLease]:
        """Remove and return the leases whose deadline has passed."""
        now = self._monotonic()
        expired = [lease for lease, deadline in self._leases.values() if deadline <= now]
        for lease in expired:
            self.drop(lease.study_key, lease.number)
        return expired


def live_leases(tx: Transaction) -> list[HeldLease]:
    """List every lease that the store knows of."""
    leases: list[HeldLease] = []
    after_key = 0
    while studies := tx.all_studies(after_key=after_key, limit=_PAGE):
        after_key = studies[-1].key
        for study in studies:
            leases.extend(_leases_of(tx, study.key))
    return leases


def _leases_of(tx: Transaction, study_key: int) -> Iterable[HeldLease]:
    for state in HELD:  # One at a time, which an index answers.
        after = 0
        while rows := tx.trials(study_key, states=(state,), after_number=after, limit=_PAGE):
            after = rows[-1].number
            for row in rows:
                yield HeldLease(study_key, row.number, row.lease_token, row.lease_duration_s)


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """Who takes a trial, and for how long between two signs of life."""

    worker: str
    duration_s: float


def take(ledger: Ledger, row: TrialRow, terms: LeaseTerms) -> TrialRow:
    """Hand a queued trial to a worker."""
    revision = ledger.append(Leased(row.number, terms.worker, row.attempt), row.number)
    taken = row._replace(
        state="ACTIVE",
        state_message="",
        worker=terms.worker,
        lease_token=ledger.outside.new_token(),
        lease_duration_s=terms.duration_s,
        revision=revision,
        started_at=ledger.at,
    )
    ledger.tx.update_trial(taken)
    ledger.hold(taken)
    return taken


def expire(ledger: Ledger, leases: Iterable[HeldLease]) -> list[int]:
    """Take trials from workers that were not heard of; return the numbers of those taken.

    A trial whose lease ended in the meantime, whoever ended it, is left as it is.
    """
    taken = []
    for lease in leases:
        row = ledger.tx.trial(lease.study_key, lease.number)
        if row is None or row.state not in HELD or row.lease_token != lease.token:
            continue
        taken.append(row.number)
        if may_run_again(ledger, row):
            text = f"{LEASE_EXPIRED}: no sign of life from {row.worker or 'its worker'}"
            requeue(ledger, row, text, uses_attempt=True)
        else:
            ordered = ", ordered to stop" if row.state == "STOPPING" else ""
            text = f"{LEASE_EXPIRED}: lost {row.attempt} times, last by {row.worker!r}{ordered}"
            finish(ledger, row, Failed(text))
    ledger.save()
    return taken


def release(ledger: Ledger, command: Release) -> tuple[ItemResult, ...]:
    """Put trials that their workers hand back into the queue; one that was ordered to stop is
    abandoned.

    Giving a trial back uses up no attempt: nothing was lost, and a worker that is preempted
    often must not use up a point.
    """
    results = tuple(_release_item(ledger, held, command.reason) for held in command.held)
    ledger.save()
    return results


def _release_item(ledger: Ledger, held: Held, reason: str) -> ItemResult:
    state = ""
    try:
        row = find_trial(ledger.tx, ledger.row, held.number)
        state = row.state
        if state not in OPEN:
            raise TrialFinishedError(f"trial {row.number} already is {state}")
        check_token(row, held.lease_token)
        reason = reason or "released"
        if state == "STOPPING":
            state = finish(ledger, row, Abandoned(f"ordered to stop; {reason}"))
        else:
            state = requeue(ledger, row, reason, uses_attempt=False).state
    except BboptError as error:
        return ItemResult(held.trial, state=state, error=error)
    return ItemResult(held.trial, state=state)


def check_token(row: TrialRow, token: str) -> None:
    """Demand that a lease is the one that counts now.

    Raises:
        LeaseLostError: It is not.
    """
    if row.state not in HELD or not token or row.lease_token != token:
        raise LeaseLostError(
            f"trial {row.number} is {row.state} and not held under this lease token"
        )


def direct(tx: Transaction, command: Heartbeat) -> list[tuple[Directive, TrialRow | None]]:
    """Say what a worker is to do with each trial that it believes to hold.

    Returns:
        In the order of the request: the order, and the row of a trial that is held.
    """
    study = find_study(tx, command.study)
    orders: list[tuple[Directive, TrialRow | None]] = []
    for held in command.held:
        row = tx.trial(study.key, held.number)
        if row is None:
            order = Directive(held.trial, Action.LEASE_LOST, "there is no such trial")
        elif row.state not in OPEN:
            text = f"the trial is {row.state} already"
            order = Directive(held.trial, Action.CANCEL, text)
        elif not row.lease_token or row.lease_token != held.lease_token:
            text = "queued again" if row.state == "QUEUED" else "another worker has it"
            order = Directive(held.trial, Action.LEASE_LOST, text)
        elif row.state == "STOPPING":
            order = Directive(held.trial, Action.STOP_EARLY, row.state_message)
        else:
            order = Directive(held.trial, Action.CONTINUE)
        orders.append((order, row if order.action in _HOLDING else None))
    return orders


_HOLDING = (Action.CONTINUE, Action.STOP_EARLY)


def report(ledger: Ledger, command: Report) -> tuple[ReportAnswer, TrialRow]:
    """Record intermediate measurements: the last one of a step counts.

    Raises:
        LeaseLostError: Somebody else holds the trial now, or nobody.
        InvalidError: A measurement does not fit the problem.
        LimitError: With these the trial has too many; none of them must remain.
    """
    row = find_trial(ledger.tx, ledger.row, command.number)
    check_token(row, command.lease_token)
    measurements = checked_reports(ledger.spec.problem, command)
    for measurement in measurements:
        if measurement.step is None:
            raise InvalidError.of("measurements", "every one needs a step")
        revision = ledger.append(Reported(row.number, measurement), row.number)
        row = row._replace(revision=revision)
        payload = measurement_to_bytes(measurement)
        ledger.tx.put_measurement(
            MeasurementRow(ledger.row.key, row.number, measurement.step, payload)
        )
    _check_number_of_steps(ledger, row)
    row = _judged(ledger, row, measurements)
    ledger.tx.update_trial(row)
    ledger.save()
    should_stop = row.state == "STOPPING"
    answer = ReportAnswer(should_stop, row.state_message if should_stop else "", None)
    return answer, row


def _judged(ledger: Ledger, row: TrialRow, reported: Iterable[Measurement]) -> TrialRow:
    """Order a trial to stop if the study's strategy wants no more of it after these reports."""
    strategy = ledger.spec.strategy
    if row.state != "ACTIVE" or not isinstance(strategy, AshaSpec):
        return row
    rungs = ledger.outside.rungs.at(ledger.tx, ledger.row, ledger.spec.problem)
    steps = [each.step for each in reported if each.step is not None]
    reason = reason_to_stop(rungs, strategy.promotion, row.number, steps)
    return row if reason is None else order_to_stop(ledger, row, reason)


def order_to_stop(ledger: Ledger, row: TrialRow, reason: str) -> TrialRow:
    """Append the order for a trial that a worker holds; return its row, not written yet."""
    revision = ledger.append(StopRequested(row.number, reason), row.number)
    return row._replace(state="STOPPING", state_message=reason, revision=revision)


def checked_reports(problem: Problem, command: Report) -> list[Measurement]:
    """Check what was measured on the way, and return it; metrics may be missing.

    Raises:
        InvalidError: Listing every fault.
    """
    read: list[Measurement] = []
    faults: list[Violation] = []
    for position, each in enumerate(command.measurements):
        if isinstance(each, Misread):
            faults += each.all_faults(problem)
            continue
        read.append(each)
        faults += [
            replace(fault, field=f"measurements[{position}].{fault.field}")
            for fault in problem.check_result(each.metrics, partial=True)
        ]
    if faults:
        raise InvalidError(faults)
    return read


def _check_number_of_steps(ledger: Ledger, row: TrialRow) -> None:
    if ledger.tx.count_measurements(ledger.row.key, row.number) > MAX_MEASUREMENTS:
        raise LimitError(
            f"trial {row.number} would have more than {MAX_MEASUREMENTS} intermediate "
            "measurements, the most that it can have"
        )
