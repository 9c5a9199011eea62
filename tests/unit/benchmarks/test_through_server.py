"""The verdicts on asks through the server follow from what was recorded."""

from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.recording import Recorded
from benchmarks.through_server import (
    ECHO,
    PEERS,
    READY,
    SERVED,
    Record,
    report,
    rotated,
    timed,
    verdicts,
)


def record(tool: str, n: int, wall_ms: Sequence[float]) -> Record:
    return Record(tool, n, wall_ms, [2.0 * each for each in wall_ms])


GOOD = [
    record(SERVED, 100, [10.0, 10.0, 10.0]),
    record(PEERS["optuna"], 100, [40.0, 41.0, 42.0]),
    record(PEERS["ax"], 100, [300.0, 301.0, 302.0]),
    record(SERVED, 1000, [10.0, 10.0, 10.0]),
    record(PEERS["optuna"], 1000, [80.0, 90.0, 100.0]),
    record(READY, 100, [1.5, 1.5, 1.5]),
    record(ECHO, 0, [1.0, 1.0, 1.0]),
]


def test_what_is_fast_enough_passes() -> None:
    assert [line[:4] for line in verdicts(GOOD)] == ["PASS"] * 7


def test_a_slow_tail_misses_where_the_median_passes() -> None:
    slow = [record(SERVED, 100, [10.0] * 9 + [100.0]), *GOOD[1:]]
    lines = [line for line in verdicts(slow) if "n=100 " in line and "Optuna" in line]
    assert [line[:4] for line in lines] == ["PASS", "MISS"]


def test_an_ask_that_costs_two_echoes_misses() -> None:
    records = [*GOOD[:5], record(READY, 100, [2.0, 2.0]), record(ECHO, 0, [1.0, 1.0])]
    assert verdicts(records)[-1].startswith("MISS ready p50: 2.00 times a bare echo")


def test_what_was_not_measured_does_not_pass() -> None:
    assert all(line.startswith("????") for line in verdicts([record(SERVED, 100, [1.0])]))


def test_the_report_has_a_row_for_each_record() -> None:
    lines = report(Recorded([asdict(each) for each in GOOD]))
    assert "| 100 | bbopt through the server | 3 | 10.0 | 10.0 | 10.0 | 20.0 |" in lines
    assert sum(line.startswith(("| 1", "| 0")) for line in lines) == len(GOOD)


def test_every_tool_begins_in_its_turn() -> None:
    assert [rotated("abc", index)[0] for index in range(4)] == ["a", "b", "c", "a"]
    assert sorted(rotated("abc", 2)) == ["a", "b", "c"]


def test_the_time_of_another_process_counts_from_before_to_after() -> None:
    clock = iter([5.0, 7.5])
    answer, (wall_ms, cpu_ms) = timed(lambda: "answer", lambda: next(clock))
    assert answer == "answer"
    assert 0.0 <= wall_ms < cpu_ms
    assert 2500.0 <= cpu_ms < 2600.0
