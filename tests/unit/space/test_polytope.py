"""The polytope of the linear constraints and projection onto it, against a general solver."""

import numpy as np
import pytest
from scipy.optimize import minimize

from bbopt.space import Codec, Constraint, Float, Int, Linear, Scale, Simplex, Space
from bbopt.space.polytope import Polytope

UNIT = tuple(Float(f"x{k}", 0, 1) for k in range(4))


def polytope(constraints: tuple[Constraint, ...], *parameters: Float | Int) -> Polytope:
    found = Codec(Space(parameters or UNIT, constraints)).polytope
    assert found is not None
    return found


def nearest(body: Polytope, y: np.ndarray) -> np.ndarray:
    conditions = [
        {"type": "ineq", "fun": lambda x: body.b - body.A @ x},
        {"type": "eq", "fun": lambda x: body.E @ x - body.e},
    ]
    answer = minimize(
        lambda x: ((x - y) ** 2).sum(),
        np.full(len(y), 0.25),
        jac=lambda x: 2 * (x - y),
        bounds=[(0, 1)] * len(y),
        constraints=conditions if len(body.E) else conditions[:1],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return np.asarray(answer.x)


@pytest.mark.parametrize(
    "constraints",
    [
        (Simplex(("x0", "x1", "x2", "x3")),),
        (Linear({"x0": 1, "x1": 2, "x2": -1}, upper=0.3),),
        (Linear({"x0": 1, "x1": 1}, upper=0.5), Linear({"x1": 1, "x2": 1}, lower=0.9)),
        (Simplex(("x0", "x1", "x2"), 0.8), Linear({"x0": 1, "x3": -1}, 0.1, 0.2)),
        (Linear({"x0": 1, "x1": 1}, 0.7, 0.7), Linear({"x1": 1, "x2": 1, "x3": 1}, 1, 1)),
    ],
)
def test_projection_finds_the_nearest_point(constraints: tuple[Constraint, ...]) -> None:
    codec = Codec(Space(UNIT, constraints))
    body = polytope(constraints)
    Y = np.random.default_rng(0).normal(0.5, 0.8, (25, 4))
    P = codec.project(Y)
    assert body.violation(P).max() < 1e-10
    for y, p in zip(Y, P, strict=True):
        best = ((nearest(body, y) - y) ** 2).sum()
        assert ((p - y) ** 2).sum() <= best + 1e-7


def test_points_inside_are_left_alone() -> None:
    codec = Codec(Space(UNIT, (Linear({"x0": 1, "x1": 1}, upper=1),)))
    X = codec.sample(np.random.default_rng(0), 50)
    assert np.array_equal(codec.project(X), X)


def test_without_a_polytope_projection_only_clips() -> None:
    codec = Codec(Space(UNIT))
    assert codec.polytope is None
    X = np.asarray([[-1.0, 0.5, 2.0, 1.0]])
    assert codec.project(X).tolist() == [[0.0, 0.5, 1.0, 1.0]]


def test_coefficients_are_turned_into_unit_cube_coordinates() -> None:
    body = polytope(
        (Linear({"a": 2, "b": -1}, lower=-4, upper=3),), Float("a", -1, 3), Float("b", 10, 20)
    )
    # 2 (4 u - 1) - (10 v + 10) = 8 u - 10 v - 12
    norm = np.hypot(8, 10)
    assert np.allclose(body.A, np.asarray([[8, -10], [-8, 10]]) / norm)
    assert np.allclose(body.b, np.asarray([3 + 12, 4 - 12]) / norm)
    assert body.E.shape == (0, 2)


def test_only_plain_real_parameters_are_in_the_polytope() -> None:
    parameters = (
        Float("plain", 0, 1),
        Float("log", 0.1, 1, Scale.LOG),
        Float("stepped", 0, 1, step=0.1),
        Int("count", 0, 10**6),
    )
    for name in ("log", "stepped", "count"):
        codec = Codec(Space(parameters, (Linear({"plain": 1, name: 1}, upper=1),)))
        assert codec.polytope is None
        assert codec.has_constraints
        assert not codec.is_feasible(np.ones((1, 4)))[0]
    assert Codec(Space(parameters, (Linear({"plain": 1}, upper=0.5),))).polytope is not None


def test_columns_that_share_a_constraint_are_one_component() -> None:
    body = polytope((Linear({"x0": 1, "x2": 1}, upper=1), Linear({"x3": 1}, upper=0.5)))
    assert [group.tolist() for group in body.components()] == [[0, 2], [3]]
    joined = polytope(
        (
            Linear({"x0": 1, "x1": 1}, upper=1),
            Linear({"x2": 1, "x3": 1}, upper=1),
            Simplex(("x1", "x2")),
        )
    )
    assert [group.tolist() for group in joined.components()] == [[0, 1, 2, 3]]
