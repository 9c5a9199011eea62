"""What a store holds of a study, whether it is of one piece, and whether it replays."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bbopt.replay import Mismatch, replay
from bbopt.rpc.log import event_from_message
from bbopt.rpc.study import study_spec_from_message
from bbopt.rpc.v1 import log_pb2, study_pb2
from bbopt.specs import StudySpec
from bbopt.trial import Asked, Completed, Event, Log, Outcome, Told
from bbopt_server.storage.sqlite import SqliteStore
from bbopt_server.storage.store import Store, StudyRow, TrialRow
from bbopt_server.studies.records import outcome_to_bytes


@dataclass(frozen=True)
class Kept:
    """One study: its row, its trials, its log."""

    study: StudyRow
    trials: Sequence[TrialRow]
    revisions: Sequence[int]
    events: Sequence[Event | None]

    @property
    def spec(self) -> StudySpec:
        """The definition."""
        return study_spec_from_message(study_pb2.StudySpec.FromString(self.study.spec))

    @property
    def asked(self) -> list[Asked]:
        """What was handed out, ask by ask."""
        return [event for event in self.events if isinstance(event, Asked)]

    @property
    def losses(self) -> dict[int, list[float]]:
        """The losses that were told of each trial."""
        told: dict[int, list[float]] = {}
        for event in self.events:
            if isinstance(event, Told) and isinstance(event.outcome, Completed):
                loss = event.outcome.measurement.metrics["loss"].value
                told.setdefault(event.number, []).append(loss)
        return told

    def check(self) -> None:
        """Compare the log with the rows; numbers and revisions have no gaps."""
        assert [row.number for row in self.trials] == list(range(1, len(self.trials) + 1))
        assert self.study.n_trials == len(self.trials)
        assert list(self.revisions) == list(range(1, self.study.revision + 1))
        log = Log([event for event in self.events if event is not None])
        folded = {
            number: (trial.state.name, trial.attempt, _as_bytes(trial.outcome))
            for number, trial in log.trials.items()
        }
        assert folded == {
            row.number: (row.state, row.attempt, row.outcome) for row in self.trials
        }
        assert {len(losses) for losses in self.losses.values()} <= {1}, "a result is doubled"

    def mismatches(self) -> list[Mismatch]:
        """Compute every suggestion again from the log alone."""
        spec = self.spec
        return replay(spec.problem, spec.strategy, spec.drawn_seed, self.events)


def _as_bytes(outcome: Outcome | None) -> bytes | None:
    return None if outcome is None else outcome_to_bytes(outcome)


async def read_study(store: Store, study_id: str = "s") -> Kept | None:
    """Read a study of the default project, if there is one."""
    study = await store.read(lambda tx: tx.study("default", study_id))
    if study is None:
        return None
    trials = await store.read(lambda tx: tx.trials(study.key, limit=100_000))
    rows = await store.read(lambda tx: tx.events(study.key, limit=100_000))
    events = [event_from_message(log_pb2.LogEvent.FromString(row.payload)) for row in rows]
    return Kept(study, trials, [row.revision for row in rows], events)


def read_file(db: str | Path, study_id: str = "s") -> Kept:
    """Read a study from a file that nobody serves."""

    async def read() -> Kept | None:
        store = SqliteStore.open(str(db))
        try:
            return await read_study(store, study_id)
        finally:
            await store.close()

    kept = asyncio.run(read())
    assert kept is not None
    return kept
