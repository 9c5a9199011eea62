"""Small stand-ins for the codec, written out so that a test can count every row."""

import enum
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Kind(enum.Enum):
    CONTINUOUS = "continuous"
    DISCRETE = "discrete"
    CATEGORICAL = "categorical"


@dataclass(frozen=True)
class FakeColumn:
    kind: Kind = Kind.CONTINUOUS
    n_levels: int = 0
    periodic: bool = False

    @property
    def levels(self) -> Array:
        return (np.arange(self.n_levels) + 0.5) / max(self.n_levels, 1)


def continuous(*, periodic: bool = False) -> FakeColumn:
    return FakeColumn(periodic=periodic)


def ordered(n_levels: int) -> FakeColumn:
    return FakeColumn(Kind.DISCRETE, n_levels)


def categorical(n_levels: int) -> FakeColumn:
    return FakeColumn(Kind.CATEGORICAL, n_levels)


@dataclass
class FakeSpace:
    """A box of columns; ``child`` is only active where ``parent`` is at its first level."""

    columns: tuple[FakeColumn, ...]
    parent: int | None = None
    child: int | None = None
    halfspaces: list[tuple[Array, float]] = field(default_factory=list)
    equality: tuple[Array, float] | None = None
    forbidden_ball: tuple[Array, float] | None = None

    @property
    def dim(self) -> int:
        return len(self.columns)

    @property
    def polytope(self) -> object | None:
        return self.halfspaces or self.equality or None

    @property
    def has_constraints(self) -> bool:
        return self.polytope is not None or self.forbidden_ball is not None

    @property
    def is_box(self) -> bool:
        is_continuous = all(column.n_levels == 0 for column in self.columns)
        return is_continuous and self.child is None and not self.has_constraints

    def snap(self, X: Array) -> Array:
        out = np.clip(np.array(X, dtype=np.float64), 0.0, 1.0)
        for j, column in enumerate(self.columns):
            if column.n_levels:
                level = np.clip(np.floor(out[:, j] * column.n_levels), 0, column.n_levels - 1)
                out[:, j] = (level + 0.5) / column.n_levels
        return np.where(self.active(out), out, 0.5)

    def active(self, X: Array) -> NDArray[np.bool_]:
        out = np.ones(X.shape, dtype=np.bool_)
        if self.parent is not None and self.child is not None:
            n_levels = self.columns[self.parent].n_levels
            out[:, self.child] = X[:, self.parent] < 1.0 / n_levels
        return out

    def is_feasible(self, X: Array) -> NDArray[np.bool_]:
        out = np.ones(len(X), dtype=np.bool_)
        for normal, offset in self.halfspaces:
            out &= X @ normal <= offset + 1e-9
        if self.equality is not None:
            out &= np.abs(X @ self.equality[0] - self.equality[1]) <= 1e-9
        if self.forbidden_ball is not None:
            center, radius = self.forbidden_ball
            out &= ((X - center) ** 2).sum(1) >= radius**2
        return out

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        rows = np.empty((0, self.dim))
        while len(rows) < n:
            drawn = self.snap(self.project(rng.random((2 * n, self.dim))))
            rows = np.concatenate([rows, drawn[self.is_feasible(drawn)]])
        return rows[:n]

    def project(self, X: Array) -> Array:
        """Dykstra's algorithm over the cube, the halfspaces and the equality."""
        x = np.array(X, dtype=np.float64)
        if self.polytope is None:
            return np.clip(x, 0.0, 1.0)
        corrections = np.zeros((len(self.halfspaces) + 2, *x.shape))
        for _ in range(300):
            for i in range(len(corrections)):
                shifted = x + corrections[i]
                x = self._onto(i, shifted)
                corrections[i] = shifted - x
        return x

    def _onto(self, i: int, v: Array) -> Array:
        """Project on one of the sets."""
        if i == 0:
            return np.clip(v, 0.0, 1.0)
        if i <= len(self.halfspaces):
            normal, offset = self.halfspaces[i - 1]
            excess = np.maximum(v @ normal - offset, 0.0)
        elif self.equality is not None:
            normal, offset = self.equality
            excess = v @ normal - offset
        else:
            return v
        return np.asarray(v - excess[:, None] * normal / (normal @ normal))

    def neighbours(self, x: Array, *, reach: int = 1) -> Array:
        rows = []
        for j, column in enumerate(self.columns):
            if not column.n_levels:
                continue
            level = round(x[j] * column.n_levels - 0.5)
            if column.kind is Kind.CATEGORICAL:
                others = [k for k in range(column.n_levels) if k != level]
            else:
                strides = [4**k for k in range(8) if 4**k <= reach]
                moves = [level + sign * stride for stride in strides for sign in (-1, 1)]
                others = [k for k in moves if 0 <= k < column.n_levels]
            for other in others:
                row = x.copy()
                row[j] = (other + 0.5) / column.n_levels
                rows.append(row)
        out = self.snap(np.array(rows).reshape(-1, self.dim))
        return out[self.is_feasible(out)]
