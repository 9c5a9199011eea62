"""``Store`` in memory: for tests, and for studies that need not outlive the server."""

import threading
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Generic, TypeAlias, TypeVar

from bbopt.errors import UnavailableError
from bbopt_server.storage.store import (
    EventRow,
    MeasurementRow,
    ResponseRow,
    StudyRow,
    Transaction,
    TrialRow,
)

K = TypeVar("K", bound=tuple[Any, ...])
V = TypeVar("V")
T = TypeVar("T")

_Undo: TypeAlias = Callable[[], None]
_DELETED = "DELETED"


class _Table(Generic[K, V]):
    """Rows by key, and their keys in order; knows how to take each change back."""

    def __init__(self) -> None:
        self._rows: dict[K, V] = {}
        self._keys: list[K] = []

    def get(self, key: K) -> V | None:
        return self._rows.get(key)

    def put(self, key: K, row: V) -> _Undo:
        if key in self._rows:
            before = self._rows[key]
            self._rows[key] = row
            return lambda: self._rows.__setitem__(key, before)
        self._rows[key] = row
        insort(self._keys, key)
        return lambda: self._remove(key)

    def drop(self, key: K) -> _Undo:
        before = self._rows[key]
        self._remove(key)

        def undo() -> None:
            self.put(key, before)

        return undo

    def between(self, low: tuple[Any, ...], high: tuple[Any, ...]) -> Iterator[V]:
        """Yield the rows with ``low < key < high`` in order; a prefix sorts first."""
        begin, end = bisect_right(self._keys, low), bisect_left(self._keys, high)
        return (self._rows[key] for key in islice(self._keys, begin, end))

    def __iter__(self) -> Iterator[V]:
        return (self._rows[key] for key in self._keys)

    def first(self, n: int) -> list[tuple[K, V]]:
        """List the first rows with their keys."""
        return [(key, self._rows[key]) for key in self._keys[:n]]

    def last_key(self) -> K | None:
        """Return the key of the last row."""
        return self._keys[-1] if self._keys else None

    def _remove(self, key: K) -> None:
        del self._rows[key]
        del self._keys[bisect_left(self._keys, key)]


class _Tables:
    """Everything that the store keeps."""

    def __init__(self) -> None:
        self.studies: _Table[tuple[int], StudyRow] = _Table()
        self.names: _Table[tuple[str, str], int] = _Table()
        self.uids: _Table[tuple[str], int] = _Table()
        self.trials: _Table[tuple[int, int], TrialRow] = _Table()
        self.events: _Table[tuple[int, int], EventRow] = _Table()
        self.measurements: _Table[tuple[int, int, int], MeasurementRow] = _Table()
        self.responses: _Table[tuple[str, str, str], ResponseRow] = _Table()
        self.answered: _Table[tuple[int], ResponseRow] = _Table()
        """The same in the order in which they were stored."""
        self.n_studies = 0


