"""The statements: what each method of a transaction is in SQLite."""

import sqlite3
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from bbopt_server.storage.sqlite_rows import StudyRows, TrialRows
from bbopt_server.storage.store import (
    EventRow,
    MeasurementRow,
    ResponseRow,
    StudyRow,
    TrialRow,
)

_INSERT_STUDY = """
INSERT INTO study (uid, project, study_id, display_name, spec, state, state_reason, labels,
  n_trials, revision, cost_spent, created_at, updated_at, etag)
VALUES (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"""

_UPDATE_STUDY = """
UPDATE study SET display_name = ?5, spec = ?6, state = ?7, state_reason = ?8, labels = ?9,
  n_trials = ?10, revision = ?11, cost_spent = ?12, created_at = ?13, updated_at = ?14,
  etag = ?15
WHERE key = ?1 AND uid = ?2 AND project = ?3 AND study_id = ?4"""

_ADVANCE_STUDY = """
UPDATE study SET n_trials = ?2, revision = ?3, cost_spent = ?4, updated_at = ?5
WHERE key = ?1"""

_SELECT_STUDY = """
SELECT key, uid, project, study_id, display_name, spec, state, state_reason, labels,
  n_trials, revision, cost_spent, created_at, updated_at, etag
FROM study """

_INSERT_TRIAL = """
INSERT INTO trial (study_key, number, state, state_message, point, outcome, labels, attempt,
  worker, lease_token, lease_duration_s, late, feasible, amendments, revision, created_at,
  started_at, ended_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

_UPDATE_TRIAL = """
UPDATE trial SET state = ?3, state_message = ?4, point = ?5, outcome = ?6, labels = ?7,
  attempt = ?8, worker = ?9, lease_token = ?10, lease_duration_s = ?11, late = ?12,
  feasible = ?13, amendments = ?14, revision = ?15, created_at = ?16, started_at = ?17,
  ended_at = ?18
WHERE study_key = ?1 AND number = ?2"""

_SELECT_TRIAL = """
SELECT study_key, number, state, state_message, point, outcome, labels, attempt, worker,
  lease_token, lease_duration_s, late, feasible, amendments, revision, created_at,
  started_at, ended_at
