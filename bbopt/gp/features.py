"""From rows of the unit cube to the rows in which the kernel measures distance.

A continuous or ordered column is one feature. A periodic column is a point on a circle whose
radius makes small distances equal the linear ones. A categorical column with K levels is a
one-hot row divided by sqrt(2), so that two different levels are at distance one. All features
of a column share one length scale; ``group`` says which. Inactive columns of conditional spaces
arrive already at 0.5: the parent's category carries the difference.
"""

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class FeatureColumn(Protocol):
    """What the engine must know of one column of the unit cube (``bbopt.space`` has it)."""

    @property
    def kind(self) -> enum.Enum:
        """A member named ``CONTINUOUS``, ``DISCRETE`` or ``CATEGORICAL``."""
        ...

    @property
    def n_levels(self) -> int:
        """Number of levels; 0 for a continuous column."""
        ...

    @property
    def periodic(self) -> bool:
        """Whether 0 and 1 are the same point."""
        ...


@dataclass(frozen=True, slots=True)
class _Circle:
    column: int
    start: int


@dataclass(frozen=True, slots=True)
class _OneHot:
    column: int
    start: int
    n_levels: int


class FeatureMap:
    """The map from columns to features and the chain rule back."""

    def __init__(self, columns: Sequence[FeatureColumn]) -> None:
        """Lay out the features of every column, in column order.

        Args:
            columns: The columns of the unit cube, at least one.
        """
        plain: list[tuple[int, int]] = []  # (column, feature)
        special: list[_Circle | _OneHot] = []
        group: list[int] = []
        for index, column in enumerate(columns):
            start = len(group)
            if column.kind.name == "CATEGORICAL":
                special.append(_OneHot(index, start, column.n_levels))
                group += [index] * column.n_levels
            elif column.periodic:
                special.append(_Circle(index, start))
                group += [index] * 2
            else:
                plain.append((index, start))
                group.append(index)
        self.n_columns = len(columns)
        """Number of columns, which is also the number of length scales."""
        self.n_features = len(group)
        """Number of features F."""
        self.group = torch.tensor(group, dtype=torch.int64)
        """Index of each feature's column (= length scale), shape ``(F,)``, on the CPU."""
        self._plain = torch.tensor(plain, dtype=torch.int64).reshape(-1, 2).T
        self._plain_on: dict[torch.device, Tensor] = {}
        self._special = tuple(special)

    @property
    def is_identity(self) -> bool:
        """Whether features and columns are the same thing."""
        return not self._special

    def features(self, X: Tensor) -> Tensor:
        """Map rows of the unit cube to feature rows.

        Args:
            X: Shape ``(n, D)``, in ``[0, 1]``.

        Returns:
            Shape ``(n, F)``; ``X`` itself when the map is the identity.
        """
        if self.is_identity:
            return X
        out = X.new_zeros(X.shape[0], self.n_features)
        plain_columns, plain_features = self._indices(X.device)
        out[:, plain_features] = X[:, plain_columns]
        for part in self._special:
            values = X[:, part.column]
            match part:
                case _Circle(start=start):
                    angle = values * (2.0 * math.pi)
                    out[:, start] = torch.cos(angle) / (2.0 * math.pi)
                    out[:, start + 1] = torch.sin(angle) / (2.0 * math.pi)
                case _OneHot(start=start, n_levels=n_levels):
                    level = (values * n_levels).floor().clamp(0, n_levels - 1).to(torch.int64)
                    out.scatter_(1, (start + level)[:, None], math.sqrt(0.5))
        return out

    def pull_back(self, X: Tensor, gradient: Tensor) -> Tensor:
        """Turn a gradient with respect to features into one with respect to columns.

        Args:
            X: The rows at which the gradient was taken, shape ``(n, D)``.
            gradient: Shape ``(n, F)``.

        Returns:
            Shape ``(n, D)``; zero for categorical columns, which have no derivative.
        """
        if self.is_identity:
            return gradient
        out = torch.zeros_like(X)
        plain_columns, plain_features = self._indices(X.device)
        out[:, plain_columns] = gradient[:, plain_features]
        for part in self._special:
            if isinstance(part, _Circle):
                angle = X[:, part.column] * (2.0 * math.pi)
                cosine, sine = torch.cos(angle), torch.sin(angle)
                out[:, part.column] = (
                    cosine * gradient[:, part.start + 1] - sine * gradient[:, part.start]
                )
        return out

    def _indices(self, device: torch.device) -> Tensor:
        """Return the plain columns and their features, ``(2, k)``; sent to a device once."""
        if device.type == "cpu":
            return self._plain
        found = self._plain_on.get(device)
        if found is None:
            found = self._plain_on[device] = self._plain.to(device)
        return found
