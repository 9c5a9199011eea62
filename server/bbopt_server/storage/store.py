"""What a store must do: keep studies, trials, events and answered requests, durably.

Work runs inside a transaction as a plain function, so that the rules of a study are written
once and every backend runs them one after the other. A transaction that returned from
``transact`` is on disk; one that raised left no trace.

Rows carry opaque bytes (serialised ``bbopt.rpc.v1`` messages) beside the few columns that
queries need: a store knows no protobuf and no optimization. They are tuples, because every
call makes a dozen of them: a frozen dataclass of this size takes ten times as long to make.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

T = TypeVar("T")


class StudyRow(NamedTuple):
    """One study."""

    key: int
    """Chosen by the store when inserted (pass 0)."""
    uid: str
    project: str
    study_id: str
    """Unique within the project among studies that are not deleted."""
    display_name: str
    spec: bytes
    """``StudySpec``, deterministic serialisation."""
    state: str
    """Name of a ``Study.State`` value without its prefix, e.g. ``ACTIVE``."""
    state_reason: bytes
    """``StateReason``."""
    labels: bytes
    """``Study`` with nothing but its labels."""
    n_trials: int
    """Number of the last trial."""
    revision: int
    """Position of the last event."""
    cost_spent: float
    created_at: float
    """Unix seconds."""
    updated_at: float
    etag: str


class TrialRow(NamedTuple):
    """One trial as it stands."""

    study_key: int
    number: int
    state: str
    """Name of a ``Trial.State`` value without its prefix."""
    state_message: str
    point: bytes
    """``NewTrial``: number, parameters, provenance."""
    outcome: bytes | None
    """``Outcome``, once final."""
    labels: bytes
    """``Trial`` with nothing but its labels."""
    attempt: int
    worker: str
    """Holder, or the last one; empty if never held."""
    lease_token: str
    """Empty when nobody holds the trial."""
    lease_duration_s: float
    """0: never expires."""
    late: bool
    feasible: bool | None
    amendments: int
    revision: int
    """Position of the last event that changed the trial."""
    created_at: float
    started_at: float | None
    ended_at: float | None


class EventRow(NamedTuple):
    """One event of a study's log; never changed."""

    study_key: int
    revision: int
    kind: str
    """Name of the ``LogEvent`` oneof case, e.g. ``told``."""
    trial: int | None
    payload: bytes
    """``LogEvent``."""
    at: float
    """Unix seconds."""


class MeasurementRow(NamedTuple):
    """One intermediate report of a trial; a later report of the same step replaces it."""

    study_key: int
    trial: int
    step: int
    payload: bytes
    """``Measurement``."""


class ResponseRow(NamedTuple):
    """The stored answer to a request, for when it is sent again."""

    project: str
    method: str
    request_id: str
    body_hash: bytes
    response: bytes
    at: float


FEW = 20
"""A work that handles more rows than this is long, see ``Store.transact``."""


