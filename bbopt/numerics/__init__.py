"""Linear algebra, safe mathematics, counter-based randomness and devices for the engine."""

from bbopt.numerics.devices import resolve_device
from bbopt.numerics.linalg import FAILURES, CholeskyFactor, cholesky, inverse_factor
from bbopt.numerics.random import stream
from bbopt.numerics.safe_math import (
    log_h,
    log_ndtr,
    logsumexp_with_weights,
)

__all__ = [
    "FAILURES",
    "CholeskyFactor",
    "cholesky",
    "inverse_factor",
    "log_h",
    "log_ndtr",
    "logsumexp_with_weights",
    "resolve_device",
    "stream",
]
