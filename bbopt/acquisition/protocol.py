"""What every acquisition is: a function on the unit cube that is maximised, with its
gradient.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


class Acquisition(Protocol):
    """A smooth function of one row of the unit cube; larger is better.

    Rows are canonical (discrete columns on their levels, inactive columns at 0.5). Values may
    be ``-inf``, never NaN.
    """

    @property
    def device(self) -> torch.device:
        """Where rows must live."""
        ...

    def value(self, X: Tensor) -> Tensor:
        """Evaluate rows of shape ``(n, D)``; returns ``(n,)``."""
        ...

    def value_and_gradient(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate rows and differentiate; returns ``(n,)`` and ``(n, D)``.

        The gradient of a categorical column is zero.
        """
        ...


@runtime_checkable
class BoundedAcquisition(Acquisition, Protocol):
    """An acquisition with a bound that costs less than a value."""

    @property
    def does_bound_pay(self) -> bool:
        """Whether many rows are better screened by ``upper_bound`` first."""
        ...

    def upper_bound(self, X: Tensor) -> Tensor:
        """Return what the values of rows of shape ``(n, D)`` do not exceed, ``(n,)``."""
        ...
