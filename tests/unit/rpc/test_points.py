import numpy as np
import pytest

from bbopt.errors import InvalidError
from bbopt.rpc.points import parameters_to_message, point_from_message
from bbopt.rpc.v1.study_pb2 import ParamValue
from bbopt.space import Bool, Categorical, Fixed, Float, Int, Ordinal, Space

A_SPACE = Space(
    (
        Float("x", 0.0, 10.0),
        Int("n", 0, 9),
        Ordinal("o", (1.0, 2.0)),
        Categorical("c", ("a", "b")),
        Bool("b"),
        Fixed("k", 5),
    )
)


def point(**changes: ParamValue | None) -> dict[str, ParamValue]:
    values: dict[str, ParamValue | None] = {
        "x": ParamValue(double_value=0.5),
        "n": ParamValue(int_value=3),
        "o": ParamValue(double_value=2.0),
        "c": ParamValue(string_value="a"),
        "b": ParamValue(bool_value=False),
    }
    values |= changes
    return {name: value for name, value in values.items() if value is not None}


def test_whole_numbers_become_floats_where_a_parameter_is_real() -> None:
    read = point_from_message(
        point(x=ParamValue(int_value=3), o=ParamValue(int_value=1)), A_SPACE
    )
    assert read == {"x": 3.0, "n": 3, "o": 1.0, "c": "a", "b": False, "k": 5}
    assert [type(read["x"]), type(read["o"]), type(read["n"])] == [float, float, int]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", ParamValue(double_value=3.0)),
        ("n", ParamValue(bool_value=True)),
        ("x", ParamValue(bool_value=True)),
        ("x", ParamValue(string_value="0.5")),
        ("x", ParamValue(double_value=float("nan"))),
        ("x", ParamValue()),
        ("b", ParamValue(int_value=1)),
        ("c", ParamValue(string_value="z")),
        ("unknown", ParamValue(int_value=1)),
        ("n", None),
    ],
)
def test_a_point_that_does_not_fit_is_refused_by_name(
    name: str, value: ParamValue | None
) -> None:
    with pytest.raises(InvalidError) as caught:
        point_from_message(point(**{name: value}), A_SPACE)
    assert [each.field for each in caught.value.violations] == [f"parameters[{name}]"]


def test_numpy_scalars_are_sent_as_what_they_stand_for() -> None:
    given = {"n": np.int64(3), "x": np.float32(0.5), "b": np.bool_(True)}
    messages = parameters_to_message(given)  # type: ignore[arg-type]
    assert messages == {
        "n": ParamValue(int_value=3),
        "x": ParamValue(double_value=0.5),
        "b": ParamValue(bool_value=True),
    }


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, None, [1], b"x", "\ud800"])
def test_what_the_wire_cannot_carry_is_refused_before_it_is_sent(value: object) -> None:
    with pytest.raises(InvalidError) as caught:
        parameters_to_message({"p": value})  # type: ignore[dict-item]
    assert [each.field for each in caught.value.violations] == ["[p]"]
