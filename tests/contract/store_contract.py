"""What every store must do, as tests that each backend inherits.

A backend gives ``make_store``.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from bbopt.errors import UnavailableError
from bbopt_server.storage.store import (
    EventRow,
    MeasurementRow,
    ResponseRow,
    Store,
    StudyRow,
    Transaction,
    TrialRow,
)

T = TypeVar("T")
BINARY = bytes(range(256))
AWKWARD = "x'; DROP TABLE trial;-- %s {0} \x00 \x1b[31m é e\u0301 \u202e 😀"


def study_row(study_id: str = "s", **changes: object) -> StudyRow:
    row = StudyRow(
        key=0,
        uid=f"uid-{study_id}",
        project="default",
        study_id=study_id,
        display_name="",
        spec=b"spec",
        state="ACTIVE",
        state_reason=b"",
        labels=b"",
        n_trials=0,
        revision=0,
        cost_spent=0.0,
        created_at=1.5,
        updated_at=1.5,
        etag="e0",
    )
    return row._replace(**changes)  # type: ignore[arg-type]


def trial_row(study_key: int, number: int, **changes: object) -> TrialRow:
    row = TrialRow(
        study_key=study_key,
        number=number,
        state="ACTIVE",
        state_message="",
        point=b"point",
        outcome=None,
        labels=b"",
        attempt=1,
        worker="w",
        lease_token="",
        lease_duration_s=60.0,
        late=False,
        feasible=None,
        amendments=0,
        revision=number,
        created_at=2.5,
        started_at=None,
        ended_at=None,
    )
    return row._replace(**changes)  # type: ignore[arg-type]


def held_row(study_key: int, number: int, **changes: object) -> TrialRow:
    """Build the row of a trial that a worker holds."""
    return trial_row(study_key, number, lease_token=AWKWARD, **changes)


def event_row(study_key: int, revision: int, **changes: object) -> EventRow:
    row = EventRow(study_key, revision, "told", None, b"payload", 3.5)
    return row._replace(**changes)  # type: ignore[arg-type]


def response_row(request_id: str, **changes: object) -> ResponseRow:
    row = ResponseRow("default", "AskTrials", request_id, b"hash", b"answer", 4.5)
    return row._replace(**changes)  # type: ignore[arg-type]


class Driven:
    """A store, driven step by step from a test that is not a coroutine."""

    def __init__(self, runner: asyncio.Runner, store: Store) -> None:
        self.runner, self.store = runner, store

    def transact(self, work: Callable[[Transaction], T]) -> T:
        return self.runner.run(self.store.transact(work))

    def read(self, work: Callable[[Transaction], T]) -> T:
        return self.runner.run(self.store.read(work))

    def close(self) -> None:
        self.runner.run(self.store.close())

    def add_study(self, study_id: str = "s", **changes: object) -> StudyRow:
        return self.transact(lambda t: t.insert_study(study_row(study_id, **changes)))

    def add_trials(self, key: int, *rows: TrialRow) -> None:
        def work(t: Transaction) -> None:
            for row in rows or [trial_row(key, number) for number in (1, 2, 3)]:
                t.insert_trial(row)

        self.transact(work)


class StoreContract:
    """Inherit, name the class ``Test...`` and say how a store is made."""

    def make_store(self, folder: Path) -> Store:
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Driven]:
        with asyncio.Runner() as runner:
            driven = Driven(runner, self.make_store(tmp_path))
            yield driven
            driven.close()

    # Studies

    def test_a_study_gets_a_key_and_reads_back(self, store: Driven) -> None:
        row = study_row(
            display_name=AWKWARD,
            spec=BINARY,
            state_reason=b"\x00",
            labels=BINARY,
            n_trials=2**62,
            revision=2**62,
            cost_spent=0.1,
            created_at=1.7e9 + 1e-6,
            etag="",
        )
        inserted = store.transact(lambda t: t.insert_study(row))
        assert inserted.key > 0
        assert inserted == row._replace(key=inserted.key)
        assert store.read(lambda t: t.study("default", "s")) == inserted
        assert store.read(lambda t: t.study_by_key(inserted.key)) == inserted
        assert store.read(lambda t: t.study_by_uid(inserted.uid)) == inserted

    def test_what_is_not_there_is_none(self, store: Driven) -> None:
        store.add_study()
        assert store.read(lambda t: t.study("default", "other")) is None
        assert store.read(lambda t: t.study("other", "s")) is None
        assert store.read(lambda t: t.study_by_key(99)) is None
        assert store.read(lambda t: t.study_by_uid("")) is None
        assert store.read(lambda t: t.trial(1, 1)) is None
        assert store.read(lambda t: t.response("default", "m", "r")) is None

    def test_a_name_is_taken_within_its_project_only(self, store: Driven) -> None:
        store.add_study("s")
        with pytest.raises(KeyError):
            store.add_study("s", uid="another")
        store.add_study("s", uid="another", project="other")
        store.add_study("S", uid="capital")

    def test_a_uid_is_taken_everywhere(self, store: Driven) -> None:
        store.add_study("s", uid="u")
        with pytest.raises(KeyError):
            store.add_study("t", uid="u", project="other")

    def test_a_deleted_study_frees_its_name_and_keeps_its_rows(self, store: Driven) -> None:
        old = store.add_study()
        store.transact(lambda t: t.update_study(old._replace(state="DELETED")))
        assert store.read(lambda t: t.study("default", "s")) is None
        new = store.add_study(uid="new")
        assert new.key != old.key
        assert store.read(lambda t: t.study("default", "s")) == new
        for found in (
            store.read(lambda t: t.study_by_key(old.key)),
            store.read(lambda t: t.study_by_uid(old.uid)),
        ):
            assert found == old._replace(state="DELETED")

    def test_a_deleted_study_comes_back_only_if_its_name_is_free(self, store: Driven) -> None:
        old = store.add_study()
        store.transact(lambda t: t.update_study(old._replace(state="DELETED")))
        store.transact(lambda t: t.update_study(old))
        assert store.read(lambda t: t.study("default", "s")) == old
        store.transact(lambda t: t.update_study(old._replace(state="DELETED")))
        store.add_study(uid="new")
        with pytest.raises(KeyError):
            store.transact(lambda t: t.update_study(old))

    def test_a_study_is_replaced_as_a_whole(self, store: Driven) -> None:
        row = store.add_study()._replace(
            display_name="d",
            spec=b"2",
            state="PAUSED",
            state_reason=b"r",
            labels=b"l",
            n_trials=3,
            revision=9,
            cost_spent=2.5,
            created_at=7.0,
            updated_at=8.0,
            etag="e1",
        )
        store.transact(lambda t: t.update_study(row))
        assert store.read(lambda t: t.study_by_key(row.key)) == row

    @pytest.mark.parametrize("change", [{"key": 99}, {"uid": "x"}, {"study_id": "x"}])
    def test_a_study_keeps_its_identity(self, store: Driven, change: dict[str, object]) -> None:
        row = store.add_study()
        other = row._replace(**change)  # type: ignore[arg-type]
        with pytest.raises(KeyError):
            store.transact(lambda t: t.update_study(other))
        assert store.read(lambda t: t.all_studies()) == [row]

    def test_studies_are_listed_by_project_in_pages(self, store: Driven) -> None:
        rows = [store.add_study(f"s{each}") for each in range(5)]
        store.add_study("s0", project="other", uid="o")
        gone = rows[1]._replace(state="DELETED")
        store.transact(lambda t: t.update_study(gone))
        first = store.read(lambda t: t.studies("default", limit=2))
        assert first == [rows[0], rows[2]]
        rest = store.read(lambda t: t.studies("default", after_key=first[-1].key))
        assert rest == rows[3:]
        everything = store.read(lambda t: t.studies("default", deleted=True))
        assert everything == [rows[0], gone, *rows[2:]]
        assert store.read(lambda t: t.studies("nobody")) == []

    def test_all_studies_span_projects_without_deleted_ones(self, store: Driven) -> None:
        rows = [store.add_study("s", project=name, uid=name) for name in "dabc"]
        store.transact(lambda t: t.update_study(rows[1]._replace(state="DELETED")))
        first = store.read(lambda t: t.all_studies(limit=2))
        assert first == [rows[0], rows[2]]
        assert store.read(lambda t: t.all_studies(after_key=first[-1].key)) == [rows[3]]

    # Trials

    @pytest.mark.parametrize("feasible", [None, True, False])
    def test_a_trial_reads_back(self, store: Driven, feasible: bool | None) -> None:
        key = store.add_study().key
        row = trial_row(
            key,
            1,
            state_message=AWKWARD,
            point=BINARY,
            outcome=b"",
            labels=BINARY,
            attempt=3,
            worker="",
            lease_token=AWKWARD,
            lease_duration_s=0.0,
            late=True,
            feasible=feasible,
            amendments=2,
            started_at=0.0,
            ended_at=1e-9,
        )
        store.add_trials(key, row)
        found = store.read(lambda t: t.trial(key, 1))
        assert found == row
        assert found is not None
        assert type(found.late) is bool
        assert type(found.feasible) is type(feasible)

    def test_a_number_is_taken_within_its_study_only(self, store: Driven) -> None:
        one, two = store.add_study("a").key, store.add_study("b").key
        store.add_trials(one, trial_row(one, 1), trial_row(one, 2))
        store.add_trials(two, trial_row(two, 1))
        with pytest.raises(KeyError):
            store.add_trials(one, trial_row(one, 2, state="QUEUED"))

    def test_a_trial_is_replaced_as_a_whole(self, store: Driven) -> None:
        key = store.add_study().key
        store.add_trials(key)
        row = trial_row(
            key,
            2,
            state="COMPLETED",
            state_message="m",
            point=b"2",
            outcome=b"o",
            labels=b"l",
            attempt=2,
            worker="v",
            lease_token=AWKWARD,
            lease_duration_s=1.0,
            late=True,
            feasible=True,
            amendments=1,
            revision=50,
            created_at=5.0,
            started_at=6.0,
            ended_at=7.0,
        )
        store.transact(lambda t: t.update_trial(row))
        expected = [trial_row(key, 1), row, trial_row(key, 3)]
        assert store.read(lambda t: t.trials(key)) == expected

    def test_trials_are_listed_in_pages_and_by_state_and_change(self, store: Driven) -> None:
        key, other = store.add_study("a").key, store.add_study("b").key
        states = ["QUEUED", "ACTIVE", "COMPLETED", "ACTIVE", "FAILED"]
        rows = [
            trial_row(key, number, state=state, revision=10 - number)
            for number, state in enumerate(states, 1)
        ]
        store.add_trials(key, *reversed(rows))
        store.add_trials(other, trial_row(other, 1))
        read = store.read
        assert read(lambda t: t.trials(key)) == rows
        assert read(lambda t: t.trials(key, limit=2)) == rows[:2]
        assert read(lambda t: t.trials(key, after_number=2, limit=2)) == rows[2:4]
        assert read(lambda t: t.trials(key, states=["ACTIVE"])) == [rows[1], rows[3]]
        live = ("ACTIVE", "QUEUED")
        assert read(lambda t: t.trials(key, states=live)) == [rows[0], rows[1], rows[3]]
        assert read(lambda t: t.trials(key, states=live, limit=1, after_number=1)) == [rows[1]]
        assert read(lambda t: t.trials(key, changed_since=7)) == rows[:2]
        assert read(lambda t: t.trials(key, states=["NONE"])) == []
        assert read(lambda t: t.trials(99)) == []

    def test_trials_are_counted_by_state_as_they_change(self, store: Driven) -> None:
        key = store.add_study().key
        assert not any(store.read(lambda t: t.count_trials(key)).values())
        store.add_trials(key)
        store.transact(lambda t: t.update_trial(trial_row(key, 2, state="COMPLETED")))
        counts = store.read(lambda t: t.count_trials(key))
        assert {state: n for state, n in counts.items() if n} == {"ACTIVE": 2, "COMPLETED": 1}
        some = store.read(lambda t: t.count_trials(key, states=("ACTIVE", "FAILED")))
        assert {state: n for state, n in some.items() if n} == {"ACTIVE": 2}

    def test_counts_of_some_states_follow_every_change(self, store: Driven) -> None:
        key, other = store.add_study("a").key, store.add_study("b").key
        states = ("QUEUED", "ACTIVE")

        def count(t: Transaction) -> dict[str, int]:
            return {state: n for state, n in t.count_trials(key, states=states).items() if n}

        def work(t: Transaction) -> None:
            assert count(t) == {}
            for number in (1, 2, 3):
                t.insert_trial(held_row(key, number))
            t.insert_trial(held_row(other, 1))
            assert count(t) == {"ACTIVE": 3}
            t.update_trial(trial_row(key, 1, state="COMPLETED"))
            t.update_trial(trial_row(key, 2, state="QUEUED"))
            assert count(t) == {"QUEUED": 1, "ACTIVE": 1}
            t.update_trial(held_row(key, 2, state="ACTIVE"))
            assert t.count_trials(key, states=("COMPLETED",)) == {"COMPLETED": 1}
            assert count(t) == {"ACTIVE": 2}

        store.transact(work)
        assert store.read(count) == {"ACTIVE": 2}

    def test_a_trial_and_its_count_are_as_before_what_was_undone(self, store: Driven) -> None:
        key = store.add_study().key
        store.add_trials(key, held_row(key, 1))

        def look(t: Transaction) -> tuple[TrialRow | None, int]:
            return t.trial(key, 1), t.count_trials(key, states=("ACTIVE",)).get("ACTIVE", 0)

        def end(t: Transaction) -> None:
            t.update_trial(trial_row(key, 1, state="FAILED"))
            t.insert_trial(held_row(key, 2))
            t.insert_trial(held_row(key, 3))
            raise LookupError

        async def together() -> list[object]:
            works = [look, end, look, end]
            jobs = [store.store.transact(work) for work in works]
            return await asyncio.gather(*jobs, return_exceptions=True)

        before, first, after, second = store.runner.run(together())
        assert isinstance(first, LookupError)
        assert isinstance(second, LookupError)
        assert before == after == store.read(look) == (held_row(key, 1), 1)

    # Events and measurements

    def test_events_are_listed_in_order_of_revision_and_in_pages(self, store: Driven) -> None:
        key, other = store.add_study("a").key, store.add_study("b").key
        rows = [event_row(key, revision, trial=revision) for revision in range(1, 6)]
        rows[0] = event_row(key, 1, kind="study_changed", trial=None, payload=BINARY, at=0.1)

        def work(t: Transaction) -> None:
            for row in (*reversed(rows), event_row(other, 3)):
                t.append_event(row)

        store.transact(work)
        assert store.read(lambda t: t.events(key)) == rows
        assert store.read(lambda t: t.events(key, after_revision=2, limit=2)) == rows[2:4]
        assert store.read(lambda t: t.events(key, after_revision=5)) == []
        assert store.read(lambda t: t.events(99)) == []

    def test_an_event_is_never_replaced(self, store: Driven) -> None:
        key = store.add_study().key
        store.transact(lambda t: t.append_event(event_row(key, 1)))
        with pytest.raises(KeyError):
            store.transact(lambda t: t.append_event(event_row(key, 1, payload=b"other")))
        assert store.read(lambda t: t.events(key)) == [event_row(key, 1)]

    def test_the_last_report_of_a_step_wins(self, store: Driven) -> None:
        key = store.add_study().key
        store.add_trials(key)
        rows = [MeasurementRow(key, 1, step, bytes([step])) for step in (0, 3, 7)]

        def work(t: Transaction) -> None:
            t.put_measurement(MeasurementRow(key, 1, 3, b"early"))
            t.put_measurement(MeasurementRow(key, 2, 3, b"another trial"))
            for row in reversed(rows):
                t.put_measurement(row)

        store.transact(work)
        assert store.read(lambda t: t.measurements(key, 1)) == rows
        assert store.read(lambda t: t.measurements(key, 3)) == []
        assert store.read(lambda t: t.count_measurements(key, 1)) == len(rows)
        assert store.read(lambda t: t.count_measurements(key, 3)) == 0

    @pytest.mark.parametrize(
        "write",
        [
            lambda t: t.update_trial(trial_row(1, 9)),
            lambda t: t.insert_trial(trial_row(99, 1)),
            lambda t: t.append_event(event_row(99, 1)),
            lambda t: t.put_measurement(MeasurementRow(1, 9, 0, b"")),
            lambda t: t.put_measurement(MeasurementRow(99, 1, 0, b"")),
        ],
    )
    def test_nothing_is_written_about_what_does_not_exist(
        self, store: Driven, write: Callable[[Transaction], None]
    ) -> None:
        assert store.add_study().key == 1
        store.add_trials(1)
        with pytest.raises(KeyError):
            store.transact(write)

    # Answered requests

    def test_an_answer_is_kept_per_project_method_and_request(self, store: Driven) -> None:
        rows = [
            response_row("r"),
            response_row("R"),
            response_row("r", method="TellTrials", response=BINARY),
            response_row("r", project="other", body_hash=BINARY),
        ]

        def work(t: Transaction) -> None:
            for row in rows:
                t.put_response(row)

        store.transact(work)
        for row in rows:
            key = (row.project, row.method, row.request_id)
            assert store.read(lambda t, key=key: t.response(*key)) == row  # type: ignore[misc]

    def test_a_request_is_answered_once(self, store: Driven) -> None:
        store.transact(lambda t: t.put_response(response_row("r")))
        with pytest.raises(KeyError):
            store.transact(lambda t: t.put_response(response_row("r", response=b"other")))
        found = store.read(lambda t: t.response("default", "AskTrials", "r"))
        assert found == response_row("r")

    def test_the_answers_stored_first_are_forgotten_first(self, store: Driven) -> None:
        def work(t: Transaction) -> None:
            for name, at in ("c", 1.0), ("a", 2.0), ("e", 5.0), ("b", 3.0), ("d", 6.0):
                t.put_response(response_row(name, at=at))

        def left(t: Transaction) -> str:
            found = [t.response("default", "AskTrials", name) for name in "abcde"]
            return "".join(row.request_id for row in found if row is not None)

        store.transact(work)
        assert store.transact(lambda t: t.drop_responses(before=4.0, after=9.0, limit=1)) == 1
        assert store.read(left) == "abde"
        assert store.transact(lambda t: t.drop_responses(before=4.0, after=9.0, limit=3)) == 2
        assert store.read(left) == "de"
        store.transact(lambda t: t.put_response(response_row("c", at=3.0)))
        assert store.transact(lambda t: t.drop_responses(before=4.0, after=9.0, limit=2)) == 0
        assert store.transact(lambda t: t.drop_responses(before=4.0, after=9.0, limit=3)) == 1
        assert store.read(left) == "de"
        assert store.transact(lambda t: t.drop_responses(before=5.0, after=6.0, limit=3)) == 0
        assert store.transact(lambda t: t.drop_responses(before=4.0, after=5.5, limit=3)) == 1
        assert store.read(left) == "e"

    # Transactions

    def test_what_work_returns_is_returned(self, store: Driven) -> None:
        marker = object()
        assert store.transact(lambda _: marker) is marker
        assert store.read(lambda _: marker) is marker

    def test_a_transaction_sees_what_it_wrote(self, store: Driven) -> None:
        def work(t: Transaction) -> None:
            key = t.insert_study(study_row()).key
            t.insert_trial(trial_row(key, 1))
            t.append_event(event_row(key, 1))
            assert t.study("default", "s") is not None
            assert len(t.trials(key)) == len(t.events(key)) == 1
            t.put_response(response_row("r"))
            assert t.drop_responses(before=9.0, after=9.0, limit=9) == 1

        store.transact(work)

    def test_work_that_raises_leaves_no_trace(self, store: Driven) -> None:
        study = store.add_study()
        store.add_trials(study.key)
        store.transact(lambda t: t.put_measurement(MeasurementRow(study.key, 1, 1, b"before")))
        store.transact(lambda t: t.put_response(response_row("old")))
        before = store.read(everything)

        def work(t: Transaction) -> None:
            other = t.insert_study(study_row("other"))
            t.update_study(study._replace(state="DELETED", revision=99))
            t.insert_study(study_row(uid="third"))
            t.insert_trial(trial_row(other.key, 1))
            t.update_trial(trial_row(study.key, 1, state="FAILED"))
            t.append_event(event_row(study.key, 1))
            t.put_measurement(MeasurementRow(study.key, 1, 1, b"after"))
            t.put_measurement(MeasurementRow(study.key, 1, 2, b"after"))
            t.put_response(response_row("new"))
            t.drop_responses(before=9.0, after=9.0, limit=9)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            store.transact(work)
        assert store.read(everything) == before
        # A key that was given back does no harm.
        assert store.add_study("other").key != study.key

    def test_work_may_survive_a_refused_write(self, store: Driven) -> None:
        key = store.add_study().key

        def work(t: Transaction) -> None:
            t.insert_trial(trial_row(key, 1))
            with pytest.raises(KeyError):
                t.insert_trial(trial_row(key, 1))
            with pytest.raises(KeyError):
                t.insert_study(study_row(uid="other"))
            t.insert_trial(trial_row(key, 2))

        store.transact(work)
        assert [row.number for row in store.read(lambda t: t.trials(key))] == [1, 2]

    def test_one_that_raises_does_not_undo_those_around_it(self, store: Driven) -> None:
        key = store.add_study().key

        def numbered(number: int) -> Callable[[Transaction], int]:
            def work(t: Transaction) -> int:
                t.insert_trial(trial_row(key, number))
                if number % 3 == 0:
                    raise LookupError(number)
                return number

            return work

        async def together() -> list[int | BaseException]:
            jobs = [store.store.transact(numbered(number)) for number in range(1, 31)]
            return await asyncio.gather(*jobs, return_exceptions=True)

        results = store.runner.run(together())
        for number, result in enumerate(results, 1):
            assert isinstance(result, LookupError) if number % 3 == 0 else result == number
        kept = [row.number for row in store.read(lambda t: t.trials(key))]
        assert kept == [number for number in range(1, 31) if number % 3]

    def test_concurrent_work_runs_one_after_the_other(self, store: Driven) -> None:
        key = store.add_study().key

        def next_number(t: Transaction) -> int:
            study = t.study_by_key(key)
            assert study is not None
            t.update_study(study._replace(n_trials=study.n_trials + 1))
            t.insert_trial(trial_row(key, study.n_trials + 1))
            return study.n_trials + 1

        async def together() -> list[int]:
            return await asyncio.gather(
                *(store.store.transact(next_number) for _ in range(100))
            )

        assert store.runner.run(together()) == list(range(1, 101))

    def test_what_follows_happens_before_the_caller_hears_of_it(self, store: Driven) -> None:
        store.add_study()
        happened: list[str] = []

        async def caller() -> None:
            await store.store.transact(
                lambda t: t.insert_trial(trial_row(1, 1)), then=lambda: happened.append("then")
            )
            happened.append("answered")

        store.runner.run(caller())
        assert happened == ["then", "answered"]

    def test_nothing_follows_from_work_that_raises(self, store: Driven) -> None:
        happened: list[str] = []

        def work(_: Transaction) -> None:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            store.runner.run(store.store.transact(work, then=lambda: happened.append("then")))
        assert happened == []

    @pytest.mark.parametrize("is_long", [False, True])
    def test_what_follows_happens_though_the_caller_left(
        self, store: Driven, *, is_long: bool
    ) -> None:
        store.add_study()
        happened: list[str] = []

        async def leave() -> None:
            begun = asyncio.Event()
            loop = asyncio.get_running_loop()

            def work(t: Transaction) -> None:
                t.insert_trial(trial_row(1, 1))
                loop.call_soon_threadsafe(begun.set)

            follow = happened.append
            job = asyncio.ensure_future(
                store.store.transact(work, then=lambda: follow("then"), is_long=is_long)
            )
            await begun.wait()
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)
            await store.store.transact(lambda _: None)

        store.runner.run(leave())
        assert happened == ["then"]

    def test_what_was_acknowledged_is_read(self, store: Driven) -> None:
        key = store.add_study().key

        async def write_and_read() -> None:
            for number in range(1, 20):
                row = trial_row(key, number)
                await store.store.transact(lambda t, row=row: t.insert_trial(row))  # type: ignore[misc]
                assert len(await store.store.read(lambda t: t.trials(key))) == number

        store.runner.run(write_and_read())

    @pytest.mark.parametrize(
        "write",
        [
            lambda t: t.insert_study(study_row("other")),
            lambda t: t.update_study(study_row(key=1, etag="e1")),
            lambda t: t.insert_trial(trial_row(1, 9)),
            lambda t: t.update_trial(trial_row(1, 1, state="FAILED")),
            lambda t: t.append_event(event_row(1, 1)),
            lambda t: t.put_measurement(MeasurementRow(1, 1, 0, b"")),
            lambda t: t.put_response(response_row("r")),
            lambda t: t.drop_responses(before=9.0, after=9.0, limit=9),
        ],
    )
    def test_a_read_cannot_write(
        self, store: Driven, write: Callable[[Transaction], object]
    ) -> None:
        assert store.add_study().key == 1
        store.add_trials(1)
        store.transact(lambda t: t.put_response(response_row("old")))
        before = store.read(everything)
        with pytest.raises(RuntimeError):
            store.read(write)
        assert store.read(everything) == before

    def test_what_a_read_raises_is_raised(self, store: Driven) -> None:
        def work(_: Transaction) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            store.read(work)

    def test_rows_given_out_do_not_change(self, store: Driven) -> None:
        study = store.add_study()
        store.add_trials(study.key)
        rows = store.read(lambda t: t.trials(study.key))
        counts = store.read(lambda t: t.count_trials(study.key))
        store.transact(lambda t: t.update_trial(trial_row(study.key, 1, state="FAILED")))
        store.transact(lambda t: t.insert_trial(trial_row(study.key, 4)))
        assert [row.state for row in rows] == ["ACTIVE"] * 3
        assert dict(counts) == {"ACTIVE": 3}

    # The end

    def test_a_closed_store_refuses_work(self, store: Driven) -> None:
        store.close()
        with pytest.raises(UnavailableError):
            store.transact(lambda t: t.insert_study(study_row()))
        with pytest.raises(UnavailableError):
            store.read(lambda t: t.all_studies())
        store.close()

    def test_what_was_asked_before_closing_is_done(self, store: Driven) -> None:
        key = store.add_study().key

        async def close_at_once() -> None:
            jobs = [
                asyncio.ensure_future(store.store.transact(add))
                for add in [
                    lambda t, n=n: t.insert_trial(trial_row(key, n)) for n in range(1, 50)
                ]
            ]
            await asyncio.sleep(0)  # Let each of them hand in its work.
            await store.store.close()
            await asyncio.gather(*jobs)

        store.runner.run(close_at_once())


def everything(t: Transaction) -> list[object]:
    """All that the tests above may have written."""
    studies = [t.study_by_key(key) for key in range(1, 6)]
    names = [t.study("default", name) for name in ("s", "other")]
    rows: list[object] = [*studies, *names, *t.studies("default", deleted=True)]
    for key in range(1, 6):
        rows += [t.trials(key), t.events(key), t.count_trials(key)]
        rows += [t.measurements(key, number) for number in range(1, 4)]
    rows += [t.response("default", "AskTrials", name) for name in ("old", "new", "r")]
    return rows
