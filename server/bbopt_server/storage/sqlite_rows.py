"""What a transaction of SQLite need not read again: rows as they stand in the open transaction.

Nobody else may open the file, so a row that was read or written is the row until the next
change, or until something is undone: then ``clear`` is called. All of it is bounded; what is
not known here is in the database.
"""

from collections.abc import Mapping, Sequence

from bbopt_server.storage.store import StudyRow, TrialRow

_MAX_STUDIES = 256
_MAX_TRIALS = 2048
_MAX_POINT_BYTES = 8192
"""Trials with a longer point are not kept."""


class StudyRows:
    """The rows of the studies used last; deleted ones are not kept."""

    def __init__(self) -> None:
        self._by_key: dict[int, StudyRow] = {}
        self._by_name: dict[tuple[str, str], StudyRow] = {}

    def by_key(self, key: int) -> StudyRow | None:
        """Return a study if it is known here."""
        return self._by_key.get(key)

    def by_name(self, project: str, study_id: str) -> StudyRow | None:
        """Return a study if it is known here."""
        return self._by_name.get((project, study_id))

    def keep(self, row: StudyRow) -> StudyRow:
        """Take over a row as it was read or written, and return it."""
        name = (row.project, row.study_id)
        if row.state == "DELETED":
            self._by_key.pop(row.key, None)
            if (known := self._by_name.get(name)) is not None and known.key == row.key:
                del self._by_name[name]
            return row
        if len(self._by_key) >= _MAX_STUDIES and row.key not in self._by_key:
            self.clear()
        self._by_key[row.key] = self._by_name[name] = row
        return row

    def clear(self) -> None:
        """Know nothing any more."""
        self._by_key.clear()
        self._by_name.clear()


class TrialRows:
    """The rows of trials that workers hold, and how many trials studies have in some states."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, int], TrialRow] = {}
        self._counts: dict[int, tuple[tuple[str, ...], dict[str, int]]] = {}
        """By study: the states that were counted last, and all of their counts."""

    def held(self, study_key: int, number: int) -> TrialRow | None:
        """Return a trial if it is known here."""
        return self._held.get((study_key, number))

    def counts(self, study_key: int, states: Sequence[str]) -> Mapping[str, int] | None:
        """Return how many trials a study has in each of these states, if it is known here."""
        counted, counts = self._counts.get(study_key, ((), {}))
        return dict(counts) if counts and counted == tuple(states) else None

    def keep(self, row: TrialRow) -> TrialRow:
        """Take over a row as it was read or written, and return it."""
        if row.lease_token and len(row.point) <= _MAX_POINT_BYTES:
            if len(self._held) >= _MAX_TRIALS:
                self._held.clear()
            self._held[row.study_key, row.number] = row
        return row

    def keep_counts(
        self, study_key: int, states: Sequence[str], counts: Mapping[str, int]
    ) -> None:
        """Take over the counts of some states; those that are missing are 0."""
        if len(self._counts) >= _MAX_STUDIES:
            self._counts.clear()
        self._counts[study_key] = tuple(states), {**dict.fromkeys(states, 0), **counts}

    def insert(self, row: TrialRow) -> None:
        """Take over a trial that was added."""
        if row.study_key in self._counts:
            self._count(row, 1)
        self.keep(row)

    def update(self, row: TrialRow) -> None:
        """Take over a trial that was replaced."""
        before = self._held.pop((row.study_key, row.number), None)
        if before is None:
            self._counts.pop(row.study_key, None)
        elif row.study_key in self._counts:
            self._count(before, -1)
            self._count(row, 1)
        self.keep(row)

    def _count(self, row: TrialRow, n: int) -> None:
        _, counts = self._counts[row.study_key]
        if row.state in counts:
            counts[row.state] += n

    def clear(self) -> None:
        """Know nothing any more."""
        self._held.clear()
        self._counts.clear()
