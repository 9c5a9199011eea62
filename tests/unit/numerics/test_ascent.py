import numpy as np
import pytest
from numpy.typing import NDArray

from bbopt.numerics import stream
from bbopt.numerics.ascent import AscentSettings, Evaluate, ascend
from bbopt.numerics.curvature import DenseHessian, LimitedMemoryInverse
from bbopt.search.polytope_ascent import ascend_in_polytope
from tests.unit.search.fake_spaces import FakeSpace, continuous

Array = NDArray[np.float64]
Index = NDArray[np.intp]
PATIENT = AscentSettings(
    300, gradient_tolerance=1e-8, value_tolerance=1e-14, promise_tolerance=0.0, prune_at=(),
    catch_up=np.inf,
)  # fmt: skip


def quadratic(d: int, target: Array, condition: float = 100.0) -> Evaluate:
    weights = np.logspace(0.0, np.log10(condition), d)

    def evaluate(X: Array, _: object = None) -> tuple[Array, Array]:
        return -(weights * (X - target) ** 2).sum(1), -2.0 * weights * (X - target)

    return evaluate


@pytest.mark.parametrize("d", [1, 5, 60, 61, 150])
def test_it_climbs_to_the_top_of_a_quadratic(d: int) -> None:
    target = stream(d, "target").random(d)
    starts = stream(d, "starts").random((4, d))
    result = ascend(
        quadratic(d, target), starts, np.zeros((4, d)), np.ones((4, d)),
        scale=np.ones(d), settings=PATIENT,
    )  # fmt: skip
    np.testing.assert_allclose(result.X, np.tile(target, (4, 1)), atol=1e-4)
    assert (result.values > -1e-6).all()


def test_the_dense_form_agrees_with_the_textbook_update() -> None:
    rng = stream(0, "bfgs")
    dense = DenseHessian(3, 4)
    h = np.eye(4)
    for i in range(5):
        s = rng.standard_normal(4)
        y = s + 0.3 * rng.standard_normal(4)
        if s @ y <= 0:
            continue
        dense.update(np.array([1]), s[None], y[None])
        if i == 0:
            h = h * (s @ y) / (y @ y)
        rho = 1.0 / (s @ y)
        v = np.eye(4) - rho * np.outer(y, s)
        h = v.T @ h @ v + rho * np.outer(s, s)
    g, free = rng.standard_normal((3, 4)), np.zeros((3, 4), dtype=np.bool_)
    np.testing.assert_allclose(dense.solve(g, free)[1], h @ g[1], rtol=1e-9)
    np.testing.assert_allclose(dense.solve(g, free)[[0, 2]], g[[0, 2]])


def test_the_limited_form_equals_the_dense_one_while_it_remembers_everything() -> None:
    """Both start from gamma I of the first pair when later pairs have the same gamma."""
    rng = stream(1, "bfgs")
    dense, limited = DenseHessian(2, 5), LimitedMemoryInverse(2, 5)
    for _ in range(4):
        s = rng.standard_normal((2, 5))
        y = 2.0 * s  # gamma is 1/2 for every pair
        y[:, 0] *= 1.0
        for form in (dense, limited):
            form.update(np.arange(2), s, y)
    g, free = rng.standard_normal((2, 5)), np.zeros((2, 5), dtype=np.bool_)
    np.testing.assert_allclose(dense.solve(g, free), limited.solve(g, free), rtol=1e-9)
    limited.reset(np.array([0]))
    np.testing.assert_allclose(limited.solve(g, free)[0], g[0])


def test_columns_at_a_bound_are_left_out_of_the_dense_form_s_system() -> None:
    rng = stream(2, "bfgs")
    root = rng.standard_normal((2, 4, 4))
    hessian = root @ root.transpose(0, 2, 1) + np.eye(4)
    g, is_blocked = rng.standard_normal((2, 4)), np.zeros((2, 4), dtype=np.bool_)
    is_blocked[0, 1] = True
    g[is_blocked] = 0.0
    found = DenseHessian(2, 4, hessian).solve(g, is_blocked)
    free = [0, 2, 3]
    expected = np.linalg.solve(hessian[0][np.ix_(free, free)], g[0, free])
    np.testing.assert_allclose(found[0, free], expected)
    np.testing.assert_allclose(found[1], np.linalg.solve(hessian[1], g[1]))


