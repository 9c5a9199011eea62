"""Answers asks: from the queue, from the model, by waiting, or with a cheaper point."""

from typing import TypeAlias

from bbopt.errors import (
    DeadlineError,
    InternalError,
    NotFoundError,
    NumericalError,
    UnavailableError,
)
from bbopt.rpc.log import suggestion_to_bytes
from bbopt_server.compute import Compute, ComputeFailedError, ComputeUnavailableError
from bbopt_server.compute.connection import NotInstalledError
from bbopt_server.crash_points import reach
from bbopt_server.storage.store import FEW, Store, Transaction
from bbopt_server.studies import asking, fallback
from bbopt_server.studies.answers import AskAnswer, AskReason
from bbopt_server.studies.asking import NeedsPoints
from bbopt_server.studies.commands import Ask, Call
from bbopt_server.studies.committing import Committer
from bbopt_server.studies.handing_out import Answered, CallerAsk, MustWait, Points
from bbopt_server.studies.jobs import Jobs
from bbopt_server.studies.ledger import Effects
from bbopt_server.studies.outside import Outside
from bbopt_server.studies.ready import ReadyQueue
from bbopt_server.studies.scheduling import Scheduler
from bbopt_server.studies.waiting import SpaceExhausted
from bbopt_server.studies.watching import Bell, Bells

DEFAULT_DEADLINE_S = 60.0
"""Of an ask that comes without one."""
_FALLBACK_TRIES = 5

Provided: TypeAlias = Answered | MustWait | SpaceExhausted


