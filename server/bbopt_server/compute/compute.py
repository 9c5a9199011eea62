"""What the front process asks of compute, and what it gets.

Everything behind ``Compute`` is a cache: it writes nothing, holds nothing that the log does
not have, and may be killed at any moment. The front commits the answers.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bbopt.rpc.log import strategy_state_from_bytes, suggestion_from_bytes
from bbopt.rpc.v1 import insight_service_pb2
from bbopt.trial import StrategyState, Suggestion

MEMORY_MIB = 1024
"""What the studies in one compute process may take, roughly."""
IDLE_S = 60.0
"""How long a study keeps its models without being asked."""


@dataclass(frozen=True, slots=True)
class StudyLog:
    """How compute gets at the truth about a study."""

    uid: str
    spec: bytes
    """Its definition, a serialised ``StudySpec``."""
    has_model: bool
    """Whether its strategy fits one, which takes long once the log is."""
    revision: int
    """Last event that the caller knows of; an answer has folded at least this much."""
    events: Callable[[int], Awaitable[Sequence[bytes]]]
    """Read from the store every event after a revision: serialised ``LogEvent`` messages in
    order and without gaps, so that the first one has the revision after it.
    """

    def __post_init__(self) -> None:
        if not self.uid:
            raise ValueError("uid must not be empty")
        if self.revision < 0:
            raise ValueError(f"revision must be at least 0, got {self.revision}")


@dataclass(frozen=True, slots=True)
class Suggestions:
    """Points for an ask, not committed yet."""

    points: tuple[bytes, ...]
    """Each as ``suggestion_to_bytes`` writes it: they go into the log as they are. At most as
    many as asked for. Fewer: the strategy waits for results, or the space is exhausted.
    """
    state_bytes: bytes | None
    """The strategy's state once these are committed, serialised; belongs into the ``Asked``
    event. ``None``: the strategy did not move.
    """
    space_exhausted: bool
    revision: int
    """Last event that was folded before computing."""
    elapsed_s: float
    """Time the computation took, without waiting for its turn."""
    states: tuple[bytes, ...] = ()
    """Where the strategy ignores results, its state after each point, serialised: points may be
    committed a few at a time, in order.
    """

    @property
    def suggestions(self) -> tuple[Suggestion, ...]:
        """The points, read."""
        return tuple(map(suggestion_from_bytes, self.points))

    @property
    def state(self) -> StrategyState | None:
        """The state, read."""
        state = self.state_bytes
        return None if state is None else strategy_state_from_bytes(state)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The trial to deploy, by the model."""

    number: int | None
    """``None``: there is nothing to recommend yet."""
    reason: str


class Compute(Protocol):
    """Where the models of studies live.

    Every method that takes a ``StudyLog`` raises:

    - ``ComputeUnavailableError``: nothing can take the job (``suggest`` degrades).
    - ``ComputeFailedError``: the job crashed or hung twice, or the study did so too often
      and is set aside for some minutes.
    - ``ExhaustedError``: too many jobs wait.
    - ``UnsupportedError``, ``PreconditionError`` and other errors of the library that the
      strategy raised, e.g. when it has no model to predict with.

    Cancelling the caller does not stop a job that has begun; its answer is dropped.
    """

    @property
    def is_ready(self) -> bool:
        """Whether a job would be started now rather than wait for a process to load."""
        ...

    async def suggest(
        self,
        study: StudyLog,
        count: int,
        *,
        time_left_s: float | None,
        is_ahead: bool = False,
    ) -> Suggestions:
        """Compute points for an ask.

        Args:
            study: The study and its log.
            count: Points wanted, at least 1.
            time_left_s: Seconds after which the answer is worthless, waiting included;
                the strategy spends less on the search when it is short. ``None``: no limit.
            is_ahead: Nobody has asked yet: whatever else waits goes first, few such jobs may
                wait, and one whose process is lost is not tried again.
        """
        ...

    async def predict(
        self, study: StudyLog, points: Sequence[insight_service_pb2.Point]
    ) -> insight_service_pb2.PredictResponse:
        """Predict every metric at points in user units, in their order."""
        ...

    async def recommend(self, study: StudyLog) -> Recommendation:
        """Rank the evaluated trials by the model and name the best."""
        ...

    def set_aside_s(self, uid: str) -> float:
        """Say how long a study that brought down compute gets no model; 0 if it is well."""
        ...

    def forget(self, uid: str) -> None:
        """Drop what is held for a study, e.g. a deleted one. Never raises for the unknown."""
        ...

    async def start(self) -> None:
        """Begin to load in the background; returns at once."""
        ...

    async def stop(self) -> None:
        """Fail what waits with ``ComputeUnavailableError``, and end every process."""
        ...
