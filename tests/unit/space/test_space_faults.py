"""Every way in which the definition of a space can be wrong."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from bbopt.errors import SpecError
from bbopt.space import (
    AllOf,
    Between,
    Bool,
    Categorical,
    Condition,
    Constraint,
    Equals,
    Exclude,
    Fixed,
    Float,
    Int,
    Linear,
    Ordinal,
    Parameter,
    Simplex,
    Space,
)

X = Float("x", 0.0, 1.0)
Y = Float("y", 0.0, 1.0)
KIND = Categorical("kind", ("a", "b"))
CHILD = Float("child", 0.0, 1.0, active_if=Equals("kind", ("a",)))
NAN, INF = math.nan, math.inf
anything: Any = object()


def deep(n: int) -> Condition:
    condition: Condition = Equals("kind", ("a",))
    for _ in range(n):
        condition = AllOf((condition,))
    return condition


def chain(n: int) -> list[Any]:
    links: list[Any] = [Bool("p0")]
    links += [Bool(f"p{k}", active_if=Equals(f"p{k - 1}", (True,))) for k in range(1, n)]
    return links


def fields(build: Callable[[], object]) -> list[str]:
    with pytest.raises(SpecError) as caught:
        build()
    return [violation.field for violation in caught.value.violations]


PARAMETER_FAULTS: list[tuple[Any, str]] = [
    (Float("x", 1, 0), "parameters[x].low"),
    (Float("x", 1, 1), "parameters[x].low"),
    (Float("x", NAN, 1), "parameters[x].low"),
    (Float("x", 0, INF), "parameters[x].high"),
    (Float("x", -1.7e308, 1.7e308), "parameters[x].high"),
    (Float("x", True, 2), "parameters[x].low"),
    (Float("x", "0", 1), "parameters[x].low"),  # type: ignore[arg-type]
    (Float("x", 10**400, 1), "parameters[x].low"),
    (Float("x", 1.0, 1.0 + 1e-13), "parameters[x].low"),
    (Float("x", 0, 1, scale="log"), "parameters[x].low"),  # type: ignore[arg-type]
    (Float("x", -1, 1, scale="reverse_log"), "parameters[x].low"),  # type: ignore[arg-type]
    (Float("x", 1, 1e12, scale="reverse_log"), "parameters[x].low"),  # type: ignore[arg-type]
    (Float("x", 0, 0.5, scale="logit"), "parameters[x].scale"),  # type: ignore[arg-type]
    (Float("x", 0.1, 1 - 1e-12, scale="logit"), "parameters[x].high"),  # type: ignore[arg-type]
    (Float("x", 0, 1, scale="cubic"), "parameters[x].scale"),  # type: ignore[arg-type]
    (Float("x", 1, 2, scale="log", periodic=True), "parameters[x].scale"),  # type: ignore[arg-type]
    (Float("x", 0, 1, step=0), "parameters[x].step"),
    (Float("x", 0, 1, step=-0.1), "parameters[x].step"),
    (Float("x", 0, 1, step=NAN), "parameters[x].step"),
    (Float("x", 0, 1, step=2), "parameters[x].step"),
    (Float("x", 0, 1, step=1e-15), "parameters[x].step"),
    (Float("x", 0, 1, step=0.1, periodic=True), "parameters[x].periodic"),
    (Float("x", 0, 1, default=2), "parameters[x].default"),
    (Float("x", 0, 1, step=0.25, default=0.3), "parameters[x].default"),
    (Int("x", 2, 1), "parameters[x].low"),
    (Int("x", 1, 1), "parameters[x].low"),
    (Int("x", 1, 3.0), "parameters[x].high"),  # type: ignore[arg-type]
    (Int("x", False, 3), "parameters[x].low"),
    (Int("x", 0, 2**63), "parameters[x].high"),
    (Int("x", -(2**53), 2**53), "parameters[x].high"),
    (Int("x", 0, 5, scale="log"), "parameters[x].low"),  # type: ignore[arg-type]
    (Int("x", 0, 5, step=0), "parameters[x].step"),
    (Int("x", 0, 5, step=6), "parameters[x].step"),
    (Int("x", 0, 5, default=2.0), "parameters[x].default"),  # type: ignore[arg-type]
    (Int("x", 0, 6, step=2, default=3), "parameters[x].default"),
    (Ordinal("x", (1.0,)), "parameters[x].values"),
    (Ordinal("x", 3), "parameters[x].values"),  # type: ignore[arg-type]
    (Ordinal("x", (1.0, 1.0)), "parameters[x].values[1]"),
    (Ordinal("x", (2.0, 1.0)), "parameters[x].values[1]"),
    (Ordinal("x", (1.0, NAN)), "parameters[x].values[1]"),
    (Ordinal("x", (1.0, True)), "parameters[x].values[1]"),
    (Ordinal("x", (1.0, 2.0), default=1.5), "parameters[x].default"),
    (Categorical("x", ("a",)), "parameters[x].choices"),
    (Categorical("x", ()), "parameters[x].choices"),
    (Categorical("x", "ab"), "parameters[x].choices"),  # type: ignore[arg-type]
    (Categorical("x", tuple(map(str, range(1001)))), "parameters[x].choices"),
    (Categorical("x", ("a", "")), "parameters[x].choices[1]"),
    (Categorical("x", ("a", "a")), "parameters[x].choices[1]"),
    (Categorical("x", ("\u00e9", "e\u0301")), "parameters[x].choices[1]"),
    (Categorical("x", ("a", 1)), "parameters[x].choices[1]"),  # type: ignore[arg-type]
    (Categorical("x", ("a", "\x1b[31mred")), "parameters[x].choices[1]"),
    (Categorical("x", ("a", "b\u202e")), "parameters[x].choices[1]"),
    (Categorical("x", ("a", "\ud800")), "parameters[x].choices[1]"),
    (Categorical("x", ("a", "b" * 1025)), "parameters[x].choices[1]"),
    (Categorical("x", ("a", "b"), default="c"), "parameters[x].default"),
    (Bool("x", default=1), "parameters[x].default"),  # type: ignore[arg-type]
    (Fixed("x", NAN), "parameters[x].value"),
    (Fixed("x", 2**63), "parameters[x].value"),
    (Fixed("x", None), "parameters[x].value"),  # type: ignore[arg-type]
    (Fixed("x", "a\x00"), "parameters[x].value"),
    (anything, "parameters[0]"),
]


@pytest.mark.parametrize(("parameter", "field"), PARAMETER_FAULTS)
def test_a_faulty_parameter_is_refused_by_field(parameter: Parameter, field: str) -> None:
    assert fields(lambda: Space((parameter, Y))) == [field]


@pytest.mark.parametrize(
    "name",
    [
        "", " x", "-x", ".x", "x\n", "x\x00", "é", "x\u200b", "x" * 129, "x'; drop table t;--",
        "../etc", "%2e%2e", "a/b", "=cmd()", "{0.__class__}", "a\u202eb", 7, None,
    ],
)  # fmt: skip
def test_a_bad_name_is_refused_by_position(name: str) -> None:
    assert fields(lambda: Space((Float(name, 0, 1), Y))) == ["parameters[0].name"]


@pytest.mark.parametrize("name", ["x", "_x", "0", "learning rate", "a.b-c_d", "__proto__"])
def test_a_plain_name_is_accepted(name: str) -> None:
    assert Space((Float(name, 0, 1),)).names == (name,)


CONDITION_FAULTS: list[tuple[Any, str]] = [
    (Equals("nobody", (1,)), ".parent"),
    (Equals("kind", ()), ".values"),
    (Equals("kind", ("a", "z")), ".values[1]"),
    (Equals("count", (True,)), ".values[0]"),
    (Equals("count", (9,)), ".values[0]"),
    (Between("kind", 0, 1), ".parent"),
    (Between("count", 2, 1), ".low"),
    (Between("count", NAN, 1), ".low"),
    (Between("count", 7, 9), ""),
    (AllOf(()), ".conditions"),
    (AllOf((Equals("kind", ("a",)), Equals("nobody", (1,)))), ".conditions[1].parent"),
    (deep(100_000), ""),
    (deep(16), ""),
    (anything, ""),
    (Equals("x", (0.5,)), ""),
]


@pytest.mark.parametrize(("condition", "suffix"), CONDITION_FAULTS)
def test_a_faulty_condition_is_refused_by_field(condition: Condition, suffix: str) -> None:
    space = (KIND, Int("count", 0, 5), Float("x", 0, 1, active_if=condition))
    assert fields(lambda: Space(space)) == [f"parameters[x].active_if{suffix}"]


def test_conditions_in_a_circle_are_refused() -> None:
    a = Bool("a", active_if=Equals("b", (True,)))
    b = Bool("b", active_if=Equals("a", (True,)))
    with pytest.raises(SpecError, match="a, b depend on each other"):
        Space((X, a, b))


def test_a_long_chain_of_parents_is_refused() -> None:
    assert len(Space(tuple(chain(16))).names) == 16
    assert fields(lambda: Space(tuple(chain(17)))) == ["parameters[p16].active_if"]


def test_a_condition_may_name_a_parameter_that_comes_later() -> None:
    space = Space((CHILD, KIND))
    assert space.activation_order == ("kind", "child")


CONSTRAINT_FAULTS: list[tuple[Any, str]] = [
    (Linear({}, upper=1), ".coefficients"),
    (Linear({"nobody": 1}, upper=1), ".coefficients[nobody]"),
    (Linear({"kind": 1}, upper=1), ".coefficients[kind]"),
    (Linear({"child": 1}, upper=1), ".coefficients[child]"),
    (Linear({"x": NAN}, upper=1), ".coefficients[x]"),
    (Linear({"x": 0}, upper=1), ".coefficients[x]"),
    (Linear({"x": 1}), ".lower"),
    (Linear({"x": 1}, NAN, 1), ".lower"),
    (Linear({"x": 1}, 2, 1), ".lower"),
    (Linear({"x": 1}, INF, INF), ".lower"),
    (Simplex(("x",)), ".names"),
    (Simplex(("x", "x")), ".names[1]"),
    (Simplex(("x", "minus")), ".names[1]"),
    (Simplex(("x", "kind")), ".names[1]"),
    (Simplex(("x", "child")), ".names[1]"),
    (Simplex(("x", "y"), 0), ".total"),
    (Simplex(("x", "y"), NAN), ".total"),
    (Exclude(()), ".all_of"),
    (Exclude((Equals("nobody", (1,)),)), ".all_of[0].parent"),
    (anything, ""),
]


@pytest.mark.parametrize(("constraint", "suffix"), CONSTRAINT_FAULTS)
def test_a_faulty_constraint_is_refused_by_field(constraint: Constraint, suffix: str) -> None:
    parameters = (X, Y, KIND, CHILD, Float("minus", -1, 1))
    assert fields(lambda: Space(parameters, (constraint,))) == [f"constraints[0]{suffix}"]


def test_every_fault_of_a_space_is_listed_at_once() -> None:
    found = fields(
        lambda: Space(
            (
                Float("x", 1, 0),
                Int("n", 0, 5, scale="log"),  # type: ignore[arg-type]
                Float("bad\n", 0, 1),
                Bool("flag", active_if=Equals("nobody", (1,))),
                Bool("flag2", active_if=Equals("x", (0.5,))),
            ),
            (Linear({"x": 1, "nobody": 1}, upper=1),),
        )
    )
    assert found == [
        "parameters[x].low",
        "parameters[n].low",
        "parameters[2].name",
        "parameters[flag].active_if.parent",
        "constraints[0].coefficients[nobody]",
    ]


def test_a_space_has_1_to_2000_parameters() -> None:
    assert fields(lambda: Space(())) == ["parameters"]
    assert fields(lambda: Space(tuple(Bool(f"b{k}") for k in range(2001)))) == ["parameters"]
    assert len(Space(tuple(Bool(f"b{k}") for k in range(2000))).names) == 2000


def test_a_space_in_which_nothing_varies_is_refused() -> None:
    assert fields(lambda: Space((Fixed("x", 1),))) == ["parameters"]


def test_one_name_for_two_parameters_is_refused() -> None:
    assert fields(lambda: Space((X, Bool("x")))) == ["parameters[x].name"]


def test_equal_bounds_point_to_fixed() -> None:
    with pytest.raises(SpecError, match=r"use Fixed\('x', 1\.0\)"):
        Space((Float("x", 1, 1),))


def test_defaults_that_break_a_constraint_are_refused() -> None:
    x, y = Float("x", 0, 1, default=0.9), Float("y", 0, 1, default=0.9)
    assert fields(lambda: Space((x, y), (Linear({"x": 1, "y": 1}, upper=1),))) == [
        "constraints[0]"
    ]
