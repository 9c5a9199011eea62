"""A store agrees with plain dictionaries, whatever is done to it, reopening included."""

import asyncio
import copy
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bbopt_server.storage import MemoryStore, SqliteStore
from bbopt_server.storage.store import (
    EventRow,
    MeasurementRow,
    ResponseRow,
    Store,
    StudyRow,
    Transaction,
    TrialRow,
)
from tests.contract.store_contract import event_row, response_row, study_row, trial_row

Target: TypeAlias = "Transaction | Model"
Step: TypeAlias = Callable[[Target], object]
"""Does something to a transaction or to the model, which have the same methods."""


class GaveUpError(Exception):
    """What a work raises to be rolled back."""


class Model:
    """What a store keeps, as plainly as can be."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[tuple[Any, ...], Any]] = {
            name: {} for name in ("study", "trial", "event", "measurement", "response")
        }

    def insert_study(self, row: StudyRow) -> StudyRow:
        row = replace(row, key=len(self.rows["study"]) + 1)
        if any(each.uid == row.uid for each in self.rows["study"].values()):
            raise KeyError
        self._check_name(row)
        self.rows["study"][row.key,] = row
        return row

    def update_study(self, row: StudyRow) -> None:
        if self.rows["study"][row.key,].uid != row.uid:
            raise KeyError
        self._check_name(row)
        self.rows["study"][row.key,] = row

    def study_by_key(self, key: int) -> StudyRow | None:
        return self.rows["study"].get((key,))

    def insert_trial(self, row: TrialRow) -> None:
        self._add("trial", (row.study_key, row.number), row, parent=row.study_key)

    def update_trial(self, row: TrialRow) -> None:
        self.rows["trial"][row.study_key, row.number]
        self.rows["trial"][row.study_key, row.number] = row

    def append_event(self, row: EventRow) -> None:
        self._add("event", (row.study_key, row.revision), row, parent=row.study_key)

    def put_measurement(self, row: MeasurementRow) -> None:
        self.rows["trial"][row.study_key, row.trial]
        self.rows["measurement"][row.study_key, row.trial, row.step] = row

    def put_response(self, row: ResponseRow) -> None:
        self._add("response", (row.project, row.method, row.request_id), row)

    def drop_responses(self, *, before: float, limit: int) -> int:
        old = [row for _, row in sorted(self.rows["response"].items()) if row.at < before]
        old = sorted(old, key=lambda row: row.at)[:limit]
        for row in old:
            del self.rows["response"][row.project, row.method, row.request_id]
        return len(old)

    def _check_name(self, row: StudyRow) -> None:
        for each in self.rows["study"].values():
            same = (each.project, each.study_id) == (row.project, row.study_id)
            if same and each.key != row.key and "DELETED" not in (each.state, row.state):
                raise KeyError

    def _add(
        self, table: str, key: tuple[Any, ...], row: object, *, parent: int | None = None
    ) -> None:
        if key in self.rows[table] or (parent and (parent,) not in self.rows["study"]):
            raise KeyError
        self.rows[table][key] = row

    def select(self, table: str, *prefix: object) -> list[Any]:
        return [
            row for key, row in sorted(self.rows[table].items()) if key[: len(prefix)] == prefix
        ]


KEYS, NUMBERS = range(1, 4), range(1, 5)
STATES = ("QUEUED", "ACTIVE", "COMPLETED")
keys, numbers = st.sampled_from(KEYS), st.sampled_from(NUMBERS)
few_bytes = st.sampled_from([b"", b"a", b"b"])
study_states = st.sampled_from(["ACTIVE", "PAUSED", "DELETED"])
ages = st.integers(0, 4).map(float)


def changed_study(key: int, state: str, revision: int) -> Step:
    """Update a study if there is one, keeping what must be kept."""

    def step(target: Target) -> None:
        row = target.study_by_key(key) or study_row(key=key)
        target.update_study(replace(row, state=state, revision=revision))

    return step


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """One thing to do; many of them are refused."""
    key, number, payload = draw(keys), draw(numbers), draw(few_bytes)
    state, revision = draw(st.sampled_from(STATES)), draw(st.integers(1, 5))
    name, uid = draw(st.sampled_from("ab")), draw(st.sampled_from("uvw"))
    study_state, age = draw(study_states), draw(ages)
    options: list[Step] = [
        lambda t: t.insert_study(study_row(name, uid=uid, state=study_state)),
        changed_study(key, study_state, revision),
        lambda t: t.insert_trial(trial_row(key, number, state=state, revision=revision)),
        lambda t: t.update_trial(
            trial_row(key, number, state=state, revision=revision, outcome=payload)
        ),
        lambda t: t.append_event(event_row(key, number, payload=payload)),
        lambda t: t.put_measurement(MeasurementRow(key, number, revision, payload)),
        lambda t: t.put_response(response_row(f"r{number}{key}", response=payload, at=age)),
        lambda t: t.drop_responses(before=age, limit=number),
    ]
    return draw(st.sampled_from(options))


def tried(step: Step, target: Target) -> object:
    """What a step returns, or that it was refused."""
    try:
        return step(target)
    except KeyError:
        return KeyError


class StoreMachine(RuleBasedStateMachine):
    """Does the same to a store and to the model, and compares everything."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.model = Model()
        self.store = self.open()

    def open(self) -> Store:
        raise NotImplementedError

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()

    @rule(works=st.lists(st.tuples(st.lists(steps(), max_size=6), st.booleans()), max_size=4))
    def transact(self, works: list[tuple[list[Step], bool]]) -> None:
        """Hand in several works at once; some of them raise when they have done all."""

        def working(
            todo: list[Step], *, gives_up: bool
        ) -> Callable[[Transaction], list[object]]:
            def work(transaction: Transaction) -> list[object]:
                results = [tried(step, transaction) for step in todo]
                if gives_up:
                    raise GaveUpError
                return results

            return work

        async def together() -> list[list[object] | BaseException]:
            jobs = [
                self.store.transact(working(todo, gives_up=gives_up))
                for todo, gives_up in works
            ]
            return await asyncio.gather(*jobs, return_exceptions=True)

        for (todo, gives_up), result in zip(works, self.runner.run(together()), strict=True):
            before = copy.deepcopy(self.model)
            expected = [tried(step, self.model) for step in todo]
            if gives_up:
                self.model = before
                assert isinstance(result, GaveUpError)
            else:
                assert result == expected

    @invariant()
    def agree(self) -> None:
        self.runner.run(self.store.read(self.compare))

    @rule(
        after=st.integers(0, 4),
        limit=st.integers(1, 4),
        since=st.integers(0, 5),
        states=st.lists(st.sampled_from(STATES), unique=True),
    )
    def lists(self, after: int, limit: int, since: int, states: list[str]) -> None:
        """Compare pages."""

        def compare(t: Transaction) -> None:
            studies = [row for row in self.model.select("study") if row.key > after]
            live = [row for row in studies if row.state != "DELETED"]
            assert t.studies("default", after_key=after, limit=limit) == live[:limit]
            assert t.all_studies(after_key=after, limit=limit) == live[:limit]
            every = t.studies("default", after_key=after, limit=limit, deleted=True)
            assert every == studies[:limit]
            for key in KEYS:
                trials = [
                    row
                    for row in self.model.select("trial", key)
                    if row.number > after
                    and row.revision > since
                    and (not states or row.state in states)
                ]
                assert (
                    t.trials(
                        key,
                        states=states,
                        after_number=after,
                        changed_since=since,
                        limit=limit,
                    )
                    == trials[:limit]
                )
                events = [
                    row for row in self.model.select("event", key) if row.revision > after
                ]
                assert t.events(key, after_revision=after, limit=limit) == events[:limit]

        self.runner.run(self.store.read(compare))

    def compare(self, t: Transaction) -> None:
        model = self.model
        live = [row for row in model.select("study") if row.state != "DELETED"]
        for name in "ab":
            expected = next((row for row in live if row.study_id == name), None)
            assert t.study("default", name) == expected
        for key in KEYS:
            assert t.study_by_key(key) == model.rows["study"].get((key,))
            assert t.trials(key) == model.select("trial", key)
            assert t.events(key) == model.select("event", key)
            counts = Counter(row.state for row in model.select("trial", key))
            assert {state: n for state, n in t.count_trials(key).items() if n} == counts
            for number in NUMBERS:
                assert t.trial(key, number) == model.rows["trial"].get((key, number))
                assert t.measurements(key, number) == model.select("measurement", key, number)
                request = ("default", "AskTrials", f"r{number}{key}")
                assert t.response(*request) == model.rows["response"].get(request)


class MemoryMachine(StoreMachine):
    def open(self) -> Store:
        return MemoryStore()


class SqliteMachine(StoreMachine):
    def open(self) -> Store:
        return SqliteStore.open(str(Path(self.folder.name) / "studies.db"))

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.store.close())
        self.store = self.open()


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
TestSqliteMachine = SqliteMachine.TestCase
TestSqliteMachine.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
