"""The append-only log of a study in memory, and the trials that it adds up to."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import assert_never

from bbopt.errors import DataLossError
from bbopt.trial.events import (
    Amended,
    Asked,
    Enqueued,
    Event,
    Leased,
    NewTrial,
    Reported,
    Requeued,
    StopRequested,
    Told,
)
from bbopt.trial.trial import (
    Abandoned,
    Completed,
    Failed,
    Infeasible,
    Outcome,
    Stopped,
    Trial,
    TrialState,
)


def state_of(outcome: Outcome) -> TrialState:
    """Return the final state that an outcome leads to."""
    match outcome:
        case Completed():
            return TrialState.COMPLETED
        case Stopped():
            return TrialState.STOPPED
        case Infeasible():
            return TrialState.INFEASIBLE
        case Failed():
            return TrialState.FAILED
        case Abandoned():
            return TrialState.ABANDONED
        case _:
            assert_never(outcome)


def is_data(outcome: Outcome | None) -> bool:
    """Whether a model may learn from an outcome: the point, not the machine, caused it."""
    return isinstance(outcome, Completed | Stopped | Infeasible)


class Log:
    """Events in order, and the state of every trial after the last one.

    An event that cannot follow those before it is refused and leaves no trace.
    """

    def __init__(self, events: Sequence[Event] = ()) -> None:
        self._events: list[Event] = []
        self._trials: dict[int, Trial] = {}
        self._queued: set[int] = set()
        self._n_in = dict.fromkeys(TrialState, 0)
        self._data_revision = 0
        for event in events:
            self.append(event)

    @property
    def revision(self) -> int:
        """Position of the last event, counted from 1; 0 for an empty log."""
        return len(self._events)

    @property
    def data_revision(self) -> int:
        """Position of the last event that changed what a model may learn."""
        return self._data_revision

    @property
    def trials(self) -> Mapping[int, Trial]:
        """Every trial by number, as it stands; a view that follows the log."""
        return MappingProxyType(self._trials)

    @property
    def queued(self) -> tuple[Trial, ...]:
        """Trials that wait for a worker, by number."""
        return tuple(self._trials[number] for number in sorted(self._queued))

    def n_in(self, state: TrialState) -> int:
        """Return how many trials are in a state."""
        return self._n_in[state]

    def __len__(self) -> int:
        return len(self._events)

    def events(self, since: int = 0) -> Sequence[Event]:
        """Return the events after position ``since``, in order."""
        return tuple(self._events[since:])

    def append(self, event: Event) -> int:
        """Add an event and return its position.

        Raises:
            DataLossError: The event cannot follow those before it.
        """
        match event:
            case Asked(trials=new):
                self._create(new, TrialState.ACTIVE)
            case Enqueued(trial=trial):
                self._create((trial,), TrialState.QUEUED)
            case Leased(number=number, attempt=attempt):
                self._move(number, TrialState.ACTIVE, attempt=attempt)
            case Requeued(number=number, attempt=attempt):
                self._move(number, TrialState.QUEUED, attempt=attempt)
            case StopRequested(number=number):
                self._request_stop(number)
            case Reported(number=number):
                self._open(number, "a report")
            case Told():
                self._tell(event)
            case Amended():
                self._amend(event)
            case _:
                assert_never(event)
        self._events.append(event)
        return len(self._events)

    def _create(self, new: Sequence[NewTrial], state: TrialState) -> None:
        expected = range(len(self._trials) + 1, len(self._trials) + 1 + len(new))
        numbers = [trial.number for trial in new]
        if numbers != list(expected):
            raise self._error(
                f"new trials must be numbered from {expected.start}, got {numbers}"
            )
        for trial in new:
            self._put(
                Trial(
                    trial.number, trial.parameters, state, trial.provenance, stage=trial.stage
                )
            )

    def _move(self, number: int, state: TrialState, *, attempt: int) -> None:
        trial = self._open(number, "a lease")
        self._put(replace(trial, state=state, attempt=attempt))

    def _request_stop(self, number: int) -> None:
        trial = self._open(number, "a request to stop")
        if trial.state is TrialState.QUEUED:
            raise self._error(f"trial {number} is queued: there is nobody to stop it")
        self._put(replace(trial, state=TrialState.STOPPING))

    def _tell(self, event: Told) -> None:
        trial = self._known(event.number)
        # A trial that was given up for lost may still be told, late.
        is_found = event.late and trial.state is TrialState.FAILED
        if trial.state.is_final and not is_found:
            raise self._error(f"trial {event.number} already is {trial.state.value}")
        self._settle(trial, event.outcome)

    def _amend(self, event: Amended) -> None:
        trial = self._known(event.number)
        if not trial.state.is_final:
            raise self._error(f"trial {event.number} has no outcome to amend")
        self._settle(trial, event.outcome)

    def _settle(self, trial: Trial, outcome: Outcome) -> None:
        if is_data(outcome) or is_data(trial.outcome):
            self._data_revision = len(self._events) + 1
        self._put(replace(trial, state=state_of(outcome), outcome=outcome))

    def _put(self, trial: Trial) -> None:
        """Store a trial and keep the counts, which spare every ask a pass over all trials."""
        before = self._trials.get(trial.number)
        if before is not None:
            self._n_in[before.state] -= 1
        self._n_in[trial.state] += 1
        if trial.state is TrialState.QUEUED:
            self._queued.add(trial.number)
        else:
            self._queued.discard(trial.number)
        self._trials[trial.number] = trial

    def _open(self, number: int, what: str) -> Trial:
        trial = self._known(number)
        if trial.state.is_final:
            raise self._error(f"{what} for trial {number}, which is {trial.state.value}")
        return trial

    def _known(self, number: int) -> Trial:
        trial = self._trials.get(number)
        if trial is None:
            raise self._error(f"there is no trial {number}")
        return trial

    def _error(self, message: str) -> DataLossError:
        return DataLossError(f"event {len(self._events) + 1} of the log: {message}")
