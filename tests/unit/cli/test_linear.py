"""Linear constraints as people write them."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbopt.space import Linear
from bbopt_client.cli.study_files.linear import LinearSyntaxError, parse_linear
from bbopt_client.cli.study_files.writer import linear_text

INF = math.inf


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x + 2*y <= 1", Linear({"x": 1, "y": 2}, -INF, 1)),
        ("x>=1", Linear({"x": 1}, 1, INF)),
        ("x + y == 1", Linear({"x": 1, "y": 1}, 1, 1)),
        ("x + y = 1", Linear({"x": 1, "y": 1}, 1, 1)),
        ("0.1 <= x - y <= .9", Linear({"x": 1, "y": -1}, 0.1, 0.9)),
        ("1 >= x >= 0", Linear({"x": 1}, 0, 1)),
        ("x <= y + 1", Linear({"x": 1, "y": -1}, -INF, 1)),
        ("3 >= 2*x", Linear({"x": -2}, -3, INF)),
        ("x + 1 <= 2", Linear({"x": 1}, -INF, 1)),
        ("-(x - 2*(y + 1)) / 4 <= 1e-3", Linear({"x": -0.25, "y": 0.5}, -INF, 1e-3 - 0.5)),
        ("x*2 + 3*x <= 1", Linear({"x": 5}, -INF, 1)),
        ("'learning rate' + `a-b` <= 1", Linear({"learning rate": 1, "a-b": 1}, -INF, 1)),
        ("+x - -y <= 1", Linear({"x": 1, "y": 1}, -INF, 1)),
    ],
)
def test_a_constraint_is_read(text: str, expected: Linear) -> None:
    read = parse_linear(text)
    assert read.coefficients == expected.coefficients
    assert read.lower == pytest.approx(expected.lower)
    assert read.upper == pytest.approx(expected.upper)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a number"),
        ("x", "has no <="),
        ("x <=", "found 'the end'"),
        ("x < 1", "write <= instead of <"),
        ("x * y <= 1", "product of two parameters"),
        ("1 / x <= 1", "denominator"),
        ("x / 0 <= 1", "divides by zero"),
        ("2x <= 1", "write * between"),
        ("x <= 1 <= 2 <= 3", "must be"),
        ("x <= y <= 1", "must be numbers"),
        ("x <= 1 >= 0", "must be"),
        ("(x <= 1", "not closed"),
        ("1 <= 2", "no parameter"),
        ("x - x <= 2", "no parameter"),
        ("x ** 2 <= 1", "expected a number"),
        ("__import__('os') <= 1", "unexpected"),
        ("x; y <= 1", "cannot read"),
        ("1e999*x <= 1", "too large"),
        ("(" * 1000 + "x", "nested too deeply"),
        ("-" * 1000 + "x <= 1", "nested too deeply"),
    ],
)
def test_what_is_no_linear_constraint_is_refused(text: str, message: str) -> None:
    with pytest.raises(LinearSyntaxError, match=re.escape(message)):
        parse_linear(text)


finite = st.floats(-1e6, 1e6).filter(lambda value: value != 0)


@given(
    st.dictionaries(st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9._ -]{0,8}\Z"), finite, min_size=1),
    finite,
    st.sampled_from(["<=", ">=", "==", "both"]),
)
def test_a_constraint_that_is_written_reads_back(
    coefficients: dict[str, float], bound: float, kind: str
) -> None:
    lower = -INF if kind == "<=" else bound
    upper = INF if kind == ">=" else bound + (1 if kind == "both" else 0)
    constraint = Linear(coefficients, lower, upper)
    assert parse_linear(linear_text(constraint)) == constraint
