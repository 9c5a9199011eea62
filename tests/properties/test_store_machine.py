"""A store agrees with plain dictionaries, whatever is done to it, crashes included.

Each machine does the same to a store and to a model that is nothing but dictionaries, and
compares all of their contents after every step. The machine of the SQLite store carries a
memory store along, so that the two stores are compared too.
"""

import asyncio
import contextlib
import copy
import enum
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from bbopt.errors import UnavailableError
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

pytestmark = pytest.mark.timeout(600)  # A failure takes minutes to be made small.

Target: TypeAlias = "Transaction | Model"
Step: TypeAlias = Callable[[Target], object]
"""Does something to a transaction or to the model, which have the same methods."""


class GaveUpError(Exception):
    """What a work raises to be rolled back."""


class Manner(enum.Enum):
    """How a work goes about its steps."""

    CAREFUL = "goes on when a step is refused"
    CARELESS = "is undone by the first step that is refused"
    GIVES_UP = "raises when it has done everything"


Work: TypeAlias = "tuple[list[Step], Manner]"


class Model:
    """What a store keeps, as plainly as can be."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[tuple[Any, ...], Any]] = {
            name: {} for name in ("study", "trial", "event", "measurement", "response")
        }

    def insert_study(self, row: StudyRow) -> StudyRow:
        row = row._replace(key=len(self.rows["study"]) + 1)
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

    def drop_responses(self, *, before: float, after: float, limit: int) -> int:
        first = list(self.rows["response"].values())[:limit]
        old = [row for row in first if row.at < before or row.at > after]
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
        target.update_study(row._replace(state=state, revision=revision))

    return step


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """One thing to do; many of them are refused."""
    key, number, payload = draw(keys), draw(numbers), draw(few_bytes)
    state, revision = draw(st.sampled_from(STATES)), draw(st.integers(1, 5))
    name, uid = draw(st.sampled_from("ab")), draw(st.sampled_from("uvw"))
    study_state, age = draw(study_states), draw(ages)
    worker, token = draw(st.sampled_from(["", "w", "x"])), draw(st.sampled_from(["", "t", "u"]))
    options: list[Step] = [
        lambda t: t.insert_study(study_row(name, uid=uid, state=study_state)),
        changed_study(key, study_state, revision),
        lambda t: t.insert_trial(trial_row(key, number, state=state, revision=revision)),
        lambda t: t.update_trial(
            trial_row(key, number, state=state, revision=revision, outcome=payload)
        ),
        lambda t: t.update_trial(leased(key, number, worker, token, revision)),
        lambda t: t.append_event(event_row(key, number, payload=payload)),
        lambda t: t.put_measurement(MeasurementRow(key, number, revision, payload)),
        lambda t: t.put_response(response_row(f"r{number}{key}", response=payload, at=age)),
        lambda t: t.drop_responses(before=age, after=age + 1.0, limit=number),
    ]
    return draw(st.sampled_from(options))


def leased(key: int, number: int, worker: str, token: str, revision: int) -> TrialRow:
    """Build the row of a trial that a worker holds, or that waits if there is no token."""
    return trial_row(
        key,
        number,
        state="ACTIVE" if token else "QUEUED",
        worker=worker,
        lease_token=token,
        lease_duration_s=60.0 if token else 0.0,
        attempt=revision,
        revision=revision,
        started_at=2.5 if token else None,
    )


def tried(step: Step, target: Target) -> object:
    """What a step returns, or that it was refused."""
    try:
        return step(target)
    except KeyError:
        return KeyError


def carry_out(work: Work, target: Target) -> list[object]:
    """Do the steps of a work."""
    todo, manner = work
    if manner is Manner.CARELESS:
        return [step(target) for step in todo]
    results = [tried(step, target) for step in todo]
    if manner is Manner.GIVES_UP:
        raise GaveUpError
    return results


works = st.tuples(st.lists(steps(), max_size=6), st.sampled_from(Manner))


class StoreMachine(RuleBasedStateMachine):
    """Does the same to stores and to the model, and compares everything."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model = Model()
        self.stores = self.open()

    def open(self) -> list[Store]:
        raise NotImplementedError

    def teardown(self) -> None:
        for store in self.stores:
            self.runner.run(store.close())
        self.runner.close()

    def submit(self, store: Store, todo: Sequence[Work]) -> list[list[object] | BaseException]:
        """Hand in several works at once; return what each returned or raised."""

        async def together() -> list[list[object] | BaseException]:
            jobs = [store.transact(partial(carry_out, work)) for work in todo]
            return await asyncio.gather(*jobs, return_exceptions=True)

        return self.runner.run(together())

    def expect(self, work: Work) -> list[object] | type[BaseException]:
        """Do a work to the model; what raises leaves it as it was."""
        before = copy.deepcopy(self.model)
        try:
            return carry_out(work, self.model)
        except (GaveUpError, KeyError) as error:
            self.model = before
            return type(error)

    @rule(todo=st.lists(works, max_size=4))
    def transact(self, todo: list[Work]) -> None:
        """Hand in several works at once; some of them raise."""
        answers = [self.submit(store, todo) for store in self.stores]
        for work, *results in zip(todo, *answers, strict=True):
            expected = self.expect(work)
            for result in results:
                assert (type(result) if isinstance(result, Exception) else result) == expected

    @invariant()
    def agree(self) -> None:
        for store in self.stores:
            self.runner.run(store.read(self.compare))

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
                counts = Counter(row.state for row in self.model.select("trial", key))
                counted = {
                    each: n for each, n in counts.items() if each in states or not states
                }
                found = t.count_trials(key, states=states)
                assert {state: n for state, n in found.items() if n} == counted
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

        for store in self.stores:
            self.runner.run(store.read(compare))

    @rule(step=steps())
    def write_where_only_reading_is_allowed(self, step: Step) -> None:
        """Whether or not it says so, a read changes nothing; the invariant looks."""
        for store in self.stores:
            with contextlib.suppress(RuntimeError, KeyError):
                self.runner.run(store.read(step))

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
    def open(self) -> list[Store]:
        return [MemoryStore()]


