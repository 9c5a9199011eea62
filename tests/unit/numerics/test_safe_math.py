import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch

from bbopt.numerics import (
    log_h,
    log_ndtr,
    logsumexp_with_weights,
)

POINTS = [
    *(-(10.0 ** np.arange(-3, 11))),
    *np.linspace(-120.0, 10.0, 131),
    -100.0000001, -99.9999999, -1.0000001, -0.9999999, 0.0, 1e-8, 100.0, 1000.0,
]  # fmt: skip


def exact(z: float) -> tuple[float, float, float, float]:
    """log h, Phi/h, log Phi, phi/Phi in 80 digits."""
    with mpmath.workdps(80):
        x = mpmath.mpf(z)
        pdf = mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi)
        cdf = mpmath.erfc(-x / mpmath.sqrt(2)) / 2
        h = pdf + x * cdf
        return float(mpmath.log(h)), float(cdf / h), float(mpmath.log(cdf)), float(pdf / cdf)


@pytest.mark.parametrize("z", POINTS)
def test_log_h_and_its_derivative_agree_with_eighty_digits(z: float) -> None:
    value, ratio = log_h(torch.tensor([z], dtype=torch.float64))
    expected_value, expected_ratio, _, _ = exact(z)
    assert float(value) == pytest.approx(expected_value, rel=1e-13, abs=2e-11)
    assert float(ratio) == pytest.approx(expected_ratio, rel=5e-11)


@pytest.mark.parametrize("part", [slice(None), slice(20, 150)])
def test_of_arrays_both_are_what_they_are_of_tensors(part: slice) -> None:
    z = np.array(POINTS)[part]
    for function in (log_h, log_ndtr):
        expected = function(torch.from_numpy(z))
        for a, b in zip(function(z), expected, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-12, atol=2e-11)


@pytest.mark.parametrize("z", POINTS)
def test_log_ndtr_and_its_derivative_agree_with_eighty_digits(z: float) -> None:
    value, ratio = log_ndtr(torch.tensor([z], dtype=torch.float64))
    _, _, expected_value, expected_ratio = exact(z)
    assert float(value) == pytest.approx(expected_value, rel=1e-12, abs=1e-300)
    assert float(ratio) == pytest.approx(expected_ratio, rel=1e-12, abs=1e-300)


def test_softmax_weights_are_the_gradient_of_the_log_sum() -> None:
    values = torch.tensor([[1.0, -700.0, 3.0], [-np.inf, 0.0, 0.0]], dtype=torch.float64)
    total, weights = logsumexp_with_weights(values, 1)
    torch.testing.assert_close(total, torch.logsumexp(values, 1), rtol=1e-15, atol=1e-15)
    torch.testing.assert_close(weights, torch.softmax(values, 1), rtol=1e-15, atol=1e-300)
