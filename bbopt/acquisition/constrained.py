"""Acquisitions under unknown constraints: sums of logarithms, i.e. products of what they
mean.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from bbopt.acquisition.log_feasibility import LogProbabilityOfFeasibility, WithCuriosity
from bbopt.acquisition.log_success import CrashAversion
from bbopt.acquisition.moments import MomentAcquisition
from bbopt.acquisition.protocol import Acquisition, BoundedAcquisition
from bbopt.gp import GPModel

VARIANCE_BONUS: Final = 0.1
"""Nats per nat of variance while nothing is feasible; at 1 the search forgets feasibility."""


class SumOfLogs:
    """The sum of several acquisitions."""

    def __init__(self, parts: Sequence[Acquisition]) -> None:
        """Keep the parts.

        Args:
            parts: At least one; all on the same device.
        """
        if not parts:
            raise ValueError("a sum needs at least one part")
        self._parts = tuple(parts)
        self._bounded = [part for part in parts if isinstance(part, BoundedAcquisition)]

    @property
    def device(self) -> torch.device:
        """Where rows must live."""
        return self._parts[0].device

    @property
    def does_bound_pay(self) -> bool:
        """Whether every part has a bound that pays."""
        return len(self._bounded) == len(self._parts) and all(
            part.does_bound_pay for part in self._bounded
        )

    def upper_bound(self, X: Tensor) -> Tensor:
        """Return the sum of the parts' bounds for rows of shape ``(n, D)``, ``(n,)``."""
        return torch.stack([part.upper_bound(X) for part in self._bounded]).sum(0)

    def value(self, X: Tensor) -> Tensor:
        """Evaluate rows of shape ``(n, D)``; returns ``(n,)``."""
        total = self._parts[0].value(X)
        for part in self._parts[1:]:
            total = total + part.value(X)
        return total

    def value_and_gradient(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate rows and differentiate; returns ``(n,)`` and ``(n, D)``."""
        total, gradient = self._parts[0].value_and_gradient(X)
        for part in self._parts[1:]:
            value, slope = part.value_and_gradient(X)
            total, gradient = total + value, gradient + slope
        return total, gradient


def constrained(
    improvement: Acquisition,
    *,
    constraints: Sequence[GPModel] = (),
    success: GPModel | None = None,
) -> Acquisition:
    """Weigh an improvement with the probability that every constraint holds.

    Args:
        improvement: Log expected improvement over the best *feasible* value, with or without
            pending points.
        constraints: One model per constraint, of raw values that are feasible when ``<= 0``.
        success: A model of labels +1 (worked) and -1 (crashed).

    Returns:
        ``log EI + sum log P(feasible) + log P(success)``, the last one with ``CrashAversion``.

    Source:
        Gardner et al. (2014), "Bayesian Optimization with Inequality Constraints"; in
        logarithms as in Ament et al. (2023), arXiv:2310.20708.
    """
    parts = [improvement, *_feasibility(constraints, success)]
    return parts[0] if len(parts) == 1 else SumOfLogs(parts)


def search_for_feasibility(
    constraints: Sequence[GPModel], *, success: GPModel | None = None
) -> Acquisition:
    """Look for a first feasible point: probability of feasibility and a little curiosity.

    Args:
        constraints: One model per constraint, at least one unless ``success`` is given.
        success: A model of labels +1 and -1.

    Returns:
        ``sum log P(feasible) + log P(success) + 0.1 mean log variance``, with
        ``CrashAversion``.
    """
    parts = _feasibility(constraints, success)
    return SumOfLogs([WithCuriosity(part, VARIANCE_BONUS / len(parts)) for part in parts])


def _feasibility(
    constraints: Sequence[GPModel], success: GPModel | None
) -> list[MomentAcquisition]:
    parts: list[MomentAcquisition] = [LogProbabilityOfFeasibility(m) for m in constraints]
    if success is not None:
        parts.append(CrashAversion(success))
    return parts
