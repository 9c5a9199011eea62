"""Draws cover the feasible set evenly, and emptiness is noticed."""

import numpy as np
import pytest

from bbopt.errors import EmptyFeasibleSetError
from bbopt.space import (
    Bool,
    Categorical,
    Codec,
    Constraint,
    Equals,
    Exclude,
    Float,
    Int,
    Linear,
    Ordinal,
    Scale,
    Simplex,
    Space,
    find_conflict,
    require_nonempty,
)
from bbopt.space.hit_and_run import HitAndRun
from bbopt.space.polytope import Polytope

N = 4000


def unit(n: int) -> tuple[Float, ...]:
    return tuple(Float(f"x{k}", 0, 1) for k in range(n))


def draw(space: Space, n: int = N, seed: int = 0) -> np.ndarray:
    X = Codec(space).sample(np.random.default_rng(seed), n)
    assert Codec(space).is_feasible(X).all()
    return X


def chi_square(counts: np.ndarray) -> float:
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2 / expected).sum())


def test_unconstrained_draws_are_uniform_in_every_column() -> None:
    space = Space(
        (Float("f", 1, 1e6, Scale.LOG), Int("n", 1, 8), Categorical("c", tuple("abcd")))
    )
    X = draw(space)
    for j in range(3):
        counts = np.histogram(X[:, j], bins=4, range=(0, 1))[0]
        assert chi_square(counts) < 16.3  # 99.9 % of 3 degrees of freedom


@pytest.mark.parametrize("n", [2, 5, 10])
def test_a_simplex_is_sampled_as_the_flat_dirichlet_distribution(n: int) -> None:
    X = draw(Space(unit(n), (Simplex(tuple(f"x{k}" for k in range(n))),)))
    assert np.abs(X.sum(axis=1) - 1).max() < 1e-9
    variance = (n - 1) / n**2 / (n + 1)
    assert np.abs(X.mean(axis=0) - 1 / n).max() < 5 * np.sqrt(variance / N)
    assert np.allclose(X.var(axis=0), variance, rtol=0.15)


@pytest.mark.parametrize("n", [2, 5, 10])
def test_hit_and_run_agrees_with_the_flat_dirichlet_distribution(n: int) -> None:
    plane = np.full((1, n), 1 / np.sqrt(n))
    body = Polytope(np.empty((0, n)), np.empty(0), plane, np.asarray([1 / np.sqrt(n)]))
    X = HitAndRun(body).draw(np.random.default_rng(0), N)
    variance = (n - 1) / n**2 / (n + 1)
    assert np.abs(X.sum(axis=1) - 1).max() < 1e-9
    assert np.abs(X.mean(axis=0) - 1 / n).max() < 5 * np.sqrt(variance / N)
    assert np.allclose(X.var(axis=0), variance, rtol=0.15)
    # The distribution function of one share is 1 - (1 - x)^(n - 1).
    level = 1 - (1 - X[:, 0]) ** (n - 1)
    assert chi_square(np.histogram(level, bins=10, range=(0, 1))[0]) < 27.9


def test_a_thin_corner_is_sampled_without_rejecting_for_ever() -> None:
    n = 8
    coefficients = {f"x{k}": 1.0 for k in range(n)}
    X = draw(Space(unit(n), (Linear(coefficients, upper=0.5),)))  # 1e-7 of the cube
    # Uniform under a simplex of side 1/2: each coordinate is Beta(1, n) times the side.
    assert np.allclose(X.mean(axis=0), 0.5 / (n + 1), rtol=0.1)
    total = (2 * X.sum(axis=1)) ** n  # uniform on [0, 1]
    assert chi_square(np.histogram(total, bins=10, range=(0, 1))[0]) < 27.9


def test_a_half_square_is_sampled_evenly() -> None:
    X = draw(Space(unit(2), (Linear({"x0": 1, "x1": -1}, upper=0),)))
    assert (X[:, 0] <= X[:, 1]).all()
    assert chi_square(np.histogram(X[:, 1] ** 2, bins=10, range=(0, 1))[0]) < 27.9
    assert chi_square(np.histogram(X[:, 0] / X[:, 1], bins=10, range=(0, 1))[0]) < 27.9


