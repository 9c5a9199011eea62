from bbopt_server.storage import sqlite_rows
from bbopt_server.storage.sqlite_rows import TrialRows
from tests.contract.store_contract import held_row, trial_row


def test_only_trials_that_are_held_are_kept() -> None:
    rows = TrialRows()
    rows.insert(held_row(1, 1))
    rows.insert(trial_row(1, 2))
    assert rows.held(1, 1) == held_row(1, 1)
    assert rows.held(1, 2) is None
    rows.update(trial_row(1, 1))
    assert rows.held(1, 1) is None


def test_what_is_kept_is_bounded() -> None:
    rows = TrialRows()
    long = bytes(sqlite_rows._MAX_POINT_BYTES + 1)
    rows.insert(held_row(1, 1))
    rows.update(held_row(1, 1, point=long))
    assert rows.held(1, 1) is None
    for number in range(3 * sqlite_rows._MAX_TRIALS):
        rows.keep(held_row(1, number))
        rows.keep_counts(number, ("ACTIVE",), {})
    assert len(rows._held) <= sqlite_rows._MAX_TRIALS
    assert len(rows._counts) <= sqlite_rows._MAX_STUDIES


def test_counts_are_forgotten_where_the_state_before_is_not_known() -> None:
    rows = TrialRows()
    rows.keep_counts(1, ("QUEUED", "ACTIVE"), {"QUEUED": 1})
    assert rows.counts(1, ("QUEUED", "ACTIVE")) == {"QUEUED": 1, "ACTIVE": 0}
    assert rows.counts(1, ("QUEUED",)) is None
    rows.insert(held_row(1, 2))
    assert rows.counts(1, ("QUEUED", "ACTIVE")) == {"QUEUED": 1, "ACTIVE": 1}
    rows.update(held_row(1, 1))
    assert rows.counts(1, ("QUEUED", "ACTIVE")) is None