class MemoryTransaction:
    """``Transaction`` over the tables of a ``MemoryStore``."""

    def __init__(self, tables: _Tables, *, is_writable: bool) -> None:
        self._tables = tables
        self._is_writable = is_writable
        self._undo: list[_Undo] = []

    def roll_back(self) -> None:
        """Take every change back, the last one first."""
        while self._undo:
            self._undo.pop()()

    # Studies

    def insert_study(self, row: StudyRow) -> StudyRow:
        """See ``Transaction``."""
        tables = self._tables
        if tables.uids.get((row.uid,)) is not None:
            raise KeyError(f"taken: the uid {row.uid}")
        row = row._replace(key=tables.n_studies + 1)
        self._claim_name(row)
        self._put(tables.studies, (row.key,), row)
        self._put(tables.uids, (row.uid,), row.key)
        tables.n_studies += 1
        self._undo.append(lambda: setattr(tables, "n_studies", row.key - 1))
        return row

    def update_study(self, row: StudyRow) -> None:
        """See ``Transaction``."""
        before = self._tables.studies.get((row.key,))
        if before is None or _identity(before) != _identity(row):
            raise KeyError(f"no study {row.key} of this name and uid")
        if before.state == _DELETED:
            self._claim_name(row)
        elif row.state == _DELETED:
            self._drop(self._tables.names, (row.project, row.study_id))
        self._put(self._tables.studies, (row.key,), row)

    def study(self, project: str, study_id: str) -> StudyRow | None:
        """See ``Transaction``."""
        key = self._tables.names.get((project, study_id))
        return None if key is None else self._tables.studies.get((key,))

    def study_by_key(self, key: int) -> StudyRow | None:
        """See ``Transaction``."""
        return self._tables.studies.get((key,))

    def study_by_uid(self, uid: str) -> StudyRow | None:
        """See ``Transaction``."""
        key = self._tables.uids.get((uid,))
        return None if key is None else self.study_by_key(key)

    def studies(
        self, project: str, *, after_key: int = 0, limit: int = 100, deleted: bool = False
    ) -> Sequence[StudyRow]:
        """See ``Transaction``."""
        found = (
            row
            for row in self._tables.studies
            if row.project == project
            and row.key > after_key
            and (deleted or row.state != _DELETED)
        )
        return list(islice(found, limit))

    def all_studies(self, *, after_key: int = 0, limit: int = 100) -> Sequence[StudyRow]:
        """See ``Transaction``."""
        found = (
            row for row in self._tables.studies if row.key > after_key and row.state != _DELETED
        )
        return list(islice(found, limit))

    # Trials

    def insert_trial(self, row: TrialRow) -> None:
        """See ``Transaction``."""
        self._require_study(row.study_key)
        self._add(self._tables.trials, (row.study_key, row.number), row)

    def update_trial(self, row: TrialRow) -> None:
        """See ``Transaction``."""
        if self.trial(row.study_key, row.number) is None:
            raise KeyError(f"no trial {row.number} of study {row.study_key}")
        self._put(self._tables.trials, (row.study_key, row.number), row)

    def trial(self, study_key: int, number: int) -> TrialRow | None:
        """See ``Transaction``."""
        return self._tables.trials.get((study_key, number))

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
        found = (
            row
            for row in self._tables.trials.between((study_key, after_number), (study_key + 1,))
            if row.revision > changed_since and (not states or row.state in states)
        )
        return list(islice(found, limit))

    def count_trials(self, study_key: int, *, states: Sequence[str] = ()) -> Mapping[str, int]:
        """See ``Transaction``."""
        rows = self._tables.trials.between((study_key,), (study_key + 1,))
        return dict(Counter(row.state for row in rows if not states or row.state in states))

    # Events and measurements

    def append_event(self, row: EventRow) -> None:
        """See ``Transaction``."""
        self._require_study(row.study_key)
        self._add(self._tables.events, (row.study_key, row.revision), row)

    def events(
        self, study_key: int, *, after_revision: int = 0, limit: int = 1000
    ) -> Sequence[EventRow]:
        """See ``Transaction``."""
        found = self._tables.events.between((study_key, after_revision), (study_key + 1,))
        return list(islice(found, limit))

    def put_measurement(self, row: MeasurementRow) -> None:
        """See ``Transaction``."""
        if self.trial(row.study_key, row.trial) is None:
            raise KeyError(f"no trial {row.trial} of study {row.study_key}")
        self._put(self._tables.measurements, (row.study_key, row.trial, row.step), row)

    def measurements(self, study_key: int, trial: int) -> Sequence[MeasurementRow]:
        """See ``Transaction``."""
        found = self._tables.measurements.between((study_key, trial), (study_key, trial + 1))
        return list(found)

    def count_measurements(self, study_key: int, trial: int) -> int:
        """See ``Transaction``."""
        return len(self.measurements(study_key, trial))

    # Answered requests

    def response(self, project: str, method: str, request_id: str) -> ResponseRow | None:
        """See ``Transaction``."""
        return self._tables.responses.get((project, method, request_id))

    def put_response(self, row: ResponseRow) -> None:
        """See ``Transaction``."""
        (last,) = self._tables.answered.last_key() or (0,)
        self._add(self._tables.responses, _request(row), row)
        self._add(self._tables.answered, (last + 1,), row)

    def drop_responses(self, *, before: float, after: float, limit: int) -> int:
        """See ``Transaction``."""
        first = self._tables.answered.first(limit)
        old = [(number, row) for number, row in first if not before <= row.at <= after]
        for number, row in old:
            self._drop(self._tables.responses, _request(row))
            self._drop(self._tables.answered, number)
        return len(old)

    # Every write ends here.

    def _put(self, table: _Table[K, V], key: K, row: V) -> None:
        self._require_writable()
        self._undo.append(table.put(key, row))

    def _add(self, table: _Table[K, V], key: K, row: V) -> None:
        if table.get(key) is not None:
            raise KeyError(f"taken: {key}")
        self._put(table, key, row)

    def _drop(self, table: _Table[K, V], key: K) -> None:
        self._require_writable()
        self._undo.append(table.drop(key))

    def _claim_name(self, row: StudyRow) -> None:
        if row.state != _DELETED:
            self._add(self._tables.names, (row.project, row.study_id), row.key)

    def _require_study(self, key: int) -> None:
        if self.study_by_key(key) is None:
            raise KeyError(f"no study {key}")

    def _require_writable(self) -> None:
        if not self._is_writable:
            raise RuntimeError("this transaction may only read")


class MemoryStore:
    """Studies that live as long as the process. Work runs at once, in the caller's thread."""

    def __init__(self) -> None:
        self._tables = _Tables()
        self._working = threading.Lock()
        self._is_closed = False

    async def transact(
        self,
        work: Callable[[Transaction], T],
        *,
        then: Callable[[], None] | None = None,
        is_long: bool = False,  # noqa: ARG002
    ) -> T:
        """See ``Store``."""
        with self._working:
            self._refuse_if_closed()
            transaction = MemoryTransaction(self._tables, is_writable=True)
            try:
                result = work(transaction)
            except BaseException:
                transaction.roll_back()
                raise
        if then is not None:
            then()
        return result

    async def read(self, work: Callable[[Transaction], T], *, is_long: bool = False) -> T:  # noqa: ARG002
        """See ``Store``."""
        with self._working:
            self._refuse_if_closed()
            return work(MemoryTransaction(self._tables, is_writable=False))

    async def close(self) -> None:
        """See ``Store``."""
        self._is_closed = True

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise UnavailableError("the store is closing")


def _identity(row: StudyRow) -> tuple[str, str, str]:
    return row.uid, row.project, row.study_id


def _request(row: ResponseRow) -> tuple[str, str, str]:
    return row.project, row.method, row.request_id
