import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bbopt.acquisition import (
    IntegratedLogExpectedImprovement,
    LogExpectedImprovement,
    incumbent_value,
)
from bbopt.gp import GPModel
from bbopt.numerics import stream
from bbopt.search import (
    AscentSettings,
    Exhausted,
    Found,
    SearchSettings,
    maximise,
    maximise_batch,
)
from tests.unit.search.fake_spaces import FakeSpace, categorical, continuous, ordered

Array = NDArray[np.float64]


@dataclass
class Known:
    """An acquisition with a known top; counts what was asked of it."""

    function: Callable[[torch.Tensor], torch.Tensor]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    n_rows: int = 0

    def value(self, X: torch.Tensor) -> torch.Tensor:
        self.n_rows += len(X)
        with torch.inference_mode():
            return self.function(X)

    def value_and_gradient(self, X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode(mode=False), torch.enable_grad():
            at = X.clone().requires_grad_()
            value = self.function(at)
            (gradient,) = torch.autograd.grad(value.sum(), at, materialize_grads=True)
        self.n_rows += len(X)
        return value.detach(), gradient


def bumps(X: torch.Tensor) -> torch.Tensor:
    """Two hills, the higher one narrow; categories and levels shift them."""
    wide = -20.0 * (X - 0.25).square().sum(-1)
    narrow = 1.0 - 60.0 * (X - 0.7).square().sum(-1)
    return torch.maximum(wide, narrow) + 0.2 * torch.sin(9.0 * X).sum(-1)


def empty(space: FakeSpace) -> Array:
    return np.empty((0, space.dim))


def found(result: Found | Exhausted) -> Found:
    assert isinstance(result, Found)
    return result


def brute_force(space: FakeSpace, n: int = 61) -> float:
    axes = [
        column.levels if column.n_levels else np.linspace(0.0, 1.0, n)
        for column in space.columns
    ]
    rows = space.snap(np.array(list(itertools.product(*axes))))
    rows = rows[space.is_feasible(rows)] if space.has_constraints else rows
    return float(bumps(torch.from_numpy(rows)).max())


SPACES = {
    "box": FakeSpace((continuous(), continuous())),
    "periodic": FakeSpace((continuous(periodic=True), continuous())),
    "mixed": FakeSpace((continuous(), categorical(5), ordered(7))),
    "mostly discrete": FakeSpace((ordered(40), categorical(6), continuous(), ordered(9))),
    "discrete, enumerated": FakeSpace((ordered(9), categorical(5), ordered(11))),
    "discrete, walked": FakeSpace((ordered(25), ordered(31), categorical(8))),
    "conditional": FakeSpace((categorical(3), continuous(), continuous()), parent=0, child=1),
    "halfspace": FakeSpace((continuous(),) * 3, halfspaces=[(np.array([1.0, 1.0, 0.0]), 0.9)]),
    "equality": FakeSpace((continuous(),) * 2, equality=(np.array([1.0, 1.0]), 1.0)),
    "hole": FakeSpace((continuous(),) * 2, forbidden_ball=(np.array([0.7, 0.7]), 0.15)),
    "mixed halfspace": FakeSpace(
        (continuous(), continuous(), categorical(4)),
        halfspaces=[(np.array([1.0, 1.0, 0.0]), 0.9)],
    ),
}


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("seed", range(3))
def test_the_search_reaches_the_best_of_a_fine_grid(name: str, seed: int) -> None:
    space = SPACES[name]
    result = found(maximise(Known(bumps), space, stream(seed, name), incumbents=empty(space)))
    assert result.value >= brute_force(space) - 0.02
    assert (space.snap(result.x[None])[0] == result.x).all()
    assert space.is_feasible(result.x[None])[0]
    assert result.value == pytest.approx(float(bumps(torch.from_numpy(result.x[None]))))


@pytest.mark.parametrize("name", SPACES)
def test_the_same_stream_gives_the_same_answer(name: str) -> None:
    space = SPACES[name]
    a, b = (
        found(maximise(Known(bumps), space, stream(7, name), incumbents=empty(space)))
        for _ in range(2)
    )
    assert (a.x == b.x).all()
    assert (a.optima == b.optima).all()


@pytest.mark.parametrize("name", SPACES)
def test_a_taken_row_is_never_returned(name: str) -> None:
    space = SPACES[name]
    taken = empty(space)
    for i in range(12):
        result = found(
            maximise(
                Known(bumps), space, stream(i), incumbents=taken[:3], taken=taken,
                settings=SearchSettings(n_spread=64, n_local=32, n_starts=3),
            )
        )  # fmt: skip
        if len(taken):
            assert np.abs(taken - result.x).max(axis=1).min() > 1e-6
        assert space.is_feasible(result.x[None])[0]
        taken = np.concatenate([taken, result.x[None]])


def test_an_enumerable_space_is_handed_out_best_first_to_the_last_row() -> None:
    space = FakeSpace((ordered(4), categorical(3)))
    taken, values = empty(space), []
    for i in range(12):
        result = found(maximise(Known(bumps), space, stream(i), incumbents=taken, taken=taken))
        values.append(result.value)
        taken = np.concatenate([taken, result.x[None]])
    assert values == sorted(values, reverse=True)
    last = maximise(Known(bumps), space, stream(99), incumbents=taken, taken=taken)
    assert last == Exhausted()


def test_a_larger_discrete_space_is_only_called_exhausted_when_it_is() -> None:
    space = FakeSpace((ordered(100), ordered(60)))
    every = np.array(list(itertools.product(space.columns[0].levels, space.columns[1].levels)))
    left = 1234
    taken = np.delete(every, left, axis=0)
    result = maximise(Known(bumps), space, stream(0), incumbents=taken[:1], taken=taken)
    np.testing.assert_allclose(found(result).x, every[left])
    result = maximise(Known(bumps), space, stream(0), incumbents=taken[:1], taken=every)
    assert result == Exhausted()


def test_the_incumbent_is_always_climbed_from() -> None:
    """A needle that no candidate would find, next to the incumbent."""
    needle = np.array([0.123, 0.877, 0.411, 0.666])

    def function(X: torch.Tensor) -> torch.Tensor:
        distance = (X - torch.from_numpy(needle)).square().sum(-1)
        return torch.log(torch.exp(-distance * 1e6) + 1e-9)

    space = FakeSpace((continuous(),) * 4)
    settings = SearchSettings(n_spread=16, n_local=0, n_starts=2)
    near = (needle + 5e-4)[None]
    with_it = found(
        maximise(Known(function), space, stream(0), incumbents=near, settings=settings)
    )
    warm = found(
        maximise(
            Known(function), space, stream(0), incumbents=empty(space), warm_starts=near,
            settings=settings,
        )
    )  # fmt: skip
    without = found(
        maximise(Known(function), space, stream(0), incumbents=empty(space), settings=settings)
    )
    assert with_it.value > -0.1
    assert warm.value > -0.1
    assert without.value < -10.0


def test_a_repeated_optimum_is_replaced_by_something_close_when_close_is_good() -> None:
    space = FakeSpace((continuous(),) * 2)

    def hill(X: torch.Tensor) -> torch.Tensor:
        return -10.0 * (X - 0.5).square().sum(-1)

    top = np.array([[0.5, 0.5]])
    result = found(maximise(Known(hill), space, stream(0), incumbents=top, taken=top))
    assert 1e-6 < np.abs(result.x - 0.5).max() < 0.1


def test_nothing_but_minus_infinity_still_gives_a_feasible_row() -> None:
    space = SPACES["hole"]

    def nothing(X: torch.Tensor) -> torch.Tensor:
        return X[:, 0] - torch.inf

    result = found(maximise(Known(nothing), space, stream(0), incumbents=empty(space)))
    assert space.is_feasible(result.x[None])[0]


def test_nan_counts_as_worthless() -> None:
    space = FakeSpace((continuous(),) * 2)

    def half(X: torch.Tensor) -> torch.Tensor:
        return torch.where(X[:, 0] > 0.5, torch.nan, bumps(X))

    result = found(maximise(Known(half), space, stream(0), incumbents=empty(space)))
    assert result.x[0] <= 0.5
    assert np.isfinite(result.value)


def test_inactive_columns_stay_at_the_middle() -> None:
    space = FakeSpace((categorical(2), continuous()), parent=0, child=1)

    def second_is_better(X: torch.Tensor) -> torch.Tensor:
        return torch.where(X[:, 0] > 0.5, 1.0 - (X[:, 1] - 0.5).abs(), X[:, 1])

    result = found(maximise(Known(second_is_better), space, stream(0), incumbents=empty(space)))
    assert result.x.tolist() == [0.75, 0.5]


def test_a_batch_spreads_out_and_respects_what_is_pending() -> None:
    space = FakeSpace((continuous(),) * 2)
    X = stream(0, "batch").random((12, 2))
    model = GPModel(space.columns)
    model.observe(X, np.sin(5.0 * X).sum(1))
    model.refit()
    best = incumbent_value(model, is_noisy=False)
    seen_pending: list[int] = []

    def given(pending: Array) -> LogExpectedImprovement | IntegratedLogExpectedImprovement:
        seen_pending.append(len(pending))
        if not len(pending):
            return LogExpectedImprovement(model, best)
        return IntegratedLogExpectedImprovement(model, best, pending, rng=stream(5))

    outstanding = np.array([[0.31, 0.31]])
    results = maximise_batch(
        given, space, stream(1), n=4, pending=outstanding, incumbents=X[:3], taken=X,
        length_scales=model.length_scales,
    )  # fmt: skip
    assert seen_pending == [1, 2, 3, 4]
    rows = np.concatenate([outstanding, [r.x for r in results]])
    distances = np.abs(rows[:, None] - rows[None]).max(-1) + np.eye(5)
    assert distances.min() > 1e-3


def test_a_batch_from_a_nearly_exhausted_space_is_shorter() -> None:
    space = FakeSpace((categorical(3),))
    results = maximise_batch(
        lambda _: Known(bumps), space, stream(0), n=5, pending=np.array([[0.5]]),
        incumbents=empty(space),
    )  # fmt: skip
    assert len(results) == 2


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="not a search"):
        SearchSettings(n_spread=0)


