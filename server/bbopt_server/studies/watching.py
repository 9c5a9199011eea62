"""Waking those who wait for a study to change, and reading what changed."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bbopt.errors import DataLossError
from bbopt.rpc.names import StudyName
from bbopt.rpc.v1 import log_pb2, study_pb2
from bbopt_server.storage.store import EventRow, StudyRow, Transaction
from bbopt_server.studies.answers import Change, StudyView, TrialView

PAGE = 200
"""Events read at a time: what a slow watcher costs in memory."""


class Bell:
    """Rings when a study may have changed; begins rung, so that nothing is missed between
    looking and listening.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._event.set()

    def ring(self) -> None:
        """Wake whoever waits."""
        self._event.set()

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it has rung since the last time; false if the time ran out."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Bells:
    """The bells of those who wait, by study; lives on the event loop."""

    def __init__(self) -> None:
        self._bells: dict[int, set[Bell]] = {}

    @contextmanager
    def listen(self, study_key: int) -> Iterator[Bell]:
        """Hear of changes of a study for as long as the block runs."""
        bell = Bell()
        self._bells.setdefault(study_key, set()).add(bell)
        try:
            yield bell
        finally:
            listeners = self._bells[study_key]
            listeners.discard(bell)
            if not listeners:
                del self._bells[study_key]

    def ring(self, study_key: int) -> None:
        """Wake everyone who waits for a change of a study."""
        for bell in self._bells.get(study_key, ()):
            bell.ring()

    def ring_all(self) -> None:
        """Wake everyone."""
        for study_key in self._bells:
            self.ring(study_key)


def read_changes(
    tx: Transaction, study_key: int, after: int
) -> tuple[StudyRow, Sequence[Change]]:
    """Read the next events of a study's log, each with its trial as it stands now.

    An ``Asked`` event with several trials makes several changes of the same revision.
    """
    study = tx.study_by_key(study_key)
    if study is None:
        raise DataLossError(f"the study with key {study_key} is gone")
    rows = tx.events(study_key, after_revision=after, limit=PAGE)
    return study, [change for row in rows for change in _changes(tx, study, row)]


def _as_it_became(study: StudyRow, event: EventRow) -> StudyRow:
    """Put the state of an event into the study's row, which may be in another by now."""
    changed = log_pb2.LogEvent.FromString(event.payload).study_changed
    state = study_pb2.Study.State.Name(changed.state).removeprefix("STATE_")
    return study._replace(state=state, state_reason=changed.reason.SerializeToString())


def _changes(tx: Transaction, study: StudyRow, event: EventRow) -> Iterator[Change]:
    if event.trial is None:
        counts = tx.count_trials(study.key)
        yield Change(event, study=StudyView(_as_it_became(study, event), counts))
        return
    numbers: Sequence[int] = (event.trial,)
    measurement: bytes | None = None
    if event.kind in ("asked", "reported"):
        message = log_pb2.LogEvent.FromString(event.payload)
        if event.kind == "asked":
            numbers = [trial.number for trial in message.asked.trials]
        else:
            measurement = message.reported.measurement.SerializeToString()
    name = StudyName(study.project, study.study_id)
    for number in numbers:
        row = tx.trial(study.key, number)
        if row is None:
            raise DataLossError(f"trial {number} of {name} is in the log but has no row")
        yield Change(event, trial=TrialView(name, row), measurement=measurement)
