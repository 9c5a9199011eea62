"""The ready queue: a study's next points, computed right after a result and before the ask.

A cache in memory, which may be lost at any moment. What is in it answers an ask of the same
size at the same revision and nothing else, so that every ask gets what it would have been
computed afresh. Any event of the study empties it.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from bbopt.errors import BboptError, ExhaustedError
from bbopt.rpc.names import StudyName
from bbopt_server.compute import Compute, Suggestions
from bbopt_server.storage.store import Store, StudyRow, Transaction
from bbopt_server.studies.handing_out import Points, written_down
from bbopt_server.studies.ledger import Effects
from bbopt_server.studies.log_reading import study_log
from bbopt_server.studies.outside import Outside
from bbopt_server.studies.room import room_of

RECENT_S = 300.0
"""Nothing is computed for studies that have not asked for so long."""
MIN_COMPUTING_S = 0.005
"""Nor for those whose last computation was shorter: that is the round trip to compute, so an
ask would save little. Without this, strategies without a model cost the front up to half as
much CPU again, for each pair of ask and tell.
"""
MAX_COMPUTING_S = 2.0
"""Nor for those whose last one took longer: every other study's ask may wait for it."""
MAX_UNUSED = 3
"""Computations in a row that no ask followed before a study gets no more of them."""
MAX_STUDIES = 1024

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ReadyCounters:
    """What has come of it so far."""

    n_hits: int = 0
    """Computations of an ask that were saved."""
    n_misses: int = 0
    """Asks that had to be computed."""
    n_dropped: int = 0
    """Computations that an event made worthless."""
    n_failed: int = 0


@dataclass(frozen=True, slots=True)
class Filled:
    """Points that wait for their ask."""

    study_key: int
    points: Points

    def points_for(self, row: StudyRow, n_new: int) -> Points | None:
        """Return the points if computing ``n_new`` now would give the same."""
        points = self.points
        is_same = (row.key, row.revision) == (self.study_key, points.revision)
        return points if is_same and n_new == len(points.suggestions) else None


@dataclass(slots=True, eq=False)
class _Ahead:
    """Points for an ask that has not come yet, or their computation."""

    wanted: tuple[int, int] | None = None
    """Revision and count, once they are known."""
    has_begun: bool = False
    """Whether compute works on it, or has done so."""
    is_used: bool = False
    found: Suggestions | None = None
    name: StudyName | None = None
    """Of the study, where the points are among those that are filled."""
    task: "asyncio.Task[None] | None" = None

    def cancel(self) -> None:
        """Give up; compute skips what it has not begun."""
        if self.task is not None:
            self.task.cancel()


@dataclass(slots=True)
class _Study:
    """What is known of a study that asks."""

    count: int
    """Trials that the last ask wanted."""
    asked_at: float
    took_s: float
    """By its last computation."""
    n_told: int = 0
    """Results since the last ask: who asks for several comes back when all are told."""
    n_unused: int = 0
    ahead: _Ahead | None = None


