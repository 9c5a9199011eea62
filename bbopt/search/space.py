"""What a search must know of the space: the part of the codec's interface that it uses."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bbopt.gp import FeatureColumn

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


class SearchColumn(FeatureColumn, Protocol):
    """One column of the unit cube."""

    @property
    def levels(self) -> Sequence[float] | Array:
        """Positions of the levels, ascending; empty for a continuous column."""
        ...


class SearchSpace(Protocol):
    """The codec, as far as a search uses it; all rows are in the unit cube."""

    @property
    def columns(self) -> Sequence[SearchColumn]:
        """The columns."""
        ...

    @property
    def dim(self) -> int:
        """Number of columns D."""
        ...

    @property
    def has_constraints(self) -> bool:
        """Whether some rows are infeasible."""
        ...

    @property
    def is_box(self) -> bool:
        """Whether every row of the cube is canonical and feasible but for rounding."""
        ...

    @property
    def polytope(self) -> object | None:
        """The linear constraints on always-active continuous columns, if there are any."""
        ...

    def snap(self, X: Array) -> Array:
        """Return canonical rows, ``(n, D)``."""
        ...

    def active(self, X: Array) -> Mask:
        """Say which columns of each row are active, ``(n, D)``."""
        ...

    def is_feasible(self, X: Array) -> Mask:
        """Say which canonical rows satisfy the parameter constraints, ``(n,)``."""
        ...

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Draw canonical feasible rows, uniform, ``(n, D)``."""
        ...

    def project(self, X: Array) -> Array:
        """Project continuous columns on the polytope and the cube, ``(n, D)``."""
        ...

    def neighbours(self, x: Array, *, reach: int = 1) -> Array:
        """Return the canonical feasible rows one discrete move away from a row, ``(m, D)``.

        Ordered columns move by 1, 4, 16, ... levels up to ``reach``, both ways.
        """
        ...