@dataclass
class Bounded(Known):
    """Says beforehand how high each value can be."""

    slack: float = 0.0
    does_bound_pay: bool = True

    def upper_bound(self, X: torch.Tensor) -> torch.Tensor:
        return self.function(X) + self.slack


@pytest.mark.parametrize("slack", [0.0, 1e6])
def test_a_bound_saves_evaluations_and_finds_the_same_top(slack: float) -> None:
    space = FakeSpace((continuous(),) * 3)
    plain, bounded = Known(bumps), Bounded(bumps, slack=slack)
    tops = [
        found(maximise(each, space, stream(0, "bounded"), incumbents=empty(space)))
        for each in (plain, bounded)
    ]
    assert tops[1].value == pytest.approx(tops[0].value, abs=1e-2)
    assert bounded.n_rows < plain.n_rows - 400


def test_tight_bounds_leave_fewer_rows_to_evaluate_than_loose_ones() -> None:
    space = FakeSpace((continuous(),) * 3)
    n_rows = []
    for slack in (0.0, 1e6):
        bounded = Bounded(bumps, slack=slack)
        settings = SearchSettings(ascent=AscentSettings(max_iterations=0))
        maximise(bounded, space, stream(0, "x"), incumbents=empty(space), settings=settings)
        n_rows.append(bounded.n_rows)
    assert n_rows[0] < n_rows[1] - 50
