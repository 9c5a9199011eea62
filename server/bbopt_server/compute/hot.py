"""Studies that a compute process keeps ready: their optimizers, folded up to some revision.

A cache and nothing more. What a study takes comes in two parts: its folded log, and its models.
A study that nobody asked for a while, or for which there is no memory left, first lets go of
its models, and is *at rest*: they are rebuilt without a fit, in milliseconds while it is small.
If that is not enough, the study is dropped, and built again from its first event by the same
folding that keeps a ready one up to date. Nobody can tell the difference but by the time it
takes.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from bbopt.rpc.log import event_from_message
from bbopt.rpc.study import study_spec_from_message
from bbopt.rpc.v1 import log_pb2, study_pb2
from bbopt.space import ParamValue
from bbopt.specs import StudySpec
from bbopt.trial import Event, Predicted, StrategyState, Suggestion
from bbopt_server.crash_points import reach


class Suggested(Protocol):
    """What an optimizer computed for an ask, not committed yet."""

    @property
    def suggestions(self) -> Sequence[Suggestion]: ...  # noqa: D102
    @property
    def state(self) -> StrategyState | None: ...  # noqa: D102
    @property
    def space_exhausted(self) -> bool: ...  # noqa: D102
    @property
    def states(self) -> Sequence[StrategyState]: ...  # noqa: D102


class Prediction(Protocol):
    """What a model expects at one point, in user units."""

    @property
    def metrics(self) -> Mapping[str, Predicted]: ...  # noqa: D102
    @property
    def probability_feasible(self) -> float: ...  # noqa: D102


class Recommended(Protocol):
    """The trial to deploy."""

    @property
    def number(self) -> int: ...  # noqa: D102
    @property
    def reason(self) -> str: ...  # noqa: D102


class FoldingOptimizer(Protocol):
    """The part of ``bbopt.Optimizer`` that a compute process uses."""

    @property
    def revision(self) -> int:
        """Events that have been folded."""
        ...

    def fold(self, events: Iterable[Event | None]) -> None:
        """Take over what happened next; ``None`` is an event that only counts."""
        ...

    def suggest(self, n: int, *, time_left_s: float | None = None) -> Suggested:
        """Compute points and commit nothing."""
        ...

    def predict(self, points: Sequence[Mapping[str, ParamValue]]) -> Sequence[Prediction]:
        """Predict every metric at points in user units."""
        ...

    def recommendation(self) -> Recommended | None:
        """Name the best evaluated trial by the model."""
        ...

    def rest(self) -> None:
        """Let go of the models; they are rebuilt when they are needed."""
        ...


LOG_BYTES = 20_000
"""What a study takes before it has folded anything: its definition, tables, empty columns."""
BYTES_PER_BYTE = 3
"""Memory of a folded log for each serialised byte. Measured with 30 trials: 2.7 with 6
parameters, 1.8 with 20; resident memory grows by some more while models come and go.
"""

Builder: TypeAlias = Callable[[StudySpec], FoldingOptimizer]
Meter: TypeAlias = Callable[[FoldingOptimizer], int]


class BehindError(Exception):
    """A request counts on events that are not there; not an error of anybody."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        super().__init__(f"events after {revision} are missing")


@dataclass(slots=True)
class _Study:
    """A study and the memory that it takes, roughly."""

    optimizer: FoldingOptimizer
    log_bytes: int = LOG_BYTES
    model_bytes: int = 0
    used_at: float = 0.0


