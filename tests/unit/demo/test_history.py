import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbopt_client.demo.history import Axes, Dot, Series, render


def series(*values: float, feasible: bool = True) -> Series:
    return Series("tuned", [Dot(value, feasible, f"value {value}") for value in values])


def svg_of(page: str) -> ElementTree.Element:
    match = re.search(r"<svg.*</svg>", page, re.DOTALL)
    assert match
    return ElementTree.fromstring(match.group())  # noqa: S314 - our own page


def test_the_best_so_far_ignores_infeasible_trials() -> None:
    one = Series("s", [Dot(0.9, False, ""), Dot(0.5, True, ""), Dot(0.4, True, "")])
    assert one.best_so_far() == [None, 0.5, 0.5]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_every_dot_is_drawn_inside_the_frame(values: list[float]) -> None:
    page = render("t", "s", [series(*values)], {}, axis="accuracy")
    circles = list(svg_of(page).iter("circle"))
    assert len(circles) == len(values)
    for circle in circles:
        assert 0 <= float(circle.attrib["cx"]) <= 900
        assert 0 <= float(circle.attrib["cy"]) <= 460


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_ticks_lie_on_the_axis(values: list[float]) -> None:
    axes = Axes.around([series(*values)])
    assert axes.ticks()
    assert all(axes.low <= tick <= axes.high + 1e-6 * abs(axes.high) for tick in axes.ticks())


def test_infeasible_trials_are_hollow() -> None:
    page = render("t", "s", [series(1.0, feasible=False)], {}, axis="accuracy")
    assert [circle.attrib["fill"] for circle in svg_of(page).iter("circle")] == ["none"]


def test_text_from_outside_cannot_become_markup() -> None:
    hostile = "<script>alert(1)</script>"
    page = render(
        hostile,
        hostile,
        [Series(hostile, [Dot(1.0, True, hostile)])],
        {hostile: 1},
        axis=hostile,
    )
    assert "<script>" not in page


@pytest.mark.parametrize("n_series", [0, 1])
def test_a_study_without_results_still_makes_a_page(n_series: int) -> None:
    page = render("t", "s", [series()] * n_series, {}, axis="accuracy")
    assert "None yet." in page