class Answerer:
    """Brings an ask to its answer."""

    def __init__(
        self,
        store: Store,
        compute: Compute,
        outside: Outside,
        *,
        committer: Committer,
        bells: Bells,
        ready: ReadyQueue,
    ) -> None:
        self._store = store
        self._outside = outside
        self._committer = committer
        self._bells = bells
        self._ready = ready
        jobs = Jobs(store, compute, outside, commit=committer.commit_new, ready=ready)
        self._scheduler = Scheduler(jobs, outside, ready=ready)
        self.is_draining = False

    async def drain(self) -> None:
        """Answer no more asks."""
        self.is_draining = True
        await self._scheduler.stop()
        self._bells.ring_all()

    async def answer(
        self, command: Ask, call: Call[AskAnswer], *, time_left_s: float | None
    ) -> bytes:
        """Hand out trials, waiting for some if that makes sense; see ``Studies.ask``."""
        now = self._outside.monotonic()
        available_s = DEFAULT_DEADLINE_S if time_left_s is None else time_left_s
        give_up_at = now + available_s - _margin_s(available_s)
        wait_until = give_up_at
        if command.max_wait_s is not None:
            wait_until = min(give_up_at, now + command.max_wait_s)
        caller = CallerAsk(command, call)
        outlook = await self._begin(caller, give_up_at)
        reach("ask.assessed")
        if isinstance(outlook, Answered):
            return outlook.response
        with self._bells.listen(outlook.study.key) as bell:
            while True:
                provided = await self._provide(caller, outlook, give_up_at)
                match provided:
                    case Answered(response):
                        return response
                    case SpaceExhausted():
                        return await self._give_up(caller, AskReason.SPACE_EXHAUSTED)
                    case MustWait() if not await self._has_rung(bell, wait_until):
                        return await self._give_up(caller, _reason_of_nothing(command))
                    case MustWait():
                        outlook = await self._assess(caller)

    async def _begin(self, caller: CallerAsk, give_up_at: float) -> asking.Outlook | Provided:
        """Answer an ask at once where its points are ready or will be in a moment; assess any
        other.
        """
        if self._scheduler.has_points(caller):
            try:
                provided = await self._compute(caller, None, give_up_at)
            except NotFoundError:  # Another may have its name by now.
                return await self._assess(caller)
            # Who gets nothing is told why.
            return await self._assess(caller) if isinstance(provided, MustWait) else provided
        filled = self._ready.filled(caller.ask.study, caller.ask.count)
        if filled is None:
            return await self._assess(caller)
        self._refuse_if_draining()
        return await self._committer.commit(
            lambda tx, effects: asking.answer_at_once(
                tx, caller, filled, self._outside, effects
            ),
            is_long=caller.ask.count > FEW,
        )

    def _refuse_if_draining(self) -> None:
        if self.is_draining:
            raise UnavailableError("the server is stopping", retry_after_s=2.0)

    async def _assess(self, caller: CallerAsk) -> asking.Outlook:
        self._refuse_if_draining()
        return await self._store.read(lambda tx: asking.assess(tx, caller, self._outside))

    async def _has_rung(self, bell: Bell, until: float) -> bool:
        """Wait until the study changes; false if nothing happens in time."""
        return await bell.wait(max(0.0, until - self._outside.monotonic()))

    async def _provide(
        self, caller: CallerAsk, outlook: asking.Outlook | Provided, give_up_at: float
    ) -> Provided:
        """Answer an ask from the queue if that suffices, else with the help of compute."""
        if not isinstance(outlook, NeedsPoints):
            return outlook
        if outlook.n_new == 0:
            outside = self._outside
            return await self._committer.commit(
                lambda tx, effects: asking.hand_out_queued(tx, caller, outside, effects),
                is_long=caller.ask.count > FEW,
            )
        return await self._compute(caller, outlook, give_up_at)

    async def _compute(
        self, caller: CallerAsk, needs: NeedsPoints | None, give_up_at: float
    ) -> Provided:
        """Answer an ask with what compute suggests, or with a cheaper point."""
        try:
            return await self._scheduler.points_for(caller, needs, give_up_at=give_up_at)
        except TimeoutError:
            reason = "the model had no answer before the deadline"
        except NotInstalledError:
            raise  # A server without an engine is set up wrongly: say so, never hide it.
        except (ComputeUnavailableError, ComputeFailedError, NumericalError) as error:
            reason = f"the model cannot answer: {error}"
        if not caller.ask.allows_fallback:
            raise DeadlineError(f"{reason}, and the caller allows no fallback")
        return await self._fall_back(caller, reason)

    async def _fall_back(self, caller: CallerAsk, reason: str) -> Answered | MustWait:
        """Answer with uniform points, marked as such."""
        for attempt in range(_FALLBACK_TRIES):
            outlook = await self._assess(caller)
            if not isinstance(outlook, NeedsPoints):
                return outlook
            is_last = attempt == _FALLBACK_TRIES - 1
            answered = await self._try_fallback(caller, outlook, reason, is_last=is_last)
            if answered is not None:
                return answered
        raise InternalError("the last try of a fallback always answers")

    async def _try_fallback(
        self, caller: CallerAsk, needs: NeedsPoints, reason: str, *, is_last: bool
    ) -> Answered | MustWait | None:
        """Draw points for the next numbers; ``None`` if others took the numbers meanwhile."""
        row = needs.study
        suggestions = await fallback.sample(
            self._outside.specs.spec_of(row),
            first_number=row.n_trials + 1,
            count=needs.n_new,
            revision=row.revision,
            reason=reason,
        )
        points = Points(tuple(map(suggestion_to_bytes, suggestions)), None, row.revision)

        def work(tx: Transaction, effects: Effects) -> Answered | MustWait | None:
            return asking.commit_fallback(
                tx,
                row,
                points,
                caller=caller,
                is_last=is_last,
                outside=self._outside,
                effects=effects,
            )

        return await self._committer.commit(work, is_long=needs.n_new > FEW)

    async def _give_up(self, caller: CallerAsk, reason: AskReason) -> bytes:
        outside = self._outside
        return await self._committer.commit(
            lambda tx, effects: asking.give_up(
                tx, caller, reason, outside=outside, effects=effects
            )
        )


def _reason_of_nothing(command: Ask) -> AskReason:
    if command.max_wait_s == 0:
        return AskReason.WAITING_FOR_RESULTS
    return AskReason.TIMED_OUT


def _margin_s(available_s: float) -> float:
    """Time to keep in hand for a fallback and the way back to the caller."""
    return min(0.5, 0.1 * available_s)