FROM trial """

_INSERT_EVENT = """
INSERT INTO event (study_key, revision, kind, trial, payload, at) VALUES (?, ?, ?, ?, ?, ?)"""

_SELECT_EVENTS = """
SELECT study_key, revision, kind, trial, payload, at FROM event
WHERE study_key = ? AND revision > ? ORDER BY revision LIMIT ?"""

_PUT_MEASUREMENT = """
INSERT INTO measurement (study_key, trial, step, payload) VALUES (?, ?, ?, ?)
ON CONFLICT (study_key, trial, step) DO UPDATE SET payload = excluded.payload"""

_SELECT_MEASUREMENTS = """
SELECT study_key, trial, step, payload FROM measurement
WHERE study_key = ? AND trial = ? ORDER BY step"""
_COUNT_MEASUREMENTS = "SELECT count(*) FROM measurement WHERE study_key = ? AND trial = ?"

_SELECT_RESPONSE = """
SELECT project, method, request_id, body_hash, response, at FROM response
WHERE project = ? AND method = ? AND request_id = ?"""

_INSERT_RESPONSE = """
INSERT INTO response (project, method, request_id, body_hash, response, at)
VALUES (?, ?, ?, ?, ?, ?)"""

_DROP_RESPONSES = """
DELETE FROM response WHERE rowid IN (
  SELECT rowid FROM (SELECT rowid, at FROM response ORDER BY rowid LIMIT ?)
  WHERE at NOT BETWEEN ? AND ?)"""

_N_TRIALS = StudyRow._fields.index("n_trials")
_LATE, _FEASIBLE = TrialRow._fields.index("late"), TrialRow._fields.index("feasible")

_TAKEN = (
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
    sqlite3.SQLITE_CONSTRAINT_ROWID,
    sqlite3.SQLITE_CONSTRAINT_UNIQUE,
)


class SqliteTransaction:
    """``Transaction`` over an open connection; beginning and ending it is the store's."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        studies: StudyRows,
        trials: TrialRows,
        *,
        is_writable: bool,
    ) -> None:
        self._connection = connection
        self._studies = studies
        self._trials = trials
        self._is_writable = is_writable
        self.n_written = 0
        """Statements that wrote, so far: about as many as rows."""

    # Studies

    def insert_study(self, row: StudyRow) -> StudyRow:
        """See ``Transaction``."""
        cursor = self._write(_INSERT_STUDY, row)
        key = cursor.lastrowid
        assert key is not None  # noqa: S101 - an INSERT that succeeded has a row id.
        return self._studies.keep(row._replace(key=key))

    def update_study(self, row: StudyRow) -> None:
        """See ``Transaction``."""
        known = self._studies.by_key(row.key)
        if known is not None and _is_advance(known, row):
            values = (row.key, row.n_trials, row.revision, row.cost_spent, row.updated_at)
            self._write(_ADVANCE_STUDY, values)
        elif self._write(_UPDATE_STUDY, row).rowcount == 0:
            raise KeyError(f"no study {row.key} of this name and uid")
        self._studies.keep(row)

    def study(self, project: str, study_id: str) -> StudyRow | None:
        """See ``Transaction``."""
        if (known := self._studies.by_name(project, study_id)) is not None:
            return known
        where = "WHERE project = ? AND study_id = ? AND state <> 'DELETED'"
        found = self._connection.execute(_SELECT_STUDY + where, (project, study_id)).fetchone()
        return found and self._studies.keep(StudyRow(*found))

    def study_by_key(self, key: int) -> StudyRow | None:
        """See ``Transaction``."""
        if (known := self._studies.by_key(key)) is not None:
            return known
        found = self._connection.execute(_SELECT_STUDY + "WHERE key = ?", (key,)).fetchone()
        return found and self._studies.keep(StudyRow(*found))

    def study_by_uid(self, uid: str) -> StudyRow | None:
        """See ``Transaction``."""
        found = self._connection.execute(_SELECT_STUDY + "WHERE uid = ?", (uid,)).fetchone()
        return found and self._studies.keep(StudyRow(*found))

    def studies(
        self, project: str, *, after_key: int = 0, limit: int = 100, deleted: bool = False
    ) -> Sequence[StudyRow]:
        """See ``Transaction``."""
        where = (
            "WHERE project = ? AND key > ? AND (state <> 'DELETED' OR ?) ORDER BY key LIMIT ?"
        )
        values = (project, after_key, deleted, limit)
        found = self._connection.execute(_SELECT_STUDY + where, values)
        return [StudyRow(*each) for each in found]

    def all_studies(self, *, after_key: int = 0, limit: int = 100) -> Sequence[StudyRow]:
        """See ``Transaction``."""
        where = "WHERE key > ? AND state <> 'DELETED' ORDER BY key LIMIT ?"
        found = self._connection.execute(_SELECT_STUDY + where, (after_key, limit))
        return [StudyRow(*each) for each in found]

    # Trials

    def insert_trial(self, row: TrialRow) -> None:
        """See ``Transaction``."""
        self._write(_INSERT_TRIAL, row)
        self._trials.insert(row)

    def update_trial(self, row: TrialRow) -> None:
        """See ``Transaction``."""
        if self._write(_UPDATE_TRIAL, row).rowcount == 0:
            raise KeyError(f"no trial {row.number} of study {row.study_key}")
        self._trials.update(row)

    def trial(self, study_key: int, number: int) -> TrialRow | None:
        """See ``Transaction``."""
        if (known := self._trials.held(study_key, number)) is not None:
            return known
        where = "WHERE study_key = ? AND number = ?"
        found = self._connection.execute(_SELECT_TRIAL + where, (study_key, number)).fetchone()
        return found and self._trials.keep(_trial(found))

    def trials(
        self,
        study_key: int,
        *,
        states: Sequence[str] = (),
        after_number: int = 0,
        changed_since: int = 0,
        limit: int = 100,
    ) -> Sequence[TrialRow]:
        """See ``Transaction``."""
        where = "WHERE study_key = ? AND number > ? AND revision > ?"
        if states:
            where += " AND state IN (" + ", ".join("?" * len(states)) + ")"
        where += " ORDER BY number LIMIT ?"
        values = (study_key, after_number, changed_since, *states, limit)
        found = self._connection.execute(_SELECT_TRIAL + where, values)
        return [_trial(each) for each in found]

    def count_trials(self, study_key: int, *, states: Sequence[str] = ()) -> Mapping[str, int]:
        """See ``Transaction``."""
        if (known := self._trials.counts(study_key, states)) is not None:
            return known
        query = _count_trials(len(states))
        counts = dict(self._connection.execute(query, (study_key, *states)).fetchall())
        if states:
            self._trials.keep_counts(study_key, states, counts)
        return counts

    # Events and measurements

    def append_event(self, row: EventRow) -> None:
        """See ``Transaction``."""
        self._write(_INSERT_EVENT, row)

    def events(
        self, study_key: int, *, after_revision: int = 0, limit: int = 1000
    ) -> Sequence[EventRow]:
        """See ``Transaction``."""
        values = (study_key, after_revision, limit)
        return [EventRow(*each) for each in self._connection.execute(_SELECT_EVENTS, values)]

    def put_measurement(self, row: MeasurementRow) -> None:
        """See ``Transaction``."""
        self._write(_PUT_MEASUREMENT, row)

    def measurements(self, study_key: int, trial: int) -> Sequence[MeasurementRow]:
        """See ``Transaction``."""
        found = self._connection.execute(_SELECT_MEASUREMENTS, (study_key, trial))
        return [MeasurementRow(*each) for each in found]

    def count_measurements(self, study_key: int, trial: int) -> int:
        """See ``Transaction``."""
        found = self._connection.execute(_COUNT_MEASUREMENTS, (study_key, trial)).fetchone()
        return int(found[0])

    # Answered requests

    def response(self, project: str, method: str, request_id: str) -> ResponseRow | None:
        """See ``Transaction``."""
        values = (project, method, request_id)
        found = self._connection.execute(_SELECT_RESPONSE, values).fetchone()
        return found and ResponseRow(*found)

    def put_response(self, row: ResponseRow) -> None:
        """See ``Transaction``."""
        self._write(_INSERT_RESPONSE, row)

    def drop_responses(self, *, before: float, after: float, limit: int) -> int:
        """See ``Transaction``."""
        return self._write(_DROP_RESPONSES, (limit, before, after)).rowcount

    def _write(self, statement: str, values: tuple[Any, ...]) -> sqlite3.Cursor:
        if not self._is_writable:
            raise RuntimeError("this transaction may only read")
        self.n_written += 1
        try:
            return self._connection.execute(statement, values)
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode in _TAKEN:
                raise KeyError(f"taken: {error}") from error
            if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
                raise KeyError("belongs to a study or trial that does not exist") from error
            raise


def _trial(values: tuple[Any, ...]) -> TrialRow:
    columns = list(values)  # SQLite has no booleans.
    columns[_LATE] = bool(columns[_LATE])
    if columns[_FEASIBLE] is not None:
        columns[_FEASIBLE] = bool(columns[_FEASIBLE])
    return TrialRow(*columns)


def _is_advance(known: StudyRow, row: StudyRow) -> bool:
    """Say whether a study only went on: what its indexes and its readers go by is the same.

    Writing all columns takes twice as long, and every ask and tell does it.
    """
    return (
        known[:_N_TRIALS] == row[:_N_TRIALS]
        and known.created_at == row.created_at
        and known.etag == row.etag
    )


@cache
def _count_trials(n_states: int) -> str:
    states = f"AND state IN ({', '.join('?' * n_states)})" if n_states else ""
    return f"SELECT state, count(*) FROM trial WHERE study_key = ? {states} GROUP BY state"  # noqa: S608
