"""Where values lie in the unit cube, against formulas written out naively."""

import math

import numpy as np
import pytest

from bbopt.errors import InvalidError
from bbopt.space import (
    Between,
    Bool,
    Categorical,
    Codec,
    ColumnKind,
    Equals,
    Exclude,
    Fixed,
    Float,
    Int,
    Ordinal,
    Parameter,
    ParamValue,
    Scale,
    Space,
)


def position(parameter: Parameter, value: ParamValue) -> float:
    return float(
        Codec(Space((parameter, Bool("other")))).encode({"x": value, "other": False})[0]
    )


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        (Float("x", -2, 6), 0.0, 0.25),
        (Float("x", 1e-4, 1, Scale.LOG), 1e-3, 0.25),
        (Float("x", 1e-4, 1, Scale.REVERSE_LOG), 1 + 1e-4 - 1e-3, 0.75),
        (Float("x", 0.1, 0.9, Scale.LOGIT), 0.5, 0.5),
        (
            Float("x", 0.01, 0.9, Scale.LOGIT),
            0.2,
            (math.log(0.2 / 0.8) - math.log(0.01 / 0.99))
            / (math.log(0.9 / 0.1) - math.log(0.01 / 0.99)),
        ),
        (Float("x", 1e300, 1.5e300, Scale.LOG), 1.2e300, math.log(1.2) / math.log(1.5)),
        (Float("x", 1e-300, 1e300, Scale.LOG), 1.0, 0.5),
        (Float("x", 0, 1, step=0.25), 0.5, 2.5 / 5),
        (Int("x", 3, 6), 3, 0.5 / 4),
        (Int("x", 0, 10**9), 10**9, (10**9 + 0.5) / (10**9 + 1)),
        (Int("x", 0, 100, step=50), 50, 0.5),
        (Ordinal("x", (1, 10, 1000)), 10, 0.5),
        (Categorical("x", ("a", "b", "c", "d")), "b", 1.5 / 4),
        (Bool("x"), False, 0.25),
        (Bool("x"), True, 0.75),
    ],
)
def test_values_lie_where_their_scale_puts_them(
    parameter: Parameter, value: ParamValue, expected: float
) -> None:
    assert position(parameter, value) == pytest.approx(expected, abs=1e-13)


def test_a_logarithmic_integer_has_log_spaced_levels_with_whole_cells_at_the_ends() -> None:
    (column,) = Codec(Space((Int("x", 1, 8, Scale.LOG),))).columns
    gaps = np.diff(column.levels)
    assert np.allclose(gaps / gaps[0], np.diff(np.log(np.arange(1, 9))) / math.log(2))
    assert column.levels[0] > 0.05
    assert column.levels[-1] < 0.99
    draws = Codec(Space((Int("x", 1, 8, Scale.LOG),))).sample(np.random.default_rng(0), 2000)
    assert set(np.round(draws[:, 0], 12)) == set(np.round(column.levels, 12))


