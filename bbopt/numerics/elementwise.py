"""Elementwise functions of tensors and of arrays alike.

On the CPU a formula of some ten numbers costs numpy half of what it costs torch; on another
device the same formula stays there. Written with these it has one home.
"""

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Values = TypeVar("Values", Tensor, NDArray[np.float64])
"""Both kinds; the arguments of one call are of the same kind."""


def like(values: Values, constant: Tensor) -> Values:
    """Return a tensor on the device of ``values`` as what they are: without a copy."""
    if isinstance(values, Tensor):
        return constant
    array: NDArray[np.float64] = constant.numpy()
    return array


def exp(values: Values) -> Values:
    """Return the exponential."""
    if isinstance(values, Tensor):
        return torch.exp(values)
    return np.exp(values)


def log(values: Values) -> Values:
    """Return the natural logarithm."""
    if isinstance(values, Tensor):
        return torch.log(values)
    return np.log(values)


def sqrt(values: Values) -> Values:
    """Return the square root."""
    if isinstance(values, Tensor):
        return torch.sqrt(values)
    return np.sqrt(values)


def is_negative(values: Values) -> Values:
    """Return 1 below zero and 0 elsewhere, in double precision."""
    if isinstance(values, Tensor):
        return (values < 0.0).to(values.dtype)
    return (values < 0.0).astype(np.float64)
