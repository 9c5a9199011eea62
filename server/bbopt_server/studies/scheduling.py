"""Brings the asks of a study that wait for points together into one job for compute.

At most one job of a study runs at a time; the asks that come meanwhile share the next one.
Where jobs are short, such an ask need not be assessed by itself: ``is_quick``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias, TypeVar

from bbopt.errors import BboptError, InternalError, NotFoundError, UnavailableError
from bbopt.rpc.names import StudyName
from bbopt_server.compute import Compute, Suggestions
from bbopt_server.crash_points import reach
from bbopt_server.storage.store import FEW, Store, StudyRow, Transaction
from bbopt_server.studies.asking import MAX_COUNT, NeedsPoints, Stale, commit_points
from bbopt_server.studies.handing_out import Answered, CallerAsk, MustWait, Points
from bbopt_server.studies.ledger import Effects
from bbopt_server.studies.log_reading import Tail, has_model, read_tail, study_log
from bbopt_server.studies.outside import Outside
from bbopt_server.studies.ready import ReadyQueue
from bbopt_server.studies.room import Room, room_of

T = TypeVar("T")

QUICK_S = 0.05
"""A job that has taken longer waits for something. Asks that come then look at the study, where
trials may wait for them.
"""
MAX_ROUNDS = 2
"""A job is computed again if results came in meanwhile. The last round is taken as it is:
its ``data_revision`` says what it has seen.
"""


class Commit(Protocol):
    """Runs work in a transaction, then does in memory what follows from it."""

    def __call__(  # noqa: D102
        self, work: Callable[[Transaction, Effects], T], *, is_long: bool = False
    ) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True)
class SpaceExhausted:
    """The strategy has nothing left to suggest, whatever happens."""

    study: StudyRow


PointsOutcome: TypeAlias = Answered | MustWait | SpaceExhausted
_Outcomes: TypeAlias = list[Answered | MustWait | BboptError]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A study as one look at it, or one commit, found it."""

    study: StudyRow
    room: Room
    tail: Tail | None = None
    """What compute has not folded, where that was read too."""

    def n_fresh(self, n_asked: int) -> int:
        """Count the points that asks for so many trials need."""
        return self.room.n_fresh(n_asked) if self.study.state == "ACTIVE" else 0


@dataclass(slots=True, eq=False)
class _Waiting:
    """One ask that waits for points."""

    caller: CallerAsk
    needs: NeedsPoints | None
    """As the ask was assessed; ``None``: it was not."""
    give_up_at: float
    """By the monotonic clock."""
    answer: "asyncio.Future[PointsOutcome]"

    @property
    def is_open(self) -> bool:
        return not self.answer.done()

    def has_seen_more(self, seen: _Seen) -> bool:
        """Whether the ask was assessed after something else had been seen."""
        return self.needs is not None and self.needs.study.revision > seen.study.revision


@dataclass(slots=True)
class _Study:
    """The asks of one study, and the task that serves them while there are any."""

    name: StudyName
    began_at: float
    """When its job began, by the monotonic clock."""
    waiting: list[_Waiting] = field(default_factory=list)
    task: "asyncio.Task[None] | None" = None