@pytest.mark.parametrize("scale", [Scale.LINEAR, Scale.LOG, Scale.REVERSE_LOG])
@pytest.mark.parametrize("high", [50, 2**30 + 7])
def test_every_integer_survives_the_round_trip(scale: Scale, high: int) -> None:
    codec = Codec(Space((Int("x", 5, high, scale),)))
    values = {*range(5, 51), *range(high - 40, high + 1), (5 + high) // 2}
    for value in values:
        back = codec.decode(codec.encode({"x": value}))["x"]
        assert back == value
        assert type(back) is int


def test_kinds_of_columns_say_how_they_may_be_searched() -> None:
    codec = Codec(
        Space(
            (
                Float("f", 0, 1, periodic=True),
                Float("s", 0, 1, step=0.5),
                Int("i", 0, 9),
                Int("many", 0, 10**6),
                Ordinal("o", (1, 2)),
                Categorical("c", ("a", "b", "c")),
                Bool("b"),
                Fixed("k", 1),
            )
        )
    )
    continuous, discrete = ColumnKind.CONTINUOUS, ColumnKind.DISCRETE
    categorical = ColumnKind.CATEGORICAL
    assert codec.dim == 7
    assert [(c.name, c.kind, c.n_levels) for c in codec.columns] == [
        ("f", continuous, 0),
        ("s", discrete, 3),
        ("i", discrete, 10),
        ("many", continuous, 0),
        ("o", discrete, 2),
        ("c", categorical, 3),
        ("b", categorical, 2),
    ]
    assert [c.periodic for c in codec.columns] == [True] + [False] * 6
    for column in codec.columns:
        assert len(column.levels) == column.n_levels
        assert (np.diff(column.levels) > 0).all()


def test_an_integer_with_very_many_levels_snaps_to_integers() -> None:
    codec = Codec(Space((Int("n", 0, 10**6),)))
    snapped = codec.snap(np.asarray([[0.1234567891]]))
    assert codec.decode(snapped[0]) == {"n": 123456}
    assert snapped[0, 0] == pytest.approx((123456 + 0.5) / (10**6 + 1))


def test_rows_outside_the_cube_are_clipped_and_angles_go_round() -> None:
    codec = Codec(Space((Float("a", 0, 360, periodic=True), Float("b", 0, 1))))
    assert codec.snap(np.asarray([[1.25, 1.25], [-0.25, -0.25]])).tolist() == [
        [0.25, 1.0],
        [0.75, 0.0],
    ]


def test_rows_that_are_not_finite_are_refused() -> None:
    codec = Codec(Space((Float("a", 0, 1),)))
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            codec.snap(np.asarray([[bad]]))


CONDITIONAL = Codec(
    Space(
        (
            Categorical("kind", ("a", "b")),
            Float("lr", 1e-3, 1, Scale.LOG, active_if=Equals("kind", ("b",))),
            Bool("deep", active_if=Between("lr", 0.1, 1)),
            Fixed("k", "v"),
            Bool("fixed", active_if=Equals("k", ("v",))),
        )
    )
)


def test_inactive_parameters_are_left_out_and_lie_in_the_middle() -> None:
    x = CONDITIONAL.snap(np.asarray([[0.1, 0.9, 0.9, 0.9]]))[0]
    assert x.tolist() == [0.25, 0.5, 0.5, 0.75]
    assert CONDITIONAL.decode(x) == {"kind": "a", "k": "v", "fixed": True}
    assert CONDITIONAL.active(x[None, :]).tolist() == [[True, False, False, True]]
    low = CONDITIONAL.active(np.asarray([[0.75, 0.5, 0.9, 0.9], [0.75, 0.7, 0.9, 0.9]]))
    assert low.tolist() == [[True, True, False, True], [True, True, True, True]]


def test_neighbours_of_a_parent_wake_and_silence_its_children() -> None:
    x = CONDITIONAL.encode({"kind": "b", "lr": 1.0, "deep": True, "fixed": False})
    points = [CONDITIONAL.decode(row) for row in CONDITIONAL.neighbours(x)]
    assert {"kind": "a", "k": "v", "fixed": False} in points
    assert {"kind": "b", "lr": 1.0, "deep": False, "k": "v", "fixed": False} in points
    assert len(points) == 3


def test_neighbours_go_one_level_or_as_far_as_they_may() -> None:
    codec = Codec(Space((Int("n", 0, 99), Categorical("c", ("a", "b", "c")))))
    x = codec.encode({"n": 20, "c": "a"})
    near = [codec.decode(row) for row in codec.neighbours(x)]
    assert [p["n"] for p in near if p["c"] == "a"] == [19, 21]
    assert [p["c"] for p in near if p["n"] == 20] == ["b", "c"]
    far = {codec.decode(row)["n"] for row in codec.neighbours(x, reach=99)}
    assert far == {20, 19, 21, 16, 24, 4, 36, 84}
    edge = codec.encode({"n": 0, "c": "a"})
    assert len(codec.neighbours(edge)) == 3


def test_neighbours_keep_to_the_constraints() -> None:
    space = Space(
        (Int("n", 0, 3), Bool("f")), (Exclude((Equals("n", (2,)), Equals("f", (True,)))),)
    )
    codec = Codec(space)
    points = [codec.decode(row) for row in codec.neighbours(codec.encode({"n": 1, "f": True}))]
    assert points == [{"n": 0, "f": True}, {"n": 1, "f": False}]


def test_a_space_of_real_numbers_has_no_neighbours() -> None:
    codec = Codec(Space((Float("x", 0, 1),)))
    assert codec.neighbours(np.asarray([0.5])).shape == (0, 1)


def test_a_point_that_cannot_be_encoded_is_refused_by_name() -> None:
    codec = Codec(Space((Float("x", 0, 1), Categorical("c", ("a", "b")))))
    with pytest.raises(InvalidError) as caught:
        codec.encode({"x": math.nan, "c": "z"})
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["parameters[x]", "parameters[c]"]


def test_encoding_does_not_ask_for_constants() -> None:
    assert CONDITIONAL.encode({"kind": "a", "fixed": True}).shape == (4,)


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        (Float("x", -2, 6), True),
        (Float("x", 1e-4, 1, Scale.LOG), True),
        (Float("x", 0, 1, periodic=True), True),
        (Float("x", 1e12, 1e12 + 4), False),
        (Float("x", 0, 1, step=0.5), False),
        (Int("x", 0, 10**9), False),
        (Bool("x"), False),
    ],
)
def test_a_box_is_a_space_in_which_rows_hardly_move_to_be_canonical(
    parameter: Parameter, expected: bool
) -> None:
    codec = Codec(Space((parameter, Float("y", 0, 1))))
    assert codec.is_box is expected
    rows = np.random.default_rng(0).random((50, 2))
    if expected:
        np.testing.assert_allclose(codec.snap(rows), rows, rtol=0.0, atol=1e-9)


def test_a_space_with_conditions_is_no_box() -> None:
    a, b = Float("a", 0, 1), Float("b", 0, 1, active_if=Between("a", 0.0, 0.5))
    assert Codec(Space((a, Float("b", 0, 1)))).is_box
    assert not Codec(Space((a, b))).is_box