def test_with_the_true_curvature_one_step_is_enough() -> None:
    target, weights = np.array([0.3, 0.6, 0.5]), np.array([1.0, 30.0, 900.0])
    evaluate = quadratic(3, target, 900.0)

    def with_curvature(X: Array, rows: Index) -> tuple[Array, Array, Array]:
        return *evaluate(X, rows), np.tile(np.diag(2.0 * weights), (len(X), 1, 1))

    result = ascend(
        evaluate, np.full((1, 3), 0.4), np.zeros((1, 3)), np.ones((1, 3)),
        scale=np.array([1.0, 0.5, 2.0]), settings=PATIENT, with_curvature=with_curvature,
    )  # fmt: skip
    np.testing.assert_allclose(result.X[0], target)
    assert result.n_evaluations == 2


def test_a_row_stops_where_its_curvature_promises_too_little() -> None:
    evaluate = quadratic(2, np.array([0.5, 0.5]), 1.0)

    def with_curvature(X: Array, rows: Index) -> tuple[Array, Array, Array]:
        return *evaluate(X, rows), np.tile(2.0 * np.eye(2), (len(X), 1, 1))

    starts = np.array([[0.5, 0.52], [0.5, 0.9]])  # 0.0004 and 0.16 below the top
    result = ascend(
        evaluate, starts, np.zeros((2, 2)), np.ones((2, 2)), scale=np.ones(2),
        settings=AscentSettings(gradient_tolerance=0.0, promise_tolerance=1e-3, prune_at=()),
        with_curvature=with_curvature,
    )  # fmt: skip
    np.testing.assert_array_equal(result.X[0], starts[0])
    np.testing.assert_allclose(result.X[1], [0.5, 0.5])


def test_a_bound_stops_only_its_own_column() -> None:
    target = np.array([1.7, 0.4, -0.3])
    result = ascend(
        quadratic(3, target, 1.0), np.full((1, 3), 0.5), np.zeros((1, 3)), np.ones((1, 3)),
        scale=np.ones(3), settings=PATIENT,
    )  # fmt: skip
    np.testing.assert_allclose(result.X[0], [1.0, 0.4, 0.0], atol=1e-5)


def test_columns_with_equal_bounds_are_held_fixed_row_by_row() -> None:
    starts = np.array([[0.2, 0.9], [0.3, 0.1]])
    lower, upper = np.zeros((2, 2)), np.ones((2, 2))
    lower[0, 1] = upper[0, 1] = 0.9
    lower[1, 0] = upper[1, 0] = 0.3
    result = ascend(
        quadratic(2, np.array([0.5, 0.5]), 1.0), starts, lower, upper,
        scale=np.ones(2), settings=PATIENT,
    )  # fmt: skip
    np.testing.assert_allclose(result.X, [[0.5, 0.9], [0.3, 0.5]], atol=1e-5)


def test_rows_do_not_disturb_each_other() -> None:
    """A row ends in the same place alone and among others (nobody is pruned)."""
    settings = AscentSettings(prune_at=(), catch_up=np.inf)

    def waves(X: Array, _: object = None) -> tuple[Array, Array]:
        return np.cos(9.0 * X).sum(1) - X[:, 0], -9.0 * np.sin(9.0 * X) - np.eye(1, 3)[0]

    starts = stream(3, "starts").random((6, 3))
    box = (np.zeros((6, 3)), np.ones((6, 3)))
    together = ascend(waves, starts, *box, scale=np.full(3, 0.3), settings=settings)
    for i in range(6):
        alone = ascend(
            waves, starts[[i]], box[0][:1], box[1][:1], scale=np.full(3, 0.3), settings=settings
        )
        np.testing.assert_allclose(alone.X[0], together.X[i], atol=1e-12)


def test_rows_fall_behind_their_rivals_only() -> None:
    """Values of the second pair are all far below those of the first."""

    def evaluate(X: Array, index: Index) -> tuple[Array, Array]:
        offset = np.array([0.0, -50.0, -1000.0, -1050.0])[index]
        return offset - ((X - 0.5) ** 2).sum(1), -2.0 * (X - 0.5)

    starts = np.full((4, 2), 0.9)
    result = ascend(
        evaluate,
        starts,
        np.zeros((4, 2)),
        np.ones((4, 2)),
        scale=np.ones(2),
        settings=AscentSettings(prune_at=((0, 6.0),), catch_up=np.inf),
        rivals=np.array([0, 0, 1, 1]),
    )
    np.testing.assert_allclose(result.X[[0, 2]], 0.5, atol=0.05)
    np.testing.assert_array_equal(result.X[[1, 3]], starts[[1, 3]])


