import numpy as np

from bbopt.numerics import stream
from bbopt.search.candidates import choose_starts, is_taken, local_candidates, spread_candidates
from tests.unit.search.fake_spaces import FakeSpace, categorical, continuous, ordered

MIXED = FakeSpace((continuous(), ordered(5), categorical(3), continuous(periodic=True)))
BALL = FakeSpace((continuous(), continuous()), forbidden_ball=(np.array([0.5, 0.5]), 0.4))


def test_candidates_are_canonical_and_feasible() -> None:
    for space in (MIXED, BALL):
        incumbents = space.sample(stream(0, "incumbents"), 3)
        rows = np.concatenate(
            [
                spread_candidates(space, stream(0), 200),
                local_candidates(space, stream(1), 100, incumbents=incumbents),
            ]
        )
        assert (space.snap(rows) == rows).all()
        assert space.is_feasible(rows).all()
        assert ((rows >= 0.0) & (rows <= 1.0)).all()


def test_local_candidates_cover_every_scale_and_every_level() -> None:
    center = MIXED.snap(np.full((1, 4), 0.5))
    rows = local_candidates(MIXED, stream(2), 600, incumbents=center)
    distance = np.abs(rows[:, 0] - 0.5)
    assert (distance < 0.005).mean() > 0.1
    assert (distance > 0.1).mean() > 0.05
    assert len(np.unique(rows[:, 2])) == 3
    assert len(np.unique(rows[:, 1])) == 5


def test_in_many_columns_only_some_move() -> None:
    space = FakeSpace((continuous(),) * 200)
    rows = local_candidates(space, stream(3), 50, incumbents=np.full((1, 200), 0.5))
    moved = (rows != 0.5).sum(axis=1)
    assert 5 < moved.mean() < 40


def test_without_incumbents_there_is_nothing_local() -> None:
    assert local_candidates(MIXED, stream(0), 10, incumbents=np.empty((0, 4))).shape == (0, 4)


def test_the_best_candidate_is_always_a_start_and_infeasible_ones_never() -> None:
    values = np.array([-np.inf, 1.0, 5.0, -np.inf, 2.0])
    for seed in range(20):
        chosen = choose_starts(values, 4, stream(seed))
        assert chosen[0] == 2
        assert set(chosen) == {1, 2, 4}


def test_better_candidates_are_chosen_more_often() -> None:
    values = np.concatenate([[10.0], np.linspace(0.0, 4.0, 100)])
    counts = np.zeros(101)
    for seed in range(200):
        counts[choose_starts(values, 8, stream(seed))] += 1
    assert counts[60:].sum() > 2.0 * counts[1:41].sum()
    assert counts[1:41].sum() > 0


def test_even_when_every_value_is_minus_infinity_there_is_a_start() -> None:
    assert len(choose_starts(np.full(5, -np.inf), 3, stream(0))) == 3


def test_rows_within_a_millionth_are_taken() -> None:
    taken = np.array([[0.5, 0.5]])
    X = np.array([[0.5, 0.5 + 9e-7], [0.5, 0.5 + 2e-6]])
    assert is_taken(X, taken).tolist() == [True, False]
    assert is_taken(X, np.empty((0, 2))).tolist() == [False, False]
