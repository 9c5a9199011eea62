"""Founding, finding and deleting studies."""

import dataclasses
from dataclasses import replace

from bbopt.errors import (
    EtagMismatchError,
    ExhaustedError,
    StudyExistsError,
    UnsupportedError,
    Violation,
)
from bbopt.rpc.names import StudyName
from bbopt.rpc.study import study_spec_to_bytes
from bbopt.space import Space
from bbopt.space.emptiness import require_nonempty
from bbopt.specs import CAPABILITIES, NAMES, StrategySpec, StudySpec, find_unsupported
from bbopt_server.storage.store import StudyRow, Transaction
from bbopt_server.studies.commands import CreateStudy, DeleteStudy, IfExists
from bbopt_server.studies.ledger import Effects, Ledger, find_study
from bbopt_server.studies.outside import Outside
from bbopt_server.studies.records import StudyChanged, study_labels_to_bytes

MAX_STUDIES = 10_000
"""Of one project."""
_MAX_DIFFERENCES = 8


def strategy_name(strategy: StrategySpec) -> str:
    """Return the name that a strategy has on the wire."""
    return next(name for name, kind in NAMES.items() if kind is type(strategy))


def check_capabilities(spec: StudySpec) -> None:
    """Refuse a problem that the strategy cannot handle.

    Raises:
        UnsupportedError: Naming each feature and the strategies that can handle it.
    """
    name = strategy_name(spec.strategy)
    own = CAPABILITIES[type(spec.strategy)]
    violations = find_unsupported(spec.problem, own, name=name)
    if violations:
        raise UnsupportedError(
            [Violation(f"study.spec.{each.field}", each.message) for each in violations]
        )


def differences(stored: object, given: object, path: str = "spec") -> list[str]:
    """List where two definitions differ, as ``path: stored, not given``."""
    if type(stored) is not type(given):
        return [f"{path}: {_shown(stored)}, not {_shown(given)}"]
    if dataclasses.is_dataclass(stored) and not isinstance(stored, type):
        names = [field.name for field in dataclasses.fields(stored) if field.compare]
        return [
            line
            for name in names
            for line in differences(
                getattr(stored, name), getattr(given, name), f"{path}.{name}"
            )
        ]
    if isinstance(stored, tuple) and isinstance(given, tuple):
        return _tuple_differences(stored, given, path)
    return [] if stored == given else [f"{path}: {_shown(stored)}, not {_shown(given)}"]


def _tuple_differences(
    stored: tuple[object, ...], given: tuple[object, ...], path: str
) -> list[str]:
    if len(stored) != len(given):
        return [f"{path}: {len(stored)} items, not {len(given)}"]
    lines = []
    for position, (ours, theirs) in enumerate(zip(stored, given, strict=True)):
        label = getattr(ours, "name", position)
        lines.extend(differences(ours, theirs, f"{path}[{label}]"))
    return lines


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def create(
    tx: Transaction, command: CreateStudy, outside: Outside, effects: Effects
) -> StudyRow:
    """Found a study, or return the one that has the name if the caller allows it.

    Raises:
        StudyExistsError: The name is taken; the message says how the definitions differ.
        ExhaustedError: The project has too many studies.
    """
    existing = tx.study(command.name.project, command.name.study)
    if existing is not None:
        return _existing(existing, command, outside)
    at = outside.wall()
    spec = command.spec
    if spec.seed is None:
        spec = replace(spec, seed=outside.new_seed())
    row = StudyRow(
        key=0,
        uid="" if command.is_trial_run else outside.new_uid(),
        project=command.name.project,
        study_id=command.name.study,
        display_name=command.display_name,
        spec=study_spec_to_bytes(command.spec if command.is_trial_run else spec),
        state="ACTIVE",
        state_reason=b"",
        labels=study_labels_to_bytes(command.labels),
        n_trials=0,
        revision=0,
        cost_spent=0.0,
        created_at=at,
        updated_at=at,
        etag=outside.new_uid()[:16],
    )
    if command.is_trial_run:
        return row
    _check_room(tx, command.name)
    ledger = Ledger(tx, tx.insert_study(row), outside, effects)
    ledger.append(StudyChanged("ACTIVE", b""))
    ledger.save()
    return ledger.row


def _check_room(tx: Transaction, name: StudyName) -> None:
    # One more than the limit would be read only by a project that is full.
    if len(tx.studies(name.project, limit=MAX_STUDIES)) >= MAX_STUDIES:
        raise ExhaustedError(
            f"project {name.project} has {MAX_STUDIES} studies, the most that it can have",
            retry_after_s=60.0,
        )


def _existing(row: StudyRow, command: CreateStudy, outside: Outside) -> StudyRow:
    if command.if_exists is IfExists.LOAD:
        return row
    stored = outside.specs.spec_of(row)
    given = command.spec
    if given.seed is None:
        given = replace(given, seed=stored.seed)  # No seed asked for: any will do.
    lines = differences(stored, given)
    if command.if_exists is IfExists.LOAD_IF_SPEC_EQUAL and not lines:
        return row
    if not lines:
        raise StudyExistsError(f"study {command.name} exists, with the same definition")
    more = len(lines) - _MAX_DIFFERENCES
    listed = "; ".join(lines[:_MAX_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
    raise StudyExistsError(f"study {command.name} exists with another definition: {listed}")


def delete(
    tx: Transaction, command: DeleteStudy, outside: Outside, effects: Effects
) -> StudyRow:
    """Hide a study and free its name; its rows stay.

    Raises:
        NotFoundError: There is no such study.
        EtagMismatchError: It changed since the caller read it.
    """
    row = find_study(tx, command.name)
    if command.etag and command.etag != row.etag:
        raise EtagMismatchError(
            f"study {command.name} changed since it was read: its etag is {row.etag!r}"
        )
    ledger = Ledger(tx, row, outside, effects)
    ledger.change_state("DELETED", "USER", "deleted")
    ledger.save()
    effects.deleted.append(ledger.row)
    return ledger.row


def check_feasible_set(space: Space) -> None:
    """Refuse a space without a feasible point; takes time, so not in a transaction.

    Raises:
        EmptyFeasibleSetError: Naming the constraints in conflict where that is proved.
    """
    if space.constraints:
        require_nonempty(space)