class DiskFullError(Exception):
    """What a commit fails with."""


class SqliteMachine(StoreMachine):
    """The SQLite store, closed, killed, refused its commits; a memory store beside it."""

    def open(self) -> list[Store]:
        self.folder = tempfile.TemporaryDirectory()
        self.n_files = 0
        self.at_point: Callable[[str], None] | None = None
        return [self.open_file(), MemoryStore()]

    def open_file(self) -> SqliteStore:
        return SqliteStore.open(str(self.file), on_point=self.reach)

    @property
    def file(self) -> Path:
        return Path(self.folder.name) / f"{self.n_files}.db"

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()

    def reach(self, point: str) -> None:
        if self.at_point is not None:
            self.at_point(point)

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.stores[0].close())
        self.stores[0] = self.open_file()

    @rule(todo=st.lists(works, min_size=1, max_size=4))
    def fail_to_commit(self, todo: list[Work]) -> None:
        """Hand in works while the disk takes nothing: no trace of them stays."""

        def refuse(point: str) -> None:
            if point == "before_commit":
                raise DiskFullError

        self.at_point = refuse
        answers = self.submit(self.stores[0], todo)
        self.at_point = None
        for answer in answers:
            assert isinstance(answer, UnavailableError | GaveUpError | KeyError)

    @rule(
        todo=st.lists(works, max_size=4),
        point=st.sampled_from(["before_commit", "after_commit"]),
        nth=st.integers(1, 2),
    )
    def crash(self, todo: list[Work], point: str, nth: int) -> None:
        """Go on from the files as a process left them that was killed at a commit.

        Where no commit is reached that often, it was killed when it had nothing to do.
        """
        n_begun = n_committed = 0
        n_kept: int | None = None
        n_left = nth
        old = self.file
        self.n_files += 1

        def count(position: int, work: Work) -> Work:
            def begin(_: Target) -> None:
                nonlocal n_begun
                n_begun = position  # Works begin in order, and again in order.

            return [begin, *work[0]], work[1]

        def kill(reached: str) -> None:
            nonlocal n_committed, n_left, n_kept
            if reached == "after_commit":
                n_committed = n_begun
            n_left -= reached == point
            if n_left == 0 and n_kept is None:
                self.copy(old)
                n_kept = n_committed

        self.at_point = kill
        self.submit(self.stores[0], [count(*each) for each in enumerate(todo, 1)])
        self.at_point = None
        if n_kept is None:
            self.copy(old)
            n_kept = len(todo)
        self.runner.run(self.stores[0].close())
        self.stores[0] = self.open_file()
        kept = todo[:n_kept]
        self.submit(self.stores[1], kept)
        for work in kept:
            self.expect(work)

    def copy(self, old: Path) -> None:
        """Copy the database and its log as they are on the disk now."""
        for suffix in ("", "-wal"):
            source = old.with_name(old.name + suffix)
            if source.exists():
                shutil.copyfile(source, self.file.with_name(self.file.name + suffix))


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
TestSqliteMachine = SqliteMachine.TestCase
TestSqliteMachine.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_stores_agree_with_the_model_over_many_long_histories() -> None:
    run_state_machine_as_test(
        SqliteMachine,
        settings=settings(
            max_examples=500,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