class Scheduler:
    """Decides when compute runs for which asks; commits what it answers."""

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
        self._studies: dict[int, _Study] = {}
        self._quick: dict[StudyName, _Study] = {}
        """Those among them whose strategy has no model, so that their jobs are short."""
        self._is_stopped = False

    def is_quick(self, name: StudyName) -> bool:
        """Whether an ask that joins those of a study now has points within milliseconds: sooner
        than it takes to find out by itself what it needs.
        """
        study = self._quick.get(name)
        return study is not None and self._outside.monotonic() - study.began_at <= QUICK_S

    async def points_for(
        self, caller: CallerAsk, needs: NeedsPoints | None, *, give_up_at: float
    ) -> PointsOutcome:
        """Wait for points and for the answer that they make possible.

        Args:
            caller: The ask.
            needs: As it was assessed; ``None``: it was not, because its study ``is_quick``.
            give_up_at: By the monotonic clock.

        Raises:
            TimeoutError: There is no answer by then.
            UnavailableError: Compute cannot answer, or the server is about to stop.
            BboptError: The strategy refuses, or the study is gone.
        """
        if self._is_stopped:
            raise UnavailableError("the server is stopping", retry_after_s=2.0)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[PointsOutcome] = loop.create_future()
        study = self._quick[caller.ask.study] if needs is None else self._study(needs.study)
        study.waiting.append(_Waiting(caller, needs, give_up_at, answer))
        timer = loop.call_later(give_up_at - self._outside.monotonic(), _time_out, answer)
        try:
            return await answer
        finally:
            timer.cancel()

    def _study(self, row: StudyRow) -> _Study:
        """Return the asks of a study; from now on they are being served."""
        study = self._studies.get(row.key)
        if study is None:
            study = _Study(StudyName(row.project, row.study_id), self._outside.monotonic())
            self._studies[row.key] = study
            if not has_model(self._outside.specs.spec_of(row)):
                self._quick[study.name] = study
            study.task = asyncio.create_task(self._serve(row.key, study))
        return study

    async def stop(self) -> None:
        """Refuse those who wait and everyone who comes later."""
        self._is_stopped = True
        studies = list(self._studies.values())
        for study in studies:
            for each in study.waiting:
                _fail(each, UnavailableError("the server is stopping", retry_after_s=2.0))
            if study.task is not None:
                study.task.cancel()
        tasks = [study.task for study in studies if study.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, study_key: int, study: _Study) -> None:
        batch = study.waiting
        seen = _newest(batch)
        try:
            with self._ready.asking(study_key):
                while batch := _next_batch(study):
                    study.began_at = self._outside.monotonic()
                    try:
                        seen = await self._run_job(study_key, batch, seen)
                    except BboptError as error:
                        seen = None
                        for each in batch:
                            _fail(each, error)
        finally:
            for each in [*batch, *study.waiting]:
                _fail(each, self._why_over())
            self._studies.pop(study_key, None)
            if self._quick.get(study.name) is study:
                del self._quick[study.name]

    def _why_over(self) -> BboptError:
        if self._is_stopped:
            return UnavailableError("the server is stopping", retry_after_s=2.0)
        return InternalError("the scheduler broke; the server's log says how")

    async def _run_job(
        self, study_key: int, batch: list[_Waiting], seen: _Seen | None
    ) -> _Seen | None:
        """Compute points for some asks and answer these.

        Args:
            study_key: Of their study.
            batch: The asks; those that leave meanwhile are taken out.
            seen: The study where it has been looked at just now; ``None``: look at it.

        Returns:
            The same for the next job.
        """
        for round_ in range(MAX_ROUNDS):
            still = [each for each in batch if each.is_open]
            if not still:
                return None
            if seen is None or round_ > 0 or any(each.has_seen_more(seen) for each in still):
                seen = await self._look(study_key)
            n_new = min(seen.n_fresh(sum(each.caller.ask.count for each in still)), MAX_COUNT)
            suggestions = await self._suggest(seen, n_new, still) if n_new > 0 else None
            reach("ask.suggested")
            is_last = round_ == MAX_ROUNDS - 1
            outcomes, after = await self._commit_round(
                seen.study, suggestions, still, is_last=is_last
            )
            reach("ask.before_delivering")
            if not isinstance(outcomes, Stale):
                is_exhausted = suggestions is not None and suggestions.space_exhausted
                _deliver(still, outcomes, is_exhausted=is_exhausted)
                return after
        raise UnavailableError("points were committed by another way; ask again")

    async def _look(self, study_key: int) -> _Seen:
        return await self._store.read(lambda tx: self._seen(tx, study_key))

    def _seen(self, tx: Transaction, study_key: int) -> _Seen:
        row = tx.study_by_key(study_key)
        if row is None:
            raise NotFoundError("the study is gone")
        return _Seen(row, room_of(tx, row, self._outside.specs.spec_of(row)))

    async def _suggest(self, seen: _Seen, n_new: int, batch: Sequence[_Waiting]) -> Suggestions:
        row = seen.study
        n_asked = max(each.caller.ask.count for each in batch)
        if (ready := await self._ready.take(row, n_new, n_asked=n_asked)) is not None:
            return ready
        time_left_s = min(each.give_up_at for each in batch) - self._outside.monotonic()
        spec = self._outside.specs.spec_of(row)
        log = study_log(self._store, row, spec, tail=seen.tail)
        found = await self._compute.suggest(log, n_new, time_left_s=max(0.0, time_left_s))
        self._ready.learn(row.key, n_asked, took_s=found.elapsed_s)
        return found

    async def _commit_round(
        self,
        row: StudyRow,
        suggestions: Suggestions | None,
        batch: list[_Waiting],
        *,
        is_last: bool,
    ) -> "tuple[_Outcomes | Stale, _Seen | None]":
        """Make points trials and answer asks with them; see the study for the next job too,
        where that need not see what happens until then.
        """
        points = Points((), None, row.revision)
        if suggestions is not None:
            points = Points(suggestions.points, suggestions.state_bytes, suggestions.revision)
        # Who left since the job began gets nothing; the others are answered in order.
        batch[:] = [each for each in batch if each.is_open]
        callers = [each.caller for each in batch]
        is_quick = not has_model(self._outside.specs.spec_of(row))

        def commit(tx: Transaction, effects: Effects) -> tuple[_Outcomes | Stale, _Seen | None]:
            outcomes = commit_points(
                tx,
                row.key,
                points,
                callers=callers,
                may_be_stale=is_last or is_quick,
                outside=self._outside,
                effects=effects,
            )
            if not is_quick:
                return outcomes, None
            seen = self._seen(tx, row.key)
            return outcomes, replace(seen, tail=read_tail(tx, row.key, points.revision))

        if not callers:
            return [], None
        n_trials = max(len(points.suggestions), sum(each.ask.count for each in callers))
        return await self._commit(commit, is_long=n_trials > FEW)