class HotStudies:
    """The studies used last, bounded in memory."""

    def __init__(
        self,
        build: Builder,
        *,
        n_bytes: Meter,
        max_bytes: int,
        max_studies: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with no study.

        Args:
            build: Makes an optimizer that has folded nothing.
            n_bytes: Says how much memory the models of an optimizer take, roughly.
            max_bytes: How much memory to keep; one study may need more.
            max_studies: How many to keep, at least 1; ``None``: only memory counts.
            clock: Seconds; for how long a study has not been used.
        """
        self._build = build
        self._n_bytes = n_bytes
        self._max_bytes = max_bytes
        self._max_studies = max_studies
        self._clock = clock
        self._awake: OrderedDict[str, _Study] = OrderedDict()
        """With models; the one used longest ago first, as in the other."""
        self._at_rest: OrderedDict[str, _Study] = OrderedDict()
        self._dropped: list[str] = []
        self._total = 0

    def __len__(self) -> int:
        return len(self._awake) + len(self._at_rest)

    @property
    def n_at_rest(self) -> int:
        """Studies without models."""
        return len(self._at_rest)

    @property
    def n_bytes(self) -> int:
        """Memory that all of them take, roughly."""
        return self._total

    def fold(
        self,
        uid: str,
        spec: study_pb2.StudySpec,
        since_revision: int,
        events: Sequence[log_pb2.LogEvent],
    ) -> FoldingOptimizer:
        """Bring a study up to date, building it if it is not there.

        Events that were folded already are skipped: whoever asks may have lost count.

        Args:
            uid: The study.
            spec: Its definition; read only if the study has to be built.
            since_revision: Revision before the first of the events.
            events: Without gaps.

        Raises:
            BehindError: Events before these are missing.
            BboptError: The definition or an event cannot be read, or does not fit. The study
                is not there then.
        """
        known = self.revision(uid)
        if since_revision > known:
            raise BehindError(known)
        # Out of the table while it is half folded; back at its end, as the one used last.
        study = self._take(uid)
        if study is None:
            study = _Study(self._build(study_spec_from_message(spec)))
        reach("compute.before_fold")
        new = events[known - since_revision :]
        study.optimizer.fold(map(event_from_message, new))
        reach("compute.after_fold")
        study.log_bytes += BYTES_PER_BYTE * sum(event.ByteSize() for event in new)
        study.model_bytes = self._n_bytes(study.optimizer)
        study.used_at = self._clock()
        self._awake[uid] = study
        self._total += study.log_bytes + study.model_bytes
        return study.optimizer

    def trim(self) -> None:
        """Let studies used longest ago go until the bounds hold again: models first."""
        while self._total > self._max_bytes and len(self._awake) > 1:
            self._rest_first()
        while len(self) > 1 and (
            self._total > self._max_bytes
            or (self._max_studies is not None and len(self) > self._max_studies)
        ):
            oldest = next(iter(self._at_rest or self._awake))
            self.drop(oldest)
            self._dropped.append(oldest)

    def rest(self, *, idle_s: float, n_most: int) -> int:
        """Have up to so many studies that nobody used for so long let go of their models.

        Returns:
            How many did.
        """
        n, before = 0, self._clock() - idle_s
        while n < n_most and self._awake and self._oldest().used_at <= before:
            self._rest_first()
            n += 1
        return n

    def _oldest(self) -> _Study:
        return next(iter(self._awake.values()))

    def _rest_first(self) -> None:
        uid, study = self._awake.popitem(last=False)
        self._total -= study.model_bytes
        study.model_bytes = 0
        study.optimizer.rest()
        self._at_rest[uid] = study

    def revision(self, uid: str) -> int:
        """Say what has been folded of a study; 0 if it is not there."""
        study = self._awake.get(uid) or self._at_rest.get(uid)
        return study.optimizer.revision if study is not None else 0

    def take_dropped(self) -> list[str]:
        """Name the studies that had to go for want of memory since the last time."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def drop(self, uid: str) -> None:
        """Forget a study."""
        self._take(uid)

    def _take(self, uid: str) -> _Study | None:
        study = self._awake.pop(uid, None) or self._at_rest.pop(uid, None)
        if study is not None:
            self._total -= study.log_bytes + study.model_bytes
        return study

    def clear(self) -> None:
        """Forget every study."""
        self._awake.clear()
        self._at_rest.clear()
        self._total = 0
