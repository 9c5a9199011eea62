"""Trials that people create, look at, and stop."""

import base64
import hashlib
import json

from bbopt.errors import InvalidError, PreconditionError, StudyNotActiveError
from bbopt.problem import Problem
from bbopt.rpc.names import StudyName
from bbopt.rpc.paths import on_point
from bbopt.stopping import full_stage, initial_stage
from bbopt.trial import Abandoned, Enqueued, NewTrial, Outcome, Provenance
from bbopt_server.storage.store import Transaction, TrialRow
from bbopt_server.studies.answers import TrialPage, TrialView
from bbopt_server.studies.commands import CreateTrial, ListTrials, StopTrial
from bbopt_server.studies.handing_out import Created, new_row
from bbopt_server.studies.leasing import order_to_stop
from bbopt_server.studies.ledger import Ledger, find_study, find_trial
from bbopt_server.studies.records import new_trial_to_bytes, trial_labels_to_bytes
from bbopt_server.studies.room import check_limits, room_of
from bbopt_server.studies.telling import check_outcome, finish


def create_trial(ledger: Ledger, command: CreateTrial) -> TrialRow:
    """Enqueue a point, or record a finished observation.

    Raises:
        StudyNotActiveError: Nothing can be enqueued, or recorded, any more.
        LimitError: The study has all the trials that it can have.
        ExhaustedError: It has too many unfinished ones.
        InvalidError: The space refuses the point, or the problem the outcome.
    """
    study = ledger.row
    accepted = ("ACTIVE",) if command.outcome is None else ("ACTIVE", "COMPLETED")
    if study.state not in accepted:
        raise StudyNotActiveError(f"study {study.study_id} is {study.state}")
    check_limits(study, room_of(ledger.tx, study, ledger.spec))
    problem = ledger.spec.problem
    outcome = checked_outcome(problem, command)
    provenance = Provenance("enqueued", data_revision=study.revision)
    point = problem.space.canonical(command.parameters)
    stage = initial_stage(problem, ledger.spec.strategy)
    if outcome is not None:
        stage = full_stage(problem)
    trial = NewTrial(study.n_trials + 1, point, provenance, stage)
    ledger.row = study._replace(n_trials=trial.number)
    revision = ledger.append(Enqueued(trial), trial.number)
    created = Created(trial.number, new_trial_to_bytes(trial), revision)
    row = new_row(ledger, created)._replace(labels=trial_labels_to_bytes(command.labels))
    ledger.tx.insert_trial(row)
    if outcome is not None:
        finish(ledger, row, outcome)
        ledger.complete_if_spent()
    ledger.save()
    return find_trial(ledger.tx, ledger.row, trial.number)


def checked_outcome(problem: Problem, command: CreateTrial) -> Outcome | None:
    """Check a point and its outcome, and return the outcome.

    Raises:
        InvalidError: Listing every fault of both.
    """
    faults = list(command.faults)
    named = {each.field for each in faults}
    of_point = on_point(problem.space.check(command.parameters))
    faults += [each for each in of_point if each.field not in named]
    outcome: Outcome | None = None
    if command.outcome is not None:
        try:
            outcome = check_outcome(problem, command.outcome)
        except InvalidError as error:
            faults += error.violations
    if faults:
        raise InvalidError(faults)
    return outcome


def stop(ledger: Ledger, command: StopTrial) -> TrialRow:
    """Ask the worker of a trial to stop early; abandon a trial that waits.

    Raises:
        PreconditionError: The trial is finished.
    """
    row = find_trial(ledger.tx, ledger.row, command.number)
    match row.state:
        case "ACTIVE":
            ledger.tx.update_trial(order_to_stop(ledger, row, command.reason))
        case "QUEUED":
            finish(ledger, row, Abandoned(command.reason))
        case "STOPPING":
            pass
        case _:
            raise PreconditionError(f"trial {row.number} is {row.state} already")
    ledger.save()
    return find_trial(ledger.tx, ledger.row, command.number)


def read_trial(tx: Transaction, name: StudyName, number: int) -> TrialView:
    """Read a trial, intermediate measurements included.

    Raises:
        NotFoundError: There is no such study, or no such trial in it.
    """
    study = find_study(tx, name)
    row = find_trial(tx, study, number)
    reports = tx.measurements(study.key, number)
    return TrialView(name, row, measurements=tuple(each.payload for each in reports))


def list_trials(tx: Transaction, command: ListTrials) -> TrialPage:
    """Read one page of trials in order of number.

    Raises:
        InvalidError: The page token belongs to another list, or to none.
    """
    study = find_study(tx, command.study)
    listing = (study.uid, sorted(command.states), command.since_revision)
    after = read_page_token(command.page_token, listing)
    rows = tx.trials(
        study.key,
        states=command.states,
        after_number=after,
        changed_since=command.since_revision,
        limit=command.page_size + 1,
    )
    shown = rows[: command.page_size]
    has_more = len(rows) > len(shown)
    token = write_page_token(shown[-1].number, listing) if has_more else ""
    views = tuple(TrialView(command.study, row) for row in shown)
    return TrialPage(views, token, study.revision)


def write_page_token(after: int, listing: object) -> str:
    """Say where the next page of a listing begins.

    Args:
        after: The last position of this page.
        listing: What is listed and how it is filtered, as JSON can hold it.
    """
    return base64.urlsafe_b64encode(f"{after}.{_digest(after, listing)}".encode()).decode()


def read_page_token(token: str, listing: object) -> int:
    """Read where a page begins; an empty token is the first page.

    Raises:
        InvalidError: The token was not made by ``write_page_token`` for this listing.
    """
    if not token:
        return 0
    try:
        text = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode()
        position, _, digest = text.partition(".")
        after = int(position) if len(position) < 20 else -1
    except ValueError:
        after, digest = -1, ""
    if after < 0 or digest != _digest(after, listing):
        raise InvalidError.of(
            "page_token", "must be the next_page_token of the same request, or empty"
        )
    return after


def _digest(after: int, listing: object) -> str:
    content = json.dumps([after, listing], sort_keys=True).encode()
    return hashlib.blake2b(content, digest_size=8, person=b"bbopt page").hexdigest()
