"""Cholesky factors and their inverses, with every rescue reported instead of hidden.

All functions take an optional leading batch dimension and work on any device. The jitter that
was needed is part of the answer, because it changes the model: the caller decides whether that
is worth telling the user.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from bbopt.errors import NumericalError

_TorchError: Final[type[Exception]] = torch.linalg.LinAlgError  # type: ignore[attr-defined]
FAILURES: Final = (NumericalError, _TorchError, np.linalg.LinAlgError)
"""What a computation raises that the numbers given to it broke: ours, torch's and scipy's."""
JITTER_LADDER: Final = (0.0, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
"""Fractions of the mean diagonal, tried in order; above 1e-4 the model is visibly another
one."""


@dataclass(frozen=True, slots=True)
class CholeskyFactor:
    """A lower factor ``L`` with ``L L' = K + jitter I``."""

    lower: Tensor
    """Shape ``(..., n, n)``."""
    jitter: Tensor
    """What was added to the diagonal, shape ``(...)``; zero for a healthy matrix."""


def cholesky(matrix: Tensor) -> CholeskyFactor:
    """Factorize a symmetric positive (semi-)definite matrix, climbing the jitter ladder.

    Args:
        matrix: Shape ``(..., n, n)``, symmetric, finite.

    Returns:
        The factor, with the smallest jitter of the ladder that was enough, per batch element.

    Raises:
        NumericalError: The matrix has a non-finite entry, or is not positive definite even with
            a jitter of 1e-4 of its mean diagonal.
    """
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    jitter = torch.zeros(matrix.shape[:-2], dtype=matrix.dtype, device=matrix.device)
    lower, info = torch.linalg.cholesky_ex(matrix)
    if not bool(info.any()):
        if not bool(torch.isfinite(lower.diagonal(dim1=-2, dim2=-1)).all()):
            raise NumericalError("the matrix to factorize has a non-finite entry")
        return CholeskyFactor(lower, jitter)
    if not bool(torch.isfinite(matrix).all()):
        raise NumericalError("the matrix to factorize has a non-finite entry")
    scale = diagonal.mean(dim=-1)
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    for fraction in JITTER_LADDER[1:]:
        jitter = torch.where(info > 0, fraction * scale, jitter)
        lower, info_now = torch.linalg.cholesky_ex(matrix + jitter[..., None, None] * identity)
        if not bool(info_now.any()):
            return CholeskyFactor(lower, jitter)
        info = info_now
    raise NumericalError(
        f"a {matrix.shape[-1]} x {matrix.shape[-1]} matrix is not positive definite, "
        f"even with {JITTER_LADDER[-1]:g} of its mean diagonal added"
    )


def inverse_factor(lower: Tensor) -> Tensor:
    """Invert a lower triangular factor.

    Args:
        lower: Shape ``(..., n, n)``, lower triangular, positive diagonal.

    Returns:
        ``L^-1``, shape ``(..., n, n)``, lower triangular with exact zeros above the diagonal.
    """
    identity = torch.eye(lower.shape[-1], dtype=lower.dtype, device=lower.device)
    inverse: Tensor = torch.linalg.solve_triangular(
        lower, identity.expand_as(lower), upper=False
    )
    return inverse