def test_hopeless_rows_are_pruned_but_keep_what_they_reached() -> None:
    calls = []
    target = np.array([0.5, 0.5])

    def evaluate(X: Array, _: object = None) -> tuple[Array, Array]:
        calls.append(len(X))
        # Row 1 lives on a slow slope far below row 0.
        is_low = X[:, 0] > 2.0
        value = np.where(is_low, -50.0 + 1e-3 * X[:, 0], -((X - target) ** 2 * [1, 50]).sum(1))
        slope = np.where(is_low[:, None], [1e-3, 0.0], -2.0 * (X - target) * [1, 50])
        return value, slope

    starts = np.array([[0.1, 0.9], [2.5, 0.5]])
    lower, upper = np.array([[0.0, 0.0], [2.1, 0.0]]), np.array([[1.0, 1.0], [900.0, 1.0]])
    settings = AscentSettings(gradient_tolerance=1e-12, value_tolerance=0.0)
    result = ascend(evaluate, starts, lower, upper, scale=np.ones(2), settings=settings)
    assert calls[-1] == 1
    assert calls[0] == 2
    assert result.values[1] >= -50.0 + 2.5e-3


def test_infeasible_steps_are_refused() -> None:
    def evaluate(X: Array, _: object = None) -> tuple[Array, Array]:
        value = np.where(X[:, 0] > 0.6, -np.inf, X.sum(1))
        return value, np.ones_like(X)

    result = ascend(
        evaluate, np.array([[0.1, 0.1]]), np.zeros((1, 2)), np.ones((1, 2)), scale=np.ones(2)
    )
    assert result.X[0, 0] <= 0.6
    assert np.isfinite(result.values[0])
    assert result.values[0] > 0.9


def test_a_start_without_a_value_stays_where_it_is() -> None:
    def evaluate(X: Array, _: object = None) -> tuple[Array, Array]:
        return np.full(len(X), -np.inf), np.zeros_like(X)

    start = np.array([[0.3, 0.4]])
    for result in (
        ascend(evaluate, start, np.zeros((1, 2)), np.ones((1, 2)), scale=np.ones(2)),
        ascend_in_polytope(evaluate, start, lambda X: X),
    ):
        assert (start == result.X).all()
        assert result.values[0] == -np.inf


def test_a_polytope_is_never_left_and_its_best_corner_is_found() -> None:
    space = FakeSpace(
        (continuous(),) * 3,
        halfspaces=[(np.array([1.0, 1.0, 0.0]), 1.0), (np.array([-1.0, 2.0, 0.0]), 0.8)],
        equality=(np.array([0.0, 1.0, 1.0]), 0.9),
    )
    seen: list[Array] = []
    gain = np.array([1.0, 1.5, 0.2])

    def evaluate(X: Array, _: object = None) -> tuple[Array, Array]:
        seen.append(X.copy())
        return X @ gain, np.tile(gain, (len(X), 1))

    starts = space.sample(stream(0, "polytope"), 4)
    result = ascend_in_polytope(evaluate, starts, space.project)
    every = np.concatenate(seen)
    assert (every @ space.halfspaces[0][0] <= 1.0 + 1e-9).all()
    assert np.abs(every @ np.array([0.0, 1.0, 1.0]) - 0.9).max() < 1e-9
    # Brute force over the two free coordinates.
    a, b = np.meshgrid(np.linspace(0, 1, 801), np.linspace(0, 1, 801))
    grid = np.stack([a.ravel(), b.ravel(), 0.9 - b.ravel()], axis=1)
    grid = grid[space.is_feasible(grid) & (grid[:, 2] >= 0) & (grid[:, 2] <= 1)]
    assert result.values.max() >= (grid @ gain).max() - 1e-6


def test_a_curved_top_inside_a_polytope_is_found_from_every_start() -> None:
    space = FakeSpace((continuous(),) * 4, halfspaces=[(np.ones(4), 1.5)])
    target = np.array([0.9, 0.8, 0.1, 0.2])
    starts = space.sample(stream(1, "polytope"), 5)
    goal = quadratic(4, target, 30.0)
    result = ascend_in_polytope(
        lambda X: goal(X, np.arange(len(X))), starts, space.project, settings=PATIENT
    )
    best = result.values.max()
    np.testing.assert_allclose(result.values, best, atol=1e-5)
    # Weighted projection: the multiplier moves every coordinate by lambda / weight.
    weights = np.logspace(0.0, np.log10(30.0), 4)
    shift = (target.sum() - 1.5) / (1.0 / weights).sum() / weights
    np.testing.assert_allclose(result.X[0], target - shift, atol=2e-3)