class Transaction(Protocol):
    """Reads and writes that become durable together, or not at all.

    Lists are paged: pass the last key, number or revision of one page as ``after`` of the
    next; ``limit`` is at least 1. A study or trial that does not exist has no rows.
    """

    def insert_study(self, row: StudyRow) -> StudyRow:
        """Add a study and return it with its key.

        Raises:
            KeyError: ``(project, study_id)`` is taken by a study that is not deleted, or
                the uid by any.
        """
        ...

    def update_study(self, row: StudyRow) -> None:
        """Replace the study with this key; its project, id and uid are its own for ever.

        Raises:
            KeyError: There is no such study, or one that comes back from DELETED finds its
                name taken.
        """
        ...

    def study(self, project: str, study_id: str) -> StudyRow | None:
        """Return a study that is not deleted."""
        ...

    def study_by_key(self, key: int) -> StudyRow | None:
        """Return a study, deleted or not."""
        ...

    def study_by_uid(self, uid: str) -> StudyRow | None:
        """Return a study, deleted or not."""
        ...

    def studies(
        self, project: str, *, after_key: int = 0, limit: int = 100, deleted: bool = False
    ) -> Sequence[StudyRow]:
        """List studies in order of key; the deleted ones too if asked."""
        ...

    def all_studies(self, *, after_key: int = 0, limit: int = 100) -> Sequence[StudyRow]:
        """List the studies of every project that are not deleted, in order of key."""
        ...

    def insert_trial(self, row: TrialRow) -> None:
        """Add a trial.

        Raises:
            KeyError: The study already has this number, or there is no such study.
        """
        ...

    def update_trial(self, row: TrialRow) -> None:
        """Replace the trial with this study and number.

        Raises:
            KeyError: There is no such trial.
        """
        ...

    def trial(self, study_key: int, number: int) -> TrialRow | None:
        """Return one trial."""
        ...

    def trials(
        self,
        study_key: int,
        *,
        states: Sequence[str] = (),
        after_number: int = 0,
        changed_since: int = 0,
        limit: int = 100,
    ) -> Sequence[TrialRow]:
        """List trials in order of number; ``states`` empty means all of them."""
        ...

    def count_trials(self, study_key: int, *, states: Sequence[str] = ()) -> Mapping[str, int]:
        """Count trials by state; states without any may be missing.

        ``states`` empty means all of them, which takes time in proportion to the study.
        """
        ...

    def append_event(self, row: EventRow) -> None:
        """Add an event.

        Raises:
            KeyError: The study already has this revision, or there is no such study.
        """
        ...

    def events(
        self, study_key: int, *, after_revision: int = 0, limit: int = 1000
    ) -> Sequence[EventRow]:
        """List events in order of revision."""
        ...

    def put_measurement(self, row: MeasurementRow) -> None:
        """Add or replace the intermediate report of a step.

        Raises:
            KeyError: There is no such trial.
        """
        ...

    def measurements(self, study_key: int, trial: int) -> Sequence[MeasurementRow]:
        """List the intermediate reports of a trial in order of step."""
        ...

    def count_measurements(self, study_key: int, trial: int) -> int:
        """Count the intermediate reports of a trial: its different steps."""
        ...

    def response(self, project: str, method: str, request_id: str) -> ResponseRow | None:
        """Return the stored answer to a request."""
        ...

    def put_response(self, row: ResponseRow) -> None:
        """Store the answer to a request.

        Raises:
            KeyError: The request already has one.
        """
        ...

    def drop_responses(self, *, before: float, after: float, limit: int) -> int:
        """Of the ``limit`` answers that were stored first, forget those whose time is before
        one or after the other; return how many.
        """
        ...


class Store(Protocol):
    """Where everything that was acknowledged is kept."""

    async def transact(
        self,
        work: Callable[[Transaction], T],
        *,
        then: Callable[[], None] | None = None,
        is_long: bool = False,
    ) -> T:
        """Run ``work`` in a transaction and return its result once it is durable.

        ``work`` runs one at a time, on the caller's loop or on a thread of the store; it must
        not block. It may be called again after all that it did was undone, because something
        beside it had to be. What it raises is raised here, after a rollback of just this work.
        A caller that is cancelled may or may not find its work done.

        Args:
            work: What to do.
            then: Called on the loop once ``work`` is durable, before the result is returned
                and even if the caller has gone.
            is_long: Whether ``work`` may take more than about a millisecond, so that the
                loop had better not wait for it.

        Raises:
            UnavailableError: The store could not commit (disk full, closing); nothing of
                ``work`` remains.
        """
        ...

    async def read(self, work: Callable[[Transaction], T], *, is_long: bool = False) -> T:
        """Run ``work`` that only reads, without waiting for a commit of its own.

        It sees one state of the store, with everything that was acknowledged before. As for
        ``transact``, ``is_long`` says that the loop had better not wait for it.

        Raises:
            RuntimeError: ``work`` tried to write.
            UnavailableError: The store is closing or has failed.
        """
        ...

    async def close(self) -> None:
        """Finish what is queued, write everything back, release the file.

        From now on work is refused with ``UnavailableError``. Closing twice is harmless.
        """
        ...