def _newest(batch: Sequence[_Waiting]) -> _Seen | None:
    """Return the study as it was seen last by asks that were all assessed just now."""
    needs = [each.needs for each in batch if each.needs is not None]
    if len(needs) < len(batch):
        return None
    newest = max(needs, key=lambda each: each.study.revision)
    return _Seen(newest.study, newest.room)


def _next_batch(study: _Study) -> list[_Waiting]:
    """Take the asks that the next job serves: all that wait, up to the limit of one ask."""
    waiting = [each for each in study.waiting if each.is_open]
    batch: list[_Waiting] = []
    n_new = 0
    for each in waiting:
        n_new += each.caller.ask.count if each.needs is None else each.needs.n_new
        if batch and n_new > MAX_COUNT:
            break
        batch.append(each)
    study.waiting = waiting[len(batch) :]
    return batch


def _deliver(
    batch: Sequence[_Waiting],
    outcomes: "Sequence[Answered | MustWait | BboptError]",
    *,
    is_exhausted: bool,
) -> None:
    for each, outcome in zip(batch, outcomes, strict=True):
        if not each.is_open:
            continue
        if isinstance(outcome, BboptError):
            each.answer.set_exception(outcome)
        elif isinstance(outcome, MustWait) and is_exhausted:
            each.answer.set_result(SpaceExhausted(outcome.study))
        else:
            each.answer.set_result(outcome)


def _time_out(answer: "asyncio.Future[PointsOutcome]") -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


def _fail(waiting: _Waiting, error: BboptError) -> None:
    if waiting.is_open:
        waiting.answer.set_exception(error)
