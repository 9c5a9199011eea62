"""Inverse Hessian approximations for many independent minimisations at once.

Row r belongs to restart r. Dense BFGS costs ``d^2`` per row and step and wants d <= 60; above
that the limited-memory form keeps eight pairs.
"""

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
EVERY: Final = slice(None)
"""All rows; nothing is copied, as it would be for an index."""
MEMORY: Final = 8
"""Pairs kept by the limited-memory form; more than ten has never paid on these surfaces."""
CURVATURE_FLOOR: Final = 1e-10
"""Smallest cosine between step and gradient change that counts as positive curvature."""


def dot(a: Array, b: Array) -> Array:
    """Return the scalar products of corresponding rows, ``(R,)``."""
    product: Array = np.add.reduce(a * b, axis=1)
    return product


class Curvature(Protocol):
    """What is known of one Hessian per row."""

    is_fresh: Mask
    """Rows that still have no curvature information, ``(R,)``."""

    def solve(self, gradient: Array, is_blocked: Mask) -> Array:
        """Return the step to where the gradient vanishes, with its sign turned, ``(R, d)``.

        Args:
            gradient: Zero in blocked columns, shape ``(R, d)``.
            is_blocked: Columns that must not move; what is returned for them is of no use.
        """
        ...

    def update(self, rows: Index | slice, step: Array, change: Array) -> None:
        """Take accepted steps and gradient changes of some rows, each ``(k, d)``."""
        ...

    def reset(self, rows: Index | slice) -> None:
        """Forget what some rows have learned."""
        ...

    def keep(self, rows: Mask) -> None:
        """Drop all other rows."""
        ...


class DenseHessian:
    """Full BFGS matrices, ``(R, d, d)``: not inverted, so that columns at a bound can be left
    out.
    """

    def __init__(self, n_rows: int, dimension: int, hessian: Array | None = None) -> None:
        """Start every row at the identity, or at a positive definite matrix of its own."""
        if hessian is None:
            self._b = np.broadcast_to(np.eye(dimension), (n_rows, dimension, dimension)).copy()
        else:
            self._b = hessian.copy()
        self._identity = np.eye(dimension, dtype=np.bool_)
        self.is_fresh = np.full(n_rows, hessian is None)

    def solve(self, gradient: Array, is_blocked: Mask) -> Array:
        """Solve among the columns that may move."""
        matrix = self._b
        if is_blocked.any():
            matrix = matrix.copy()
            matrix[is_blocked[:, :, None] | is_blocked[:, None, :]] = 0.0
            matrix[is_blocked[:, :, None] & self._identity] = 1.0
        solved = np.linalg.solve(matrix, gradient[:, :, None])[:, :, 0]
        return np.asarray(solved, dtype=np.float64)

    def replace(self, rows: Index | slice, hessian: Array) -> None:
        """Take new matrices of some rows, ``(k, d, d)``."""
        self._b[rows] = hessian
        self.is_fresh[rows] = False

    def update(self, rows: Index | slice, step: Array, change: Array) -> None:
        """Apply the BFGS formula where curvature is positive."""
        rows, step, change, product = _with_positive_curvature(rows, step, change)
        if not len(step):
            return
        b = self._b[rows]
        fresh = self.is_fresh[rows]
        if fresh.any():
            size = dot(change, change) / product
            b = np.where(fresh[:, None, None], size[:, None, None] * self._identity, b)
        bent = np.matmul(b, step[:, :, None])[:, :, 0]
        bent /= np.sqrt(dot(step, bent))[:, None]
        change = change / np.sqrt(product)[:, None]
        b += change[:, :, None] * change[:, None, :]
        b -= bent[:, :, None] * bent[:, None, :]
        self._b[rows] = b
        self.is_fresh[rows] = False

    def reset(self, rows: Index | slice) -> None:
        """Return some rows to the identity."""
        self._b[rows] = self._identity
        self.is_fresh[rows] = True

    def keep(self, rows: Mask) -> None:
        """Drop all other rows."""
        self._b, self.is_fresh = self._b[rows], self.is_fresh[rows]


class LimitedMemoryInverse:
    """The last eight pairs of every row; products by the two-loop recursion.

    Source:
        Nocedal & Wright (2006), Numerical Optimization, algorithm 7.4.
    """

    def __init__(self, n_rows: int, dimension: int) -> None:
        """Start every row without pairs."""
        self._steps = np.zeros((MEMORY, n_rows, dimension))
        self._changes = np.zeros((MEMORY, n_rows, dimension))
        self._rho = np.zeros((MEMORY, n_rows))  # zero makes an empty slot do nothing
        self._gamma = np.ones(n_rows)
        self.is_fresh = np.ones(n_rows, dtype=np.bool_)

    def solve(self, gradient: Array, is_blocked: Mask) -> Array:
        """Multiply every row's implicit inverse with its gradient; keep blocked columns."""
        q = gradient.copy()
        coefficients = []
        for step, change, rho in zip(self._steps, self._changes, self._rho, strict=True):
            coefficient = rho * dot(step, q)
            q -= coefficient[:, None] * change
            coefficients.append(coefficient)
        q *= self._gamma[:, None]
        for slot in reversed(range(MEMORY)):
            correction = self._rho[slot] * (self._changes[slot] * q).sum(1)
            q += (coefficients[slot] - correction)[:, None] * self._steps[slot]
        q[is_blocked] = 0.0
        return q

    def update(self, rows: Index | slice, step: Array, change: Array) -> None:
        """Push pairs of positive curvature; slot 0 is the newest."""
        rows, step, change, product = _with_positive_curvature(rows, step, change)
        if not len(step):
            return
        for store, new in ((self._steps, step), (self._changes, change)):
            store[1:, rows] = store[:-1, rows]
            store[0, rows] = new
        self._rho[1:, rows] = self._rho[:-1, rows]
        self._rho[0, rows] = 1.0 / product
        self._gamma[rows] = product / np.maximum(dot(change, change), 1e-300)
        self.is_fresh[rows] = False

    def reset(self, rows: Index | slice) -> None:
        """Forget the pairs of some rows."""
        self._rho[:, rows] = 0.0
        self._gamma[rows] = 1.0
        self.is_fresh[rows] = True

    def keep(self, rows: Mask) -> None:
        """Drop all other rows."""
        self._steps, self._changes = self._steps[:, rows], self._changes[:, rows]
        self._rho, self._gamma = self._rho[:, rows], self._gamma[rows]
        self.is_fresh = self.is_fresh[rows]


def _with_positive_curvature(
    rows: Index | slice, step: Array, change: Array
) -> tuple[Index | slice, Array, Array, Array]:
    product = dot(step, change)
    size = np.sqrt(dot(step, step) * dot(change, change))
    good = product > CURVATURE_FLOOR * size
    if good.all():
        return rows, step, change, product
    rows = np.nonzero(good)[0] if isinstance(rows, slice) else rows[good]
    return rows, step[good], change[good], product[good]
