"""Asks that wait for points, study by study."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from bbopt.errors import BboptError
from bbopt.rpc.names import StudyName
from bbopt_server.crash_points import reach
from bbopt_server.storage.store import StudyRow
from bbopt_server.studies.asking import NeedsPoints, Outcome
from bbopt_server.studies.handing_out import Answered, CallerAsk, MustWait


@dataclass(frozen=True, slots=True)
class SpaceExhausted:
    """The strategy has nothing left to suggest, whatever happens."""

    study: StudyRow


PointsOutcome: TypeAlias = Answered | MustWait | SpaceExhausted


@dataclass(slots=True, eq=False)
class Waiting:
    """One ask that waits for points."""

    caller: CallerAsk
    needs: NeedsPoints | None
    """As the ask was assessed; ``None``: it was not, because points were at hand."""
    give_up_at: float
    """By the monotonic clock."""
    answer: "asyncio.Future[PointsOutcome]"

    @property
    def is_open(self) -> bool:
        """Whether it has no answer yet."""
        return not self.answer.done()

    def time_out(self) -> None:
        """Answer that there were no points in time, unless it has an answer."""
        if self.is_open:
            self.answer.set_exception(TimeoutError())

    def fail(self, error: BboptError) -> None:
        """Answer with an error, unless it has an answer."""
        if self.is_open:
            self.answer.set_exception(error)


@dataclass(slots=True)
class WaitingAsks:
    """The asks of one study, and the task that serves them while there are any."""

    key: int
    """Of the study."""
    name: StudyName
    has_series: bool
    """Whether its points are computed ahead."""
    asks: deque[Waiting] = field(default_factory=deque)
    task: "asyncio.Task[None] | None" = None

    def move_to(self, batch: list[Waiting], *, most: int) -> None:
        """Add asks to those that are being served, in order.

        Args:
            batch: Those being served; who left meanwhile is taken out.
            most: Trials that all of them may want, or one ask may want more.
        """
        batch[:] = [each for each in batch if each.is_open]
        n_asked = n_asked_by(batch)
        while self.asks:
            n_asked += self.asks[0].caller.ask.count
            if batch and n_asked > most:
                return
            waiting = self.asks.popleft()
            if waiting.is_open:
                batch.append(waiting)


def n_asked_by(batch: Iterable[Waiting]) -> int:
    """Count the trials that asks want."""
    return sum(each.caller.ask.count for each in batch)


def deliver(
    batch: Sequence[Waiting], outcomes: Sequence[Outcome], *, is_exhausted: bool
) -> None:
    """Give each ask what came of it; ``is_exhausted``: who got nothing will never get any."""
    reach("ask.before_delivering")
    for each, outcome in zip(batch, outcomes, strict=True):
        if not each.is_open:
            continue
        if isinstance(outcome, BboptError):
            each.answer.set_exception(outcome)
        elif isinstance(outcome, MustWait) and is_exhausted:
            each.answer.set_result(SpaceExhausted(outcome.study))
        else:
            each.answer.set_result(outcome)
