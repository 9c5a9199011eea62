"""Uniform points of a polytope by random walks along random lines.

Equalities, stated or implied, are taken out first by moving in their null space; the body is
then made round, so that few steps are enough to forget where a walk began.

Source: R. L. Smith, "Efficient Monte Carlo procedures for generating points uniformly
distributed over bounded regions" (1984).
"""

import numpy as np
from numpy.typing import NDArray

from bbopt.errors import EmptyFeasibleSetError
from bbopt.space.grid import FloatArray
from bbopt.space.polytope import Polytope

N_WALKS = 128
"""Walks side by side; more draws than this are later points of the same walks."""
N_ROUNDINGS = 4
MOST_STEPS = 200
"""Between two points that count as independent. Enough for about 100 dimensions; beyond,
draws lean towards where the walks began.
"""
FLAT = 1e-9
"""A body thinner than this in some direction has none of it there."""


class HitAndRun:
    """Walks in ``{x in [0, 1]^d : A x <= b, E x == e}``.

    Args:
        polytope: Restricted to the columns that take part.

    Raises:
        EmptyFeasibleSetError: There is no such point.
    """

    def __init__(self, polytope: Polytope) -> None:
        dim = polytope.A.shape[1]
        A = np.concatenate([polytope.A, np.eye(dim), -np.eye(dim)])
        b = np.concatenate([polytope.b, np.ones(dim), np.zeros(dim)])
        E, e = polytope.E, polytope.e
        centre, radius = chebyshev_centre(A, b, E, e)
        if radius < FLAT:
            tight = _implied_equalities(A, b, E, e)
            E, e = np.concatenate([E, A[tight]]), np.concatenate([e, b[tight]])
            A, b = A[~tight], b[~tight]
            centre, _ = chebyshev_centre(A, b, E, e)
        self._centre = centre
        self._directions = _null_space(E)  # (d, k)
        G = A @ self._directions
        moving = np.linalg.norm(G, axis=1) > FLAT
        self._G, self._h = G[moving], (b - A @ centre)[moving]
        self._walks = self._warm_up()

    @property
    def n_free(self) -> int:
        """Dimension of the body."""
        return int(self._directions.shape[1])

    def draw(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Return ``n`` points ``(n, d)``."""
        z = self._walks[rng.integers(len(self._walks), size=min(n, N_WALKS))]
        n_steps = min(10 + 2 * self.n_free, MOST_STEPS)
        points = []
        for _ in range(0, n, N_WALKS):
            z = self._walked(z, rng, n_steps)
            points.append(z)
        z = np.concatenate([*points, np.empty((0, self.n_free))])[:n]
        return np.clip(self._centre + z @ self._directions.T, 0.0, 1.0)

    def _warm_up(self) -> FloatArray:
        """Make the body round and spread walks over it; returns their ends ``(w, k)``."""
        rng = np.random.Generator(np.random.Philox(key=0))
        z = np.zeros((N_WALKS, self.n_free))
        if self.n_free == 0:
            return z
        n_steps = min(20 + self.n_free, MOST_STEPS)
        for _ in range(N_ROUNDINGS):
            z = self._walked(z, rng, n_steps)
            cloud = [z]
            while len(cloud) * N_WALKS < 4 * self.n_free:
                cloud.append(self._walked(cloud[-1], rng, 10))
            spread = np.cov(np.concatenate(cloud), rowvar=False)
            values, vectors = np.linalg.eigh(spread.reshape(self.n_free, self.n_free))
            stretch = vectors * np.sqrt(np.maximum(values, 1e-12 * values.max()))
            self._directions = self._directions @ stretch
            self._G = self._G @ stretch
            z = np.linalg.solve(stretch, cloud[-1].T).T
        # Once, and long: draws start from these ends and inherit how evenly they are spread.
        return self._walked(z, rng, min(100 + self.n_free**2, 5 * MOST_STEPS))

    def _walked(self, z: FloatArray, rng: np.random.Generator, n_steps: int) -> FloatArray:
        """Take steps: each to a uniform point of the chord along a random direction."""
        z = z.copy()
        for step in range(n_steps if self.n_free else 0):
            if step % 64 == 0:  # Carried along otherwise; rounding adds up.
                slack = np.maximum(self._h - z @ self._G.T, 0.0)  # (n, m)
            direction = rng.standard_normal(z.shape)
            direction /= np.linalg.norm(direction, axis=1, keepdims=True)
            rate = direction @ self._G.T
            with np.errstate(divide="ignore", invalid="ignore"):
                reach = slack / rate
            forward = np.where(rate > 0.0, reach, np.inf).min(axis=1)
            backward = np.where(rate < 0.0, reach, -np.inf).max(axis=1)
            t = backward + (forward - backward) * rng.random(len(z))
            z += t[:, None] * direction
            slack = np.maximum(slack - t[:, None] * rate, 0.0)
        return z


def chebyshev_centre(
    A: FloatArray, b: FloatArray, E: FloatArray, e: FloatArray
) -> tuple[FloatArray, float]:
    """Find the centre and radius of the largest ball (within ``E x == e``).

    Raises:
        EmptyFeasibleSetError: No point satisfies the constraints.
    """
    from scipy.optimize import linprog

    dim = A.shape[1]
    directions = _null_space(E)
    norms = np.linalg.norm(A @ directions, axis=1)
    answer = linprog(
        np.append(np.zeros(dim), -1.0),
        A_ub=np.column_stack([A, norms]),
        b_ub=b,
        A_eq=np.column_stack([E, np.zeros(len(E))]) if len(E) else None,
        b_eq=e if len(E) else None,
        bounds=[(None, None)] * dim + [(0.0, 1.0)],
    )
    if not answer.success:
        raise EmptyFeasibleSetError("no point satisfies the linear constraints")
    return np.asarray(answer.x[:dim], dtype=np.float64), float(answer.x[dim])


def _implied_equalities(
    A: FloatArray, b: FloatArray, E: FloatArray, e: FloatArray
) -> NDArray[np.bool_]:
    """Find the inequalities that can only hold as equalities, ``(m,)`` bool."""
    from scipy.optimize import linprog

    slackest = [
        linprog(
            row,
            A_ub=A,
            b_ub=b,
            A_eq=E if len(E) else None,
            b_eq=e if len(E) else None,
            bounds=[(None, None)] * A.shape[1],
        ).fun
        for row in A
    ]
    return np.asarray(b - np.asarray(slackest) < FLAT)


def _null_space(E: FloatArray) -> FloatArray:
    """Return an orthonormal basis ``(d, k)`` of the directions that leave ``E x`` alone."""
    if len(E) == 0:
        return np.eye(E.shape[1])
    _, values, vectors = np.linalg.svd(E)
    rank = int((values > 1e-10 * max(values.max(initial=0.0), 1e-300)).sum())
    return np.asarray(vectors[rank:].T)
