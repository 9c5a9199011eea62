"""The default strategy under data that break Gaussian processes: whatever was told, an ask is
answered with points of the space, finite expectations, and a word about every fallback.
"""

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from bbopt import Noise
from bbopt.specs import Quality
from tests.properties.gp_cases import ROWS, SDS, VALUES, Case, check_case

FEW = st.integers(2, 24)
MANY = st.sampled_from(
    [
        *list(range(2, 25)) * 4,
        *[30, 40, 50, 60, 80, 100, 120] * 6,
        200,
        300,
        400,
        500,
        1000,
        2000,
    ]
)
NARROW = st.integers(1, 8)
WIDE = st.sampled_from([*list(range(1, 9)) * 3, *[10, 15, 20, 30, 50] * 2, 100, 200])
"""Counts of trials and parameters: most are small, because one large case costs as much as a
hundred of them."""
LARGE = 150
"""Observations above which one kernel and one ask have to do: each takes seconds."""


def _affordable(case: Case) -> Case:
    if case.n <= LARGE:
        return case
    return Case(
        n=case.n,
        d=case.d,
        rows=case.rows,
        values=case.values,
        noise=case.noise,
        sd=case.sd,
        crashed=case.crashed,
        failed=case.failed,
        n_pending=case.n_pending,
        quality=Quality.FAST,
        seed=case.seed,
    )


def cases(n: st.SearchStrategy[int], d: st.SearchStrategy[int]) -> st.SearchStrategy[Case]:
    return st.builds(
        Case,
        n=n,
        d=d,
        rows=st.sampled_from(sorted(ROWS)),
        values=st.sampled_from(sorted(VALUES)),
        constraint=st.none() | st.sampled_from(sorted(VALUES)),
        noise=st.sampled_from(Noise),
        sd=st.sampled_from(SDS),
        crashed=st.sampled_from((0.0, 0.0, 0.2, 0.9, 1.0)),
        failed=st.sampled_from((0.0, 0.0, 0.0, 0.0, 0.1, 0.3, 0.3, 1.0)),
        n_pending=st.integers(0, 3),
        n_asked=st.integers(1, 3),
        quality=st.sampled_from((Quality.FAST, Quality.BALANCED)),
        seed=st.integers(0, 2**32),
    ).map(_affordable)


def check(case: Case) -> None:
    provenance = check_case(case)[0].provenance
    event(f"{provenance.generator}, degraded from {provenance.degraded_from or 'nothing'}")
    event(f"n <= {next(n for n in (1, 10, 100, 1000, 2000) if case.n <= n)}")


def overflowing(n: int, d: int, values: str) -> Case:
    """Build a case whose predictions, back in their own unit, were beyond every float."""
    return Case(
        n=n,
        d=d,
        rows="in two clusters",
        values=values,
        constraint="at the ends of the range",
        noise=Noise.NONE,
        sd=None,
        crashed=0.0,
        failed=0.0,
        n_pending=0,
        n_asked=1,
        quality=Quality.FAST,
        seed=0,
    )


@given(case=cases(FEW, NARROW))
@example(case=overflowing(13, 30, "constant but for one"))
@example(case=overflowing(6, 3, "at the ends of the range"))
@example(case=overflowing(2, 1, "at the ends of the range"))
@settings(max_examples=30)
def test_whatever_was_told_an_ask_gets_points_of_the_space(case: Case) -> None:
    check(case)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@given(case=cases(MANY, WIDE))
@settings(max_examples=1000)
def test_in_a_thousand_studies_no_ask_breaks(case: Case) -> None:
    check(case)
