import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ndtri

from bbopt.gp import fit_bilog, fit_half_rank, fit_standardise
from bbopt.gp.warp import OutputWarp, variance_of_targets

Array = NDArray[np.float64]
Fit = Callable[[Array], OutputWarp]
FITS = [fit_half_rank, fit_standardise, fit_bilog]
moderate = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=30)
wild = st.lists(st.floats(-1e300, 1e300), min_size=0, max_size=12)


def naive_half_rank(y: Array) -> Array:
    """The rule of the docstring, value by value."""
    median = float(np.median(y))
    spread = math.sqrt(np.mean([(v - median) ** 2 for v in y if v >= median]))
    unique = sorted(set(y.tolist()))
    below = [v for v in unique if v < median]
    m = len(below) + (0.5 if median in unique else 0.0)
    w = np.array(
        [
            v if v >= median else median + spread * ndtri(0.5 * (below.index(v) + 0.5) / m)
            for v in y
        ]
    )
    return np.asarray((w - w.mean()) / w.std(ddof=1))


@pytest.mark.parametrize("n", [3, 4, 5, 20, 51])
@pytest.mark.parametrize("seed", range(3))
def test_half_rank_is_its_documented_rule(n: int, seed: int) -> None:
    y = np.random.default_rng(seed).standard_cauchy(n)
    np.testing.assert_allclose(fit_half_rank(y).forward(y), naive_half_rank(y), atol=1e-12)


@pytest.mark.parametrize("fit", FITS)
@given(values=moderate)
@example(values=[0.0, 1.0, -1e-76, -1e-76, -1e-76])  # Two targets that become one.
def test_a_warp_is_inverted(fit: Fit, values: list[float]) -> None:
    y = np.array(values)
    warp = fit(y)
    scale = max(1e-12, float(np.abs(y).max()))
    np.testing.assert_allclose(warp.inverse(warp.forward(y)), y, atol=1e-9 * scale, rtol=1e-9)


@pytest.mark.parametrize("fit", FITS)
@given(values=moderate, new=moderate)
def test_a_warp_keeps_the_order(fit: Fit, values: list[float], new: list[float]) -> None:
    w = fit(np.array(values)).forward(np.sort(np.array(new)))
    assert (np.diff(w) >= -1e-12 * np.maximum(1.0, np.abs(w[:-1]))).all()


@pytest.mark.parametrize("fit", FITS)
@given(values=wild)
def test_targets_are_finite_whatever_the_magnitude(fit: Fit, values: list[float]) -> None:
    y = np.array(values, dtype=np.float64)
    w = fit(y).forward(y)
    assert np.isfinite(w).all()
    assert np.abs(w).max(initial=0.0) < 1e4


@pytest.mark.parametrize("factor", [1e-300, 1e-6, 1e6, 1e300])
def test_half_rank_does_not_depend_on_the_unit(factor: float) -> None:
    y = np.random.default_rng(0).standard_normal(20)
    np.testing.assert_allclose(
        fit_half_rank(y * factor).forward(y * factor), fit_half_rank(y).forward(y), atol=1e-9
    )


def test_one_terrible_value_does_not_flatten_the_others() -> None:
    y = np.append(np.linspace(0.0, 1.0, 10), -1e300)
    w = fit_half_rank(y).forward(y)
    assert w[-1] > -4.0
    assert w[9] - w[8] > 0.1


def test_the_better_half_stays_linear() -> None:
    y = np.random.default_rng(1).standard_normal(21)
    better = np.sort(y[y >= np.median(y)])
    w = fit_half_rank(y).forward(better)
    slopes = np.diff(w) / np.diff(better)
    np.testing.assert_allclose(slopes, slopes[0], rtol=1e-9)


@given(values=moderate)
def test_bilog_keeps_zero_and_sign(values: list[float]) -> None:
    y = np.array(values)
    warp = fit_bilog(y)
    assert warp.forward(np.zeros(1))[0] == 0.0
    assert (np.sign(warp.forward(y)) == np.sign(y)).all()


@pytest.mark.parametrize("fit", FITS)
def test_the_slope_agrees_with_finite_differences(fit: Fit) -> None:
    y = np.random.default_rng(2).standard_normal(15)
    warp = fit(y)
    at = y - 1e-4  # inside the segment below each knot
    numeric = (warp.forward(at + 1e-7) - warp.forward(at - 1e-7)) / 2e-7
    np.testing.assert_allclose(warp.slope(at), numeric, rtol=1e-5)


@pytest.mark.parametrize("fit", [fit_half_rank, fit_standardise])
def test_equal_values_become_zero(fit: Fit) -> None:
    y = np.full(5, 3.7)
    np.testing.assert_allclose(fit(y).forward(y), 0.0, atol=1e-15)


@pytest.mark.parametrize("fit", FITS)
@given(values=wild, sd=st.floats(0.0, 1e300))
def test_noise_variances_are_finite_whatever_the_magnitude(
    fit: Fit, values: list[float], sd: float
) -> None:
    y = np.array(values, dtype=np.float64)
    variances = variance_of_targets(np.full(len(y), sd), fit(y), y)
    assert np.isfinite(variances).all()
    assert sd > 0.0 or not variances.any()
