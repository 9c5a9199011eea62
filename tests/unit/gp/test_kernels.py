import math

import pytest
import torch

from bbopt.gp import Kernel
from bbopt.gp.kernels import kernel_value, kernel_value_and_derivative, squared_distances


@pytest.mark.parametrize("s", [0.0, 1e-12, 0.3, 4.0, 900.0])
def test_kernels_are_their_documented_formulas(s: float) -> None:
    t = math.sqrt(5.0 * s)
    expected = {
        Kernel.MATERN52: (1.0 + t + 5.0 * s / 3.0) * math.exp(-t),
        Kernel.RBF: math.exp(-s / 2.0),
    }
    for kernel in Kernel:
        value = kernel_value(kernel, torch.tensor([s], dtype=torch.float64))
        assert float(value) == pytest.approx(expected[kernel], rel=1e-14)


@pytest.mark.parametrize("kernel", list(Kernel))
def test_the_derivative_agrees_with_finite_differences(kernel: Kernel) -> None:
    s = torch.logspace(-3, 1.5, 30, dtype=torch.float64)
    value, derivative = kernel_value_and_derivative(kernel, s.clone(), scale=1.5)
    h = 1e-6 * s
    numeric = (kernel_value(kernel, s + h) - kernel_value(kernel, s - h)) / (2 * h)
    torch.testing.assert_close(value, 1.5 * kernel_value(kernel, s), rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(derivative, 1.5 * numeric, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kernel", list(Kernel))
def test_the_derivative_at_zero_distance_is_finite(kernel: Kernel) -> None:
    value, derivative = kernel_value_and_derivative(kernel, torch.zeros(1, dtype=torch.float64))
    assert float(value) == 1.0
    assert float(derivative) == pytest.approx(-5.0 / 6.0 if kernel is Kernel.MATERN52 else -0.5)


def test_squared_distances_are_never_negative_and_right() -> None:
    a = torch.rand(2, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    b = torch.cat([a[:, :3] + 1e-9, a[:, :2] * 2], dim=1)
    squared = squared_distances(a, b)
    assert bool((squared >= 0.0).all())
    torch.testing.assert_close(squared, torch.cdist(a, b).square(), atol=1e-14, rtol=1e-9)
    torch.testing.assert_close(squared[0], squared_distances(a[0], b[0]), atol=1e-15, rtol=0.0)
