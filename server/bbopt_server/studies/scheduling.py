"""Brings the asks of a study that wait for points together.

At most one job of a study runs at a time; the asks that come meanwhile share the next one.
"""

import asyncio

from bbopt.errors import BboptError, InternalError, UnavailableError
from bbopt_server.studies.asking import MAX_COUNT, NeedsPoints
from bbopt_server.studies.handing_out import CallerAsk
from bbopt_server.studies.jobs import Jobs, seen_by
from bbopt_server.studies.log_reading import has_series
from bbopt_server.studies.outside import Outside
from bbopt_server.studies.ready import ReadyQueue
from bbopt_server.studies.waiting import PointsOutcome, Waiting, WaitingAsks


class Scheduler:
    """Decides which asks are served when."""

    def __init__(self, jobs: Jobs, outside: Outside, *, ready: ReadyQueue) -> None:
        self._jobs = jobs
        self._outside = outside
        self._ready = ready
        self._studies: dict[int, WaitingAsks] = {}
        self._is_stopped = False

    def has_points(self, caller: CallerAsk) -> bool:
        """Whether points for an ask are at hand, so that it need not be assessed."""
        return self._jobs.study_with_points(caller.ask.study, caller.ask.count) is not None

    async def points_for(
        self, caller: CallerAsk, needs: NeedsPoints | None, *, give_up_at: float
    ) -> PointsOutcome:
        """Wait for points and for the answer that they make possible.

        Args:
            caller: The ask.
            needs: As it was assessed; ``None``: it was not, because it ``has_points``.
            give_up_at: By the monotonic clock.

        Raises:
            TimeoutError: There is no answer by then.
            UnavailableError: Compute cannot answer, or the server is about to stop.
            BboptError: The strategy refuses, or the study is gone.
        """
        if self._is_stopped:
            raise UnavailableError("the server is stopping", retry_after_s=2.0)
        loop = asyncio.get_running_loop()
        study = self._asks_of(caller, needs)
        waiting = Waiting(caller, needs, give_up_at, loop.create_future())
        study.asks.append(waiting)
        timer = loop.call_later(give_up_at - self._outside.monotonic(), waiting.time_out)
        try:
            return await waiting.answer
        finally:
            timer.cancel()

    def _asks_of(self, caller: CallerAsk, needs: NeedsPoints | None) -> WaitingAsks:
        """Return the asks of a study; from now on they are being served."""
        name = caller.ask.study
        if needs is None:
            key = self._jobs.study_with_points(name, caller.ask.count)
        else:
            key = needs.study.key
        assert key is not None  # noqa: S101 - points were at hand a moment ago.
        study = self._studies.get(key)
        if study is None:
            is_series = needs is None or has_series(self._outside.specs.spec_of(needs.study))
            study = self._studies[key] = WaitingAsks(key, name, is_series)
            study.task = asyncio.create_task(self._serve(study))
        return study

    async def stop(self) -> None:
        """Refuse those who wait and everyone who comes later."""
        self._is_stopped = True
        studies = list(self._studies.values())
        for study in studies:
            for each in study.asks:
                each.fail(self._why_over())
            if study.task is not None:
                study.task.cancel()
        tasks = [study.task for study in studies if study.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._jobs.stop()

    async def _serve(self, study: WaitingAsks) -> None:
        batch: list[Waiting] = []
        seen = seen_by(study.asks)
        try:
            with self._ready.asking(study.key):
                while study.asks:
                    batch = []
                    try:
                        if study.has_series:
                            await self._jobs.run_series(study, batch)
                        else:
                            study.move_to(batch, most=MAX_COUNT)
                            await self._jobs.run(study.key, batch, seen)
                    except BboptError as error:
                        for each in batch:
                            each.fail(error)
                    seen = None
        finally:
            for each in [*batch, *study.asks]:
                each.fail(self._why_over())
            del self._studies[study.key]

    def _why_over(self) -> BboptError:
        if self._is_stopped:
            return UnavailableError("the server is stopping", retry_after_s=2.0)
        return InternalError("the scheduler broke; the server's log says how")
