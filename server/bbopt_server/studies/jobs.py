"""How asks that wait get points: computed for them by a job, or ahead of them in a series."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from bbopt.errors import BboptError, NotFoundError, UnavailableError
from bbopt.rpc.names import StudyName
from bbopt_server.compute import Compute, Suggestions
from bbopt_server.crash_points import reach
from bbopt_server.storage.store import FEW, Store, StudyRow, Transaction
from bbopt_server.studies.asking import (
    MAX_COUNT,
    Outcome,
    Stale,
    commit_points,
    commit_series,
)
from bbopt_server.studies.handing_out import Points
from bbopt_server.studies.ledger import Effects
from bbopt_server.studies.log_reading import has_model, study_log
from bbopt_server.studies.outside import Outside
from bbopt_server.studies.ready import ReadyQueue
from bbopt_server.studies.room import Room, room_of
from bbopt_server.studies.series import Series, SeriesTable, n_to_compute
from bbopt_server.studies.waiting import Waiting, WaitingAsks, deliver, n_asked_by

T = TypeVar("T")

_log = logging.getLogger(__name__)

MAX_ROUNDS = 2
"""A job is computed again if results came in meanwhile. The last round is taken as it is:
its ``data_revision`` says what it has seen.
"""


class Commit(Protocol):
    """Runs work that answers calls in a transaction, and then does in memory what follows from
    it; see ``Committer.commit_new``.
    """

    def __call__(  # noqa: D102
        self, work: Callable[[Transaction, Effects, bool], T], *, is_long: bool = False
    ) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """A study as one look at it found it."""

    study: StudyRow
    room: Room

    def n_fresh(self, n_asked: int) -> int:
        """Count the points that asks for so many trials need."""
        return self.room.n_fresh(n_asked) if self.study.state == "ACTIVE" else 0


def seen_by(asks: Iterable[Waiting]) -> Seen | None:
    """Return the study as it was seen last by asks that were all assessed just now."""
    needs = [each.needs for each in asks if each.needs is not None]
    newest = max(needs, key=lambda each: each.study.revision, default=None)
    return None if newest is None else Seen(newest.study, newest.room)


class Jobs:
    """Computes points for asks and commits them."""

    def __init__(
        self,
        store: Store,
        compute: Compute,
        outside: Outside,
        *,
        commit: Commit,
        ready: ReadyQueue,
    ) -> None:
        self._store = store
        self._compute = compute
        self._outside = outside
        self._commit = commit
        self._ready = ready
        self._series = SeriesTable()
        self._extending: dict[int, asyncio.Task[None]] = {}
        """By study."""

    async def run(self, study_key: int, batch: list[Waiting], seen: Seen | None) -> None:
        """Compute points for some asks and answer these.

        Args:
            study_key: Of their study.
            batch: The asks; those that leave meanwhile are taken out.
            seen: The study where it has been looked at just now; ``None``: look at it.
        """
        for round_ in range(MAX_ROUNDS):
            still = [each for each in batch if each.is_open]
            if not still:
                return
            if seen is None or round_ > 0:
                seen = await self._look(study_key)
            n_new = min(seen.n_fresh(n_asked_by(still)), MAX_COUNT)
            suggestions = await self._suggest(seen, n_new, still) if n_new > 0 else None
            is_last = round_ == MAX_ROUNDS - 1
            outcomes = await self._commit_round(seen.study, suggestions, still, is_last=is_last)
            if not isinstance(outcomes, Stale):
                is_exhausted = suggestions is not None and suggestions.space_exhausted
                deliver(still, outcomes, is_exhausted=is_exhausted)
                return
        raise UnavailableError("points were committed by another way; ask again")

    async def _look(self, study_key: int) -> Seen:
        def look(tx: Transaction) -> Seen:
            row = tx.study_by_key(study_key)
            if row is None:
                raise NotFoundError("the study is gone")
            return Seen(row, room_of(tx, row, self._outside.specs.spec_of(row)))

        return await self._store.read(look)

    async def _suggest(self, seen: Seen, n_new: int, batch: Sequence[Waiting]) -> Suggestions:
        row = seen.study
        n_asked = max(each.caller.ask.count for each in batch)
        if (ready := await self._ready.take(row, n_new, n_asked=n_asked)) is not None:
            return ready
        found = await self._compute_for(batch, seen, n_new)
        self._ready.learn(row.key, n_asked, took_s=found.elapsed_s)
        return found

    async def _compute_for(
        self,
        batch: Sequence[Waiting],
        seen: Seen,
        n_points: int,
        *,
        is_exact: bool = False,
    ) -> Suggestions:
        spec = self._outside.specs.spec_of(seen.study)
        log = study_log(self._store, seen.study, spec, is_exact=is_exact)
        give_up_at = min(each.give_up_at for each in batch)
        time_left_s = max(0.0, give_up_at - self._outside.monotonic())
        found = await self._compute.suggest(log, n_points, time_left_s=time_left_s)
        reach("ask.suggested")
        return found

    async def _commit_round(
        self,
        row: StudyRow,
        suggestions: Suggestions | None,
        batch: list[Waiting],
        *,
        is_last: bool,
    ) -> list[Outcome] | Stale:
        """Make points trials and answer asks with them."""
        points = Points((), None, row.revision)
        if suggestions is not None:
            points = Points(suggestions.points, suggestions.state_bytes, suggestions.revision)
        # Who left since the job began gets nothing; the others are answered in order.
        batch[:] = [each for each in batch if each.is_open]
        callers = [each.caller for each in batch]
        may_be_stale = is_last or not has_model(self._outside.specs.spec_of(row))

        def commit(tx: Transaction, effects: Effects, are_new: bool) -> list[Outcome] | Stale:
            return commit_points(
                tx,
                row.key,
                points,
                callers=callers,
                are_new=are_new,
                may_be_stale=may_be_stale,
                outside=self._outside,
                effects=effects,
            )

        if not callers:
            return []
        n_trials = max(len(points.suggestions), n_asked_by(batch))
        return await self._commit(commit, is_long=n_trials > FEW)

    # Series --------------------------------------------------------------------------------

    def study_with_points(self, name: StudyName, n_asked: int) -> int | None:
        """Return the key of a study of which so many points are at hand, or ``None``."""
        series = self._series.of(name)
        if series is None or len(series) < n_asked or not series.is_of(name):
            return None
        return series.study_key

    async def run_series(self, study: WaitingAsks, batch: list[Waiting]) -> None:
        """Answer asks from their study's series, of which more is computed where it is short.

        Args:
            study: The study. All that wait when the commit's turn comes are answered.
            batch: Becomes those asks.
        """
        last = self._series.of(study.name)
        series = last if last is not None and last.serves(study.key) else None
        for _ in range(1 + MAX_ROUNDS):
            if series is None:
                series = await self._begin_series(study, batch, last)
            else:
                study.move_to(batch, most=min(FEW, len(series)))
            if not any(each.is_open for each in batch):
                return
            committed = await self._commit_series(study, series, batch)
            if not isinstance(committed, Stale):
                outcomes, rest = committed
                self._series.keep(rest)
                self._extend(rest)
                deliver(batch, outcomes, is_exhausted=False)
                return
            series, last = None, series
        raise UnavailableError("trials were created by another way; ask again")

    async def _begin_series(
        self, study: WaitingAsks, batch: list[Waiting], last: Series | None
    ) -> Series:
        """Compute what asks need now, and more where the series before was used up."""
        study.move_to(batch, most=MAX_COUNT)
        if (task := self._extending.pop(study.key, None)) is not None:
            task.cancel()  # Whoever has asked goes first.
        seen = await self._look(study.key)
        n_new = min(seen.n_fresh(n_asked_by(batch)), MAX_COUNT)
        found = Suggestions((), None, False, seen.study.revision, 0.0)
        if n_new > 0:
            n_points = n_to_compute(n_new, seen.room.n_new, last)
            found = await self._compute_for(batch, seen, n_points, is_exact=True)
        row = seen.study
        name = StudyName(row.project, row.study_id, row.uid)
        return Series(row.key, name, row.n_trials + 1, found)

    def _extend(self, series: Series) -> None:
        """Compute more of a series that is getting short, and return at once."""
        if series.is_short and series.study_key not in self._extending:
            task = asyncio.create_task(self._compute_more(series))
            self._extending[series.study_key] = task

    async def _compute_more(self, series: Series) -> None:
        try:
            seen = await self._look(series.study_key)
            n_points = n_to_compute(0, seen.room.n_new, series)
            if n_points == 0 or seen.study.state != "ACTIVE":
                return
            spec = self._outside.specs.spec_of(seen.study)
            log = study_log(self._store, seen.study, spec, is_exact=True)
            found = await self._compute.suggest(log, n_points, time_left_s=None, is_ahead=True)
            if found.revision == seen.study.revision:
                first = seen.study.n_trials + 1
                self._series.extend(Series(series.study_key, series.name, first, found))
        except Exception as error:  # Whoever asks next is told.
            cause = None if isinstance(error, BboptError) else error
            _log.warning("a series was not extended: %s", error, exc_info=cause)
        finally:
            if self._extending.get(series.study_key) is asyncio.current_task():
                del self._extending[series.study_key]

    async def stop(self) -> None:
        """Compute nothing ahead of asks any more."""
        tasks = list(self._extending.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _commit_series(
        self, study: WaitingAsks, series: Series, batch: list[Waiting]
    ) -> tuple[list[Outcome], Series] | Stale:
        def commit(
            tx: Transaction, effects: Effects, are_new: bool
        ) -> tuple[list[Outcome], Series] | Stale:
            # Asks that came while others were being committed need not wait for the next turn,
            # as far as there are points.
            study.move_to(batch, most=min(FEW, len(series)))
            return commit_series(
                tx,
                series,
                callers=[each.caller for each in batch],
                are_new=are_new,
                outside=self._outside,
                effects=effects,
            )

        return await self._commit(commit, is_long=n_asked_by(batch) > FEW)
