"""The short text that stands for a metric."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbopt.errors import SpecError
from bbopt.problem import Goal, Metric, MetricKind
from tests.properties import spaces as some

MAXIMIZE, MINIMIZE = Goal.MAXIMIZE, Goal.MINIMIZE
numbers = st.floats(allow_nan=False, allow_infinity=False)


def bounded(name: str, lower: float | None, upper: float | None) -> Metric:
    return Metric(name, MetricKind.CONSTRAINT, None, lower, upper)


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        ("accuracy", Metric("accuracy", goal=MAXIMIZE)),
        ("  accuracy ", Metric("accuracy", goal=MAXIMIZE)),
        ("-loss", Metric("loss", goal=MINIMIZE)),
        (" - val loss", Metric("val loss", goal=MINIMIZE)),
        ("f1-score", Metric("f1-score", goal=MAXIMIZE)),
        ("latency_ms <= 20", bounded("latency_ms", None, 20.0)),
        ("latency_ms<=20", bounded("latency_ms", None, 20.0)),
        ("qps >= 1e2", bounded("qps", 100.0, None)),
        ("20 >= latency_ms", bounded("latency_ms", None, 20.0)),
        ("-1.5E-3 <= drift", bounded("drift", -0.0015, None)),
        ("0.1 <= ratio <= 0.9", bounded("ratio", 0.1, 0.9)),
        (".9>=ratio>=-.1", bounded("ratio", -0.1, 0.9)),
        ("mean time <= +5.", bounded("mean time", None, 5.0)),
    ],
)
def test_texts_are_read(text: str, metric: Metric) -> None:
    assert Metric.parse(text) == metric


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "empty"),
        ("-", "empty"),
        ("--loss", "begin with"),
        ("+loss", "begin with"),
        ("\u2212loss", "minus sign"),
        ("loss >= \u22123", "minus sign"),
        ("a \u2264 3", "ASCII"),
        ("a < 3", "only <= and >="),
        ("a = 3", "only <= and >="),
        ("a == 3", "only <= and >="),
        ("a =< 3", "only <= and >="),
        ("a <= b", "one name with numbers"),
        ("1 <= 2", "one name with numbers"),
        ("a <= ", "one name with numbers"),
        ("a <= nan", "one name with numbers"),
        ("a <= inf", "one name with numbers"),
        ("a <= 1e999", "finite"),
        ("a <= 20ms", "one name with numbers"),
        ("0 <= a >= 1", "no range"),
        ("0 <= a <= 1 <= 2", "no range"),
        ("a <= 1 <= b", "one name with numbers"),
        ("3", "is a number"),
        ("-3.5", "is a number"),
        ("lo$$ <= 3", "may only have"),
        ("a" * 129, "at most 128"),
        (7, "must be text"),
    ],
)
def test_anything_else_is_refused_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(SpecError, match=hint):
        Metric.parse(text)


@given(some.names, numbers, numbers)
def test_every_name_and_number_is_read_back(name: str, a: float, b: float) -> None:
    name = "m" + name.strip()
    assert Metric.parse(name) == Metric(name, goal=MAXIMIZE)
    assert Metric.parse(f"-{name}") == Metric(name, goal=MINIMIZE)
    assert Metric.parse(f"{a!r} <= {name} <= {b!r}") == bounded(name, a, b)
    assert Metric.parse(f"{name} >= {a!r}") == bounded(name, a, None)


@given(st.text(max_size=20))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        kind = Metric.parse(text).kind
    except SpecError:
        return
    assert kind in (MetricKind.OBJECTIVE, MetricKind.CONSTRAINT)
