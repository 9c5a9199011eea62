"""Studies that a compute process keeps ready: their optimizers, folded up to some revision.

A cache and nothing more. A study that was dropped is built again from its first event, by
the same folding that keeps a ready one up to date, so nobody can tell the difference but by
the time it takes.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
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


Builder: TypeAlias = Callable[[StudySpec], FoldingOptimizer]
Meter: TypeAlias = Callable[[FoldingOptimizer], int]


class BehindError(Exception):
    """A request counts on events that are not there; not an error of anybody."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        super().__init__(f"events after {revision} are missing")


class HotStudies:
    """The studies used last, bounded in number and memory."""

    def __init__(
        self, build: Builder, *, n_bytes: Meter, max_studies: int, max_bytes: int
    ) -> None:
        """Start with no study.

        Args:
            build: Makes an optimizer that has folded nothing.
            n_bytes: Says how much memory an optimizer holds, roughly.
            max_studies: How many to keep, at least 1.
            max_bytes: How much memory to keep; one study may need more.
        """
        self._build = build
        self._n_bytes = n_bytes
        self._max_studies = max_studies
        self._max_bytes = max_bytes
        self._optimizers: OrderedDict[str, FoldingOptimizer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._optimizers)

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
        optimizer = self._optimizers.pop(uid, None)
        if optimizer is None:
            optimizer = self._build(study_spec_from_message(spec))
        reach("compute.before_fold")
        optimizer.fold(map(event_from_message, events[known - since_revision :]))
        reach("compute.after_fold")
        self._optimizers[uid] = optimizer
        return optimizer

    def trim(self) -> None:
        """Drop the studies used longest ago until the bounds hold again."""
        sizes = {uid: self._n_bytes(each) for uid, each in self._optimizers.items()}
        total = sum(sizes.values())
        while len(self) > 1 and (len(self) > self._max_studies or total > self._max_bytes):
            uid, _ = self._optimizers.popitem(last=False)
            total -= sizes[uid]

    def revision(self, uid: str) -> int:
        """Say what has been folded of a study; 0 if it is not there."""
        optimizer = self._optimizers.get(uid)
        return optimizer.revision if optimizer is not None else 0

    def drop(self, uid: str) -> None:
        """Forget a study."""
        self._optimizers.pop(uid, None)

    def clear(self) -> None:
        """Forget every study."""
        self._optimizers.clear()
