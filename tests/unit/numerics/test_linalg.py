import pytest
import torch

from bbopt.errors import NumericalError
from bbopt.numerics import cholesky, inverse_factor


def spd(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(*shape, shape[-1], dtype=torch.float64, generator=generator)
    return a @ a.mT + torch.eye(shape[-1], dtype=torch.float64)


def test_a_healthy_matrix_needs_no_jitter() -> None:
    matrix = spd(3, 6)
    factor = cholesky(matrix)
    assert factor.jitter.tolist() == [0.0, 0.0, 0.0]
    torch.testing.assert_close(factor.lower @ factor.lower.mT, matrix)


def test_only_the_singular_element_of_a_batch_gets_jitter() -> None:
    singular = torch.ones(4, 4, dtype=torch.float64)
    factor = cholesky(torch.stack([spd(4), singular]))
    assert factor.jitter[0] == 0.0
    assert 0.0 < factor.jitter[1] <= 1e-4
    rebuilt = factor.lower[1] @ factor.lower[1].mT
    expected = singular + factor.jitter[1] * torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(rebuilt, expected)


def test_an_indefinite_matrix_is_a_typed_error() -> None:
    with pytest.raises(NumericalError, match="not positive definite"):
        cholesky(torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_non_finite_entry_is_a_typed_error(bad: float) -> None:
    matrix = spd(3)
    matrix[1, 1] = bad
    with pytest.raises(NumericalError, match="non-finite"):
        cholesky(matrix)


def test_the_inverse_factor_inverts_and_is_exactly_triangular() -> None:
    lower = cholesky(spd(2, 5)).lower
    inverse = inverse_factor(lower)
    torch.testing.assert_close(
        inverse @ lower, torch.eye(5, dtype=torch.float64).expand(2, 5, 5)
    )
    assert torch.equal(inverse, torch.tril(inverse))
