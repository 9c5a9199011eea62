from dataclasses import dataclass

import pytest

from bbopt_server.compute.line import Line


@dataclass(frozen=True)
class Named:
    uid: str
    number: int


def names(line: Line[Named]) -> list[str]:
    return [
        f"{job.uid}{job.number}" for job in iter(lambda: line.pop() if line else None, None)
    ]


def test_studies_take_turns_and_keep_their_own_order() -> None:
    line: Line[Named] = Line()
    for uid, number in [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("c", 1), ("b", 2)]:
        line.append(Named(uid, number))
    assert len(line) == 6
    assert [line.n_of(uid) for uid in "abcd"] == [3, 2, 1, 0]
    assert names(line) == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert [line.n_of(uid) for uid in "abcd"] == [0, 0, 0, 0]


def test_who_comes_again_waits_behind_those_who_wait() -> None:
    line: Line[Named] = Line()
    for uid in "ab":
        line.append(Named(uid, 1))
    first = line.pop()
    line.append(Named(first.uid, 2))
    assert names(line) == ["b1", "a2"]


def test_a_job_that_was_interrupted_is_next() -> None:
    line: Line[Named] = Line()
    for uid in "abb":
        line.append(Named(uid, 1))
    line.push_front(Named("b", 0))
    assert line.n_of("b") == 3
    assert names(line) == ["b0", "a1", "b1", "b1"]


def test_nothing_comes_out_of_an_empty_line() -> None:
    line: Line[Named] = Line()
    with pytest.raises(KeyError):
        line.pop()
    assert not line