def test_an_equality_hidden_in_two_inequalities_is_sampled() -> None:
    space = Space(
        unit(3), (Linear({"x0": 1, "x1": 1}, 1, 1 + 1e-13), Linear({"x2": 1}, upper=0))
    )
    X = draw(space, 500)
    assert chi_square(np.histogram(X[:, 0], bins=10, range=(0, 1))[0]) < 27.9
    assert np.abs(X[:, 2]).max() < 1e-7


def test_constraints_over_integers_are_met_evenly_where_rejection_works() -> None:
    space = Space((Int("a", 0, 3), Int("b", 0, 3)), (Linear({"a": 1, "b": 1}, upper=3),))
    X = draw(space)
    _, counts = np.unique(X, axis=0, return_counts=True)
    assert len(counts) == 10
    assert chi_square(counts) < 27.9


@pytest.mark.parametrize(
    "constraints",
    [
        (Simplex(tuple("abcde"), 100),),
        (Linear({"a": 3, "b": -2, "w": 1}, 7, 7),),
        (Linear({"a": 1, "x": 1}, 55.5, 55.5), Linear({"b": 1, "y": 2}, 50, 50)),
        (Linear({"lr": 1, "x": 1}, 0.7, 0.7), Exclude((Equals("flag", (True,)),))),
    ],
)
def test_constraints_that_rejection_never_meets_are_met(
    constraints: tuple[Constraint, ...],
) -> None:
    space = Space(
        (
            *(Int(name, 0, 100) for name in "abcde"),
            *(Float(name, 0, 1) for name in "xy"),
            Float("lr", 1e-6, 1, Scale.LOG),
            Ordinal("w", (1, 2, 5)),
            Bool("flag"),
        ),
        constraints,
    )
    X = draw(space, 100)
    codec = Codec(space)
    assert all(space.check(codec.decode(x)) == [] for x in X)
    assert len(np.unique(X, axis=0)) > 90


def test_no_draws_are_no_rows() -> None:
    assert draw(Space(unit(3), (Simplex(("x0", "x1")),)), 0).shape == (0, 3)


def test_the_constraints_in_conflict_are_named() -> None:
    space = Space(
        (*unit(3), Int("n", 0, 5)),
        (
            Linear({"x2": 1}, upper=0.5),
            Linear({"x0": 1, "n": 1}, lower=5.1),
            Linear({"x0": 1, "x1": 1}, upper=0.3),
            Linear({"n": 1, "x1": -1}, upper=4.5),
        ),
    )
    assert find_conflict(space) == (1, 2, 3)
    with pytest.raises(EmptyFeasibleSetError, match=r"constraints\[1\], constraints\[2\]"):
        require_nonempty(space)


def test_one_constraint_may_be_in_conflict_with_the_ranges() -> None:
    space = Space(unit(2), (Linear({"x0": 1, "x1": 1}, lower=3),))
    assert find_conflict(space) == (0,)
    with pytest.raises(EmptyFeasibleSetError, match="within the ranges"):
        require_nonempty(space)


def test_a_space_that_is_not_empty_is_not_refused() -> None:
    space = Space(unit(2), (Linear({"x0": 1, "x1": 1}, lower=2),))
    assert find_conflict(space) == ()
    require_nonempty(space)


def test_what_cannot_be_proved_is_given_up_after_many_draws() -> None:
    odd = Space((Int("a", 0, 9), Int("b", 0, 9)), (Linear({"a": 2, "b": 4}, 7, 7),))
    assert find_conflict(odd) == ()
    with pytest.raises(EmptyFeasibleSetError, match="no feasible point found in"):
        require_nonempty(odd)
    excluded = Space((Bool("f"),), (Exclude((Equals("f", (True, False)),)),))
    with pytest.raises(EmptyFeasibleSetError, match="no feasible point found in"):
        require_nonempty(excluded)


def test_draws_from_an_empty_polytope_are_refused() -> None:
    space = Space(unit(2), (Linear({"x0": 1, "x1": 1}, 3, 3),))
    with pytest.raises(EmptyFeasibleSetError):
        Codec(space).sample(np.random.default_rng(0), 1)
