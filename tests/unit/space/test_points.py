"""Checking points and bringing them to normal form."""

import math
from typing import Any

import numpy as np
import pytest

from bbopt.space import (
    Bool,
    Categorical,
    Equals,
    Exclude,
    Fixed,
    Float,
    Int,
    Linear,
    Ordinal,
    ParamValue,
    Scale,
    Simplex,
    Space,
)

SPACE = Space(
    (
        Float("lr", 1e-5, 1e-1, Scale.LOG),
        Float("drop", 0, 1, step=0.1),
        Int("depth", 1, 9, step=2),
        Ordinal("width", (16, 32, 64)),
        Categorical("kind", ("tree", "net")),
        Bool("wide", active_if=Equals("kind", ("net",))),
        Fixed("seed", 7),
    )
)
POINT: dict[str, Any] = {"lr": 1e-3, "drop": 0.7, "depth": 3, "width": 32.0, "kind": "tree"}


def test_a_point_of_the_space_has_no_violations() -> None:
    assert SPACE.check(POINT) == []
    assert SPACE.check({**POINT, "seed": 7}) == []
    assert SPACE.check({**POINT, "kind": "net", "wide": True}) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 0.0),
        ("lr", -1.0),
        ("lr", math.nextafter(1e-5, 0)),
        ("lr", math.nextafter(1e-1, 1)),
        ("lr", math.nan),
        ("lr", math.inf),
        ("lr", True),
        ("lr", "0.01"),
        ("lr", None),
        ("lr", 10**400),
        ("drop", 0.65),
        ("depth", 2),
        ("depth", 3.0),
        ("depth", 3.0000001),
        ("depth", True),
        ("depth", 2**63),
        ("depth", 11),
        ("width", 33),
        ("width", False),
        ("kind", "forest"),
        ("kind", 0),
        ("wide", True),
        ("wide", None),
        ("seed", 8),
        ("seed", True),
        ("seed", 7.0),
        ("nobody", 1),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: ParamValue) -> None:
    violations = SPACE.check({**POINT, name: value})
    assert [violation.field for violation in violations] == [f"parameters[{name}]"]


def test_all_wrong_values_are_listed() -> None:
    violations = SPACE.check({"lr": 5, "kind": "net", "depth": "x"})
    assert {violation.field for violation in violations} == {
        "parameters[lr]",
        "parameters[drop]",
        "parameters[depth]",
        "parameters[width]",
        "parameters[wide]",
    }


def test_normal_form_has_exact_types_and_constants() -> None:
    point = SPACE.canonical({**POINT, "drop": 0.1 + 0.2 + 0.4, "width": 32})
    assert point == {**POINT, "seed": 7}
    assert point["drop"] == 0.7
    assert type(point["width"]) is float
    assert list(point) == ["lr", "drop", "depth", "width", "kind", "seed"]


def test_numpy_scalars_are_values() -> None:
    point = {**POINT, "lr": np.float64(0.01), "depth": np.int64(5)}
    assert SPACE.check(point) == []
    assert type(SPACE.canonical(point)["depth"]) is int


def test_what_people_pass_to_constructors_is_tidied() -> None:
    lr = Float("lr", 1, 10, scale="log", default=2)  # type: ignore[arg-type]
    assert (lr.scale, type(lr.low), lr.default) == (Scale.LOG, float, 2.0)
    kind = Categorical("kind", ["a", "b"])  # type: ignore[arg-type]
    width = Ordinal("width", [1, 2])  # type: ignore[arg-type]
    flag = Bool("flag", active_if=Equals("kind", "a"))  # type: ignore[arg-type]
    space = Space([lr, kind, width, flag], [Exclude([Equals("kind", "a")])])  # type: ignore[arg-type]
    assert space == Space(
        (
            Float("lr", 1.0, 10.0, Scale.LOG, default=2.0),
            Categorical("kind", ("a", "b")),
            Ordinal("width", (1.0, 2.0)),
            Bool("flag", Equals("kind", ("a",))),
        ),
        (Exclude((Equals("kind", ("a",)),)),),
    )


def test_grid_values_are_the_decimals_that_people_write() -> None:
    grid = Float("x", 0, 1, step=0.1).grid
    assert grid is not None
    assert grid.values(np.arange(11)).tolist() == [k / 10 for k in range(11)]
    assert Float("x", 0.05, 1, step=0.3).grid.n_levels == 4  # type: ignore[union-attr]


def test_constraints_are_checked_once_the_values_fit() -> None:
    space = Space(
        (Float("a", 0, 1), Float("b", 0, 1), Int("n", 0, 3), Bool("f")),
        (
            Simplex(("a", "b")),
            Linear({"a": 1, "n": 1}, upper=2),
            Exclude((Equals("n", (0,)), Equals("f", (True,)))),
        ),
    )
    assert space.check({"a": 0.1 + 0.2, "b": 0.7, "n": 1, "f": True}) == []
    found = space.check({"a": 0.5, "b": 0.6, "n": 3, "f": True})
    assert [violation.field for violation in found] == ["constraints[0]", "constraints[1]"]
    assert "must be 1, got 1.1" in found[0].message
    found = space.check({"a": 0.5, "b": 0.5, "n": 0, "f": True})
    assert [violation.field for violation in found] == ["constraints[2]"]
    found = space.check({"a": 0.5, "b": 0.6, "n": 9, "f": True})
    assert [violation.field for violation in found] == ["parameters[n]"]


def test_the_default_point_needs_every_active_default() -> None:
    kind = Categorical("kind", ("a", "b"), default="a")
    on_b = Float("x", 0, 1, active_if=Equals("kind", ("b",)))
    assert Space((kind, on_b, Fixed("c", 1))).default_point() == {"kind": "a", "c": 1}
    on_a = Float("x", 0, 1, active_if=Equals("kind", ("a",)))
    assert Space((kind, on_a)).default_point() is None


def test_a_grandchild_of_an_inactive_parameter_is_inactive() -> None:
    space = Space(
        (
            Bool("a"),
            Bool("b", active_if=Equals("a", (True,))),
            Bool("c", active_if=Equals("b", (True, False))),
        )
    )
    assert space.active_names({"a": False, "b": True}) == {"a"}
    assert space.active_names({"a": True, "b": True}) == {"a", "b", "c"}


def test_a_name_with_what_cannot_be_seen_is_shown_with_it() -> None:
    faults = [str(fault) for fault in SPACE.check({"\ufefflr": 1e-3})]
    assert "parameters[\\ufefflr]: there is no such parameter" in faults
