"""The codec on arbitrary spaces."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bbopt.space import Between, Categorical, Codec, Float, Parameter, Space
from tests.properties import spaces as some

FEW = settings(max_examples=60, deadline=None)


def rows(codec: Codec, seed: int, n: int = 20) -> np.ndarray:
    X = np.random.default_rng(seed).random((n, codec.dim))
    return np.concatenate([X, np.zeros((1, codec.dim)), np.ones((1, codec.dim))])


@FEW
@given(st.data(), some.spaces())
def test_every_point_passes_the_check_and_survives_the_round_trip(
    data: st.DataObject, space: Space
) -> None:
    point = data.draw(some.points(space))
    assert space.check(point) == []
    codec = Codec(space)
    back = codec.decode(codec.encode(point))
    assert back.keys() == point.keys()
    for name, value in point.items():
        parameter = space.parameter(name)
        if isinstance(parameter, Float) and parameter.step is None:
            size = max(abs(float(value)), parameter.high - parameter.low)
            assert abs(float(back[name]) - float(value)) <= 1e-12 * size
        else:
            assert back[name] == value
            assert type(back[name]) is type(value)


@settings(max_examples=100, deadline=None)
@given(st.data(), some.floats("parent").filter(lambda parent: parent.step is None))
def test_no_value_next_to_the_limit_of_a_condition_crosses_it(
    data: st.DataObject, parent: Float
) -> None:
    ends = some.limits(parent.low, parent.high)
    lower, upper = sorted((data.draw(ends), data.draw(ends)))
    condition = Between("parent", lower, upper)
    child: Parameter = Float("child", 0.0, 1.0, active_if=condition)
    if data.draw(st.booleans()):
        child = Categorical("child", ("a", "b"), active_if=condition)
    of_child = {"child": 0.5 if isinstance(child, Float) else "b"}
    codec = Codec(Space((parent, child)))
    for limit in (lower, upper):
        nearby = (limit, *np.nextafter(limit, (-np.inf, np.inf)), limit + 1e-14, 1.3e-24)
        for value in np.clip(nearby, parent.low, parent.high).tolist():
            point = {"parent": value, **(of_child if lower <= value <= upper else {})}
            x = codec.encode(point)
            back = codec.decode(x)
            assert back.keys() == point.keys()
            assert back["parent"] == value or value not in (lower, upper)
            assert np.array_equal(codec.snap(x[None]), x[None])


@settings(max_examples=200, deadline=None)
@given(st.data(), some.floats())
def test_a_default_survives_exactly(data: st.DataObject, parameter: Float) -> None:
    value = data.draw(st.floats(parameter.low, parameter.high))
    parameter = replace(parameter, default=value if parameter.step is None else parameter.low)
    codec = Codec(Space((parameter,)))
    x = codec.encode({"x": parameter.default or 0.0})
    assert codec.decode(x) == {"x": parameter.default}
    assert np.array_equal(codec.snap(x[None]), x[None])


@FEW
@given(some.spaces(with_constraints=False), st.integers(0, 2**32))
def test_decoded_rows_are_points_of_the_space(space: Space, seed: int) -> None:
    codec = Codec(space)
    for x in rows(codec, seed):
        assert space.check(codec.decode(x)) == []


@FEW
@given(some.spaces(), st.integers(0, 2**32))
def test_snapping_is_encoding_what_was_decoded_and_changes_nothing_twice(
    space: Space, seed: int
) -> None:
    codec = Codec(space)
    X = rows(codec, seed)
    snapped = codec.snap(X)
    assert np.array_equal(codec.snap(snapped), snapped)
    assert np.array_equal(snapped, np.stack([codec.encode(codec.decode(x)) for x in X]))


@settings(max_examples=300, deadline=None)
@given(some.floats(), st.lists(st.floats(0.0, 1.0), min_size=30, max_size=60))
def test_a_real_parameter_keeps_its_canonical_coordinate(
    parameter: Float, coordinates: list[float]
) -> None:
    codec = Codec(Space((parameter,)))
    snapped = codec.snap(np.asarray(coordinates)[:, None])
    assert np.array_equal(codec.snap(snapped), snapped)
    # Not more than the doubles of the range are worth.
    assert np.abs(snapped[:, 0] - coordinates).max() < 1e-3 or parameter.step is not None


@FEW
@given(some.floats())
def test_both_ends_of_a_real_range_survive_exactly(parameter: Float) -> None:
    codec = Codec(Space((parameter,)))
    low = codec.decode(np.zeros(1))["x"]
    high = codec.decode(np.ones(1))["x"]
    assert low == parameter.low
    assert high == parameter.high or parameter.step is not None
    for value in (low, high):
        assert codec.decode(codec.encode({"x": value}))["x"] == value


@FEW
@given(some.spaces(), st.integers(0, 2**32))
def test_samples_are_feasible_canonical_and_repeatable(space: Space, seed: int) -> None:
    codec = Codec(space)
    X = codec.sample(np.random.default_rng(seed), 5)
    assert X.shape == (5, codec.dim)
    assert codec.is_feasible(X).all()
    assert np.array_equal(codec.snap(X), X)
    assert all(space.check(codec.decode(x)) == [] for x in X)
    again = Codec(space).sample(np.random.default_rng(seed), 5)
    assert np.array_equal(X, again)


@FEW
@given(some.spaces(), st.integers(0, 2**32))
def test_neighbours_differ_in_one_discrete_parameter_and_are_feasible(
    space: Space, seed: int
) -> None:
    codec = Codec(space)
    x = codec.sample(np.random.default_rng(seed), 1)[0]
    conditional = any(getattr(p, "active_if", None) is not None for p in space.parameters)
    neighbours = codec.neighbours(x)
    assert codec.is_feasible(neighbours).all()
    assert np.array_equal(codec.snap(neighbours), neighbours)
    if not conditional:
        assert ((neighbours != x).sum(axis=1) == 1).all()
    if not conditional and not space.constraints:
        wanted = sum(
            c.n_levels - 1 if isinstance(space.parameter(c.name), Categorical) else 1
            for c in codec.columns
            if c.n_levels
        )
        assert len(neighbours) >= wanted


@FEW
@given(some.spaces(), st.integers(0, 2**32))
def test_activity_of_rows_is_activity_of_points(space: Space, seed: int) -> None:
    codec = Codec(space)
    X = rows(codec, seed)
    active = codec.active(X)
    for x, mask in zip(X, active, strict=True):
        names = space.active_names(codec.decode(x))
        assert [column.name in names for column in codec.columns] == mask.tolist()


@FEW
@given(some.spaces(), st.integers(0, 2**32))
def test_feasibility_of_rows_is_feasibility_of_points(space: Space, seed: int) -> None:
    codec = Codec(space)
    X = rows(codec, seed)
    expected = [space.check_constraints(codec.decode(x)) == [] for x in X]
    assert codec.is_feasible(X).tolist() == expected


@FEW
@given(some.spaces(), st.integers(0, 2**32))
def test_projected_rows_are_inside_the_polytope(space: Space, seed: int) -> None:
    codec = Codec(space)
    X = np.random.default_rng(seed).normal(0.5, 1.0, (20, codec.dim))
    P = codec.project(X)
    assert ((P >= 0.0) & (P <= 1.0)).all()
    if codec.polytope is not None:
        assert codec.polytope.violation(P).max() <= 1e-9
        assert np.allclose(codec.project(P), P, atol=1e-9)