@dataclass(slots=True)
class ReadyQueue:
    """Computes ahead, at most one ask for each study."""

    store: Store
    compute: Compute
    outside: Outside
    is_on: bool = True
    counters: ReadyCounters = field(default_factory=ReadyCounters)
    _studies: "OrderedDict[int, _Study]" = field(default_factory=OrderedDict)
    _filled: dict[StudyName, Filled] = field(default_factory=dict)
    _asking: set[int] = field(default_factory=set)
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)

    async def stop(self) -> None:
        """Drop everything and compute nothing any more."""
        if self.is_on:
            _log.info("ready queue: %s", self.counters)
        self.is_on = False
        self._studies.clear()
        self._filled.clear()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Asks ----------------------------------------------------------------------------------

    @contextmanager
    def asking(self, study_key: int) -> Iterator[None]:
        """Compute nothing ahead for a study while asks of it wait: they come first."""
        self._asking.add(study_key)
        try:
            yield
        finally:
            self._asking.discard(study_key)

    def filled(self, name: StudyName, n_asked: int) -> Filled | None:
        """Return the points that wait for an ask of this size, if its study has not changed."""
        filled = self._filled.get(name)
        study = None if filled is None else self._studies.get(filled.study_key)
        return filled if study is not None and study.count == n_asked else None

    async def take(self, row: StudyRow, n_new: int, *, n_asked: int) -> Suggestions | None:
        """Return what computing ``n_new`` points now would give, if it is there or under way.

        What compute has not begun is given up instead: an ask need not wait behind others.

        Args:
            row: The study as the ask found it.
            n_new: Points to compute.
            n_asked: Trials that the ask wanted, waiting ones included.
        """
        if not self.is_on:
            return None
        study = self._studies.get(row.key)
        if study is not None:
            self._note_ask(row.key, study, n_asked)
            ahead = study.ahead
            if ahead is not None and ahead.has_begun and ahead.wanted == (row.revision, n_new):
                if ahead.task is not None and not ahead.task.done():
                    await asyncio.wait([ahead.task])
                if ahead.found is not None:
                    self._count_hit(ahead)
                    return ahead.found
            self._drop(row.key)
        self.counters.n_misses += 1
        return None

    def _note_ask(self, study_key: int, study: _Study, n_asked: int) -> None:
        study.count, study.asked_at = n_asked, self.outside.monotonic()
        study.n_told = study.n_unused = 0
        self._studies.move_to_end(study_key)

    def _count_hit(self, ahead: _Ahead) -> None:
        ahead.is_used = True
        self.counters.n_hits += 1

    def learn(self, study_key: int, n_asked: int, *, took_s: float) -> None:
        """Remember that a study asks, and how long its points take to compute."""
        if not self.is_on:
            return
        new = _Study(n_asked, self.outside.monotonic(), took_s)
        self._studies.setdefault(study_key, new).took_s = took_s
        self._studies.move_to_end(study_key)
        if len(self._studies) > MAX_STUDIES:
            oldest = next(iter(self._studies))
            self._drop(oldest)
            del self._studies[oldest]

    # Changes -------------------------------------------------------------------------------

    def note(self, effects: Effects) -> None:
        """Drop what has not seen a change; begin anew after a result. Returns at once."""
        if not self.is_on:
            return
        for study_key in effects.answered_ready:
            if (study := self._studies.get(study_key)) is not None and study.ahead is not None:
                self._note_ask(study_key, study, study.count)
                self._count_hit(study.ahead)
        for study_key in effects.changed:
            self._drop(study_key)
        for row in effects.deleted:
            self._drop(row.key)
            self._studies.pop(row.key, None)
        for study_key, n in effects.told.items():
            if (study := self._studies.get(study_key)) is not None:
                study.n_told += n
                if study_key not in self._asking and self._pays(study):
                    self._begin(study_key, study)

    def _drop(self, study_key: int) -> None:
        study = self._studies.get(study_key)
        if study is not None and study.ahead is not None:
            self.counters.n_dropped += not study.ahead.is_used
            study.ahead.cancel()
            if study.ahead.name is not None:
                self._filled.pop(study.ahead.name, None)
            study.ahead = None

    def _pays(self, study: _Study) -> bool:
        return (
            study.n_told >= study.count
            and study.n_unused < MAX_UNUSED
            and MIN_COMPUTING_S <= study.took_s <= MAX_COMPUTING_S
            and self.outside.monotonic() - study.asked_at <= RECENT_S
        )

    def _begin(self, study_key: int, study: _Study) -> None:
        study.n_unused += 1
        ahead = study.ahead = _Ahead()
        ahead.task = asyncio.create_task(self._fill(study_key, study, ahead))
        self._tasks.add(ahead.task)
        ahead.task.add_done_callback(self._tasks.discard)

    async def _fill(self, study_key: int, study: _Study, ahead: _Ahead) -> None:
        try:
            found = await self._compute_ahead(study_key, study.count, ahead)
        except ExhaustedError:  # Compute is busy: that is no fault.
            found = None
        except Exception as error:
            # No more for this study until an ask of it has been computed.
            self._studies.pop(study_key, None)
            self.counters.n_failed += 1
            cause = None if isinstance(error, BboptError) else error
            _log.warning("nothing was computed ahead: %s", error, exc_info=cause)
            return
        if found is not None:
            study.took_s = found.elapsed_s
            ahead.found, ahead.has_begun = found, True
        elif study.ahead is ahead:
            study.ahead = None

    async def _compute_ahead(
        self, study_key: int, count: int, ahead: _Ahead
    ) -> Suggestions | None:
        """Compute what the next ask wants; ``None`` if it would not want anything."""

        def work(tx: Transaction) -> tuple[StudyRow, int] | None:
            row = tx.study_by_key(study_key)
            if row is None or row.state != "ACTIVE":
                return None
            return row, room_of(tx, row, self.outside.specs.spec_of(row)).n_fresh(count)

        looked = await self.store.read(work)
        if looked is None:
            return None
        row, n_new = looked
        if n_new == 0 or self.compute.set_aside_s(row.uid) > 0.0:
            return None
        ahead.wanted = (row.revision, n_new)
        log = study_log(self.store, row, self.outside.specs.spec_of(row))

        async def events(after: int) -> Sequence[bytes]:
            # Compute reads the log, where it ends with a new result, when a job's turn comes.
            ahead.has_begun = True
            return await log.events(after)

        found = await self.compute.suggest(
            replace(log, events=events), n_new, time_left_s=None, is_ahead=True
        )
        if found.revision != row.revision:
            return None
        self._keep_filled(row, n_new, found, ahead)
        return found

    def _keep_filled(
        self, row: StudyRow, n_new: int, found: Suggestions, ahead: _Ahead
    ) -> None:
        """Have points at hand for an ask that comes later, written down as far as they can be.

        An ask that waits already takes them by the path of every ask.
        """
        study = self._studies.get(row.key)
        if study is None or study.ahead is not ahead or row.key in self._asking:
            return
        if len(found.points) != n_new:  # The strategy waits for something.
            return
        points = Points(found.points, found.state_bytes, found.revision)
        points = written_down(points, row, self.outside.specs.spec_of(row))
        ahead.name = StudyName(row.project, row.study_id)
        self._filled[ahead.name] = Filled(row.key, points)
