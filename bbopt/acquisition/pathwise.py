"""Functions drawn from a model's posterior, and batches chosen by what they say jointly.

A drawn function can be evaluated and differentiated anywhere at a cost linear in the number of
observations: a random sum of waves drawn from the prior, plus a correction that takes it
through the (noisy) observations. Many of them are a sample of everything that may be true, so
that a batch of any size is chosen without conditioning on its points one after the other.
"""

from dataclasses import dataclass
from typing import Final, assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbopt.gp import GPModel, Kernel, Posterior
from bbopt.gp.kernels import kernel_value_and_derivative, squared_distances

Array = NDArray[np.float64]
N_WAVES: Final = 512
"""Frequencies of a kernel; each gives a sine and a cosine."""
MATERN52_FREEDOM: Final = 5.0
"""Degrees of freedom of the Student t distribution of that kernel's frequencies."""
LOOKED_AT: Final = 64
"""Candidates whose gains are renewed at once."""
CHUNK_ENTRIES: Final = 2**21


class SamplePaths:
    """``P`` functions drawn from a model's posterior, without noise, in standardized units.

    Source:
        Wilson et al. (2020), arXiv:2002.09309 (pathwise conditioning); Rahimi & Recht (2007)
        for the waves.
    """

    def __init__(self, model: GPModel, n_paths: int, *, rng: np.random.Generator) -> None:
        """Draw the functions.

        Args:
            model: With at least one observation; it must not change while this is in use.
            n_paths: How many; kernels get as many as their weights say.
            rng: The only source of randomness.
        """
        posterior, log_weights, _ = model.searchable()
        self._map, self.device = model.feature_map, model.device
        self.n_paths = n_paths
        counts = _apportion(log_weights.exp().cpu().numpy(), n_paths)
        self._first = np.concatenate([[0], np.cumsum(counts)])
        self._members = [
            _MemberPaths(posterior, member, count, rng) for member, count in enumerate(counts)
        ]

    def values(self, X: Tensor) -> Tensor:
        """Evaluate every function at rows of shape ``(n, D)``; returns ``(P, n)``."""
        features = self._map.features(X)
        size = max(64, CHUNK_ENTRIES // max(1, self._members[0].n_terms))
        parts = [
            torch.cat([member.values(part) for member in self._members if member.n_paths])
            for part in features.split(size)
        ]
        return torch.cat(parts, 1)

    def value_and_gradient(self, X: Tensor, path: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        """Evaluate and differentiate one function at each row.

        Args:
            X: Rows of the unit cube, shape ``(n, D)``.
            path: The number of each row's function, shape ``(n,)``.

        Returns:
            Values ``(n,)`` and gradients ``(n, D)``; zero for categorical columns.
        """
        features = self._map.features(X)
        value = X.new_empty(len(X))
        gradient = torch.empty_like(features)
        owner = np.searchsorted(self._first, path, side="right") - 1
        for index in np.unique(owner):
            rows = torch.from_numpy(np.flatnonzero(owner == index)).to(self.device)
            own = torch.from_numpy(path[owner == index] - self._first[index]).to(self.device)
            member = self._members[index]
            value[rows], gradient[rows] = member.combination(
                member.terms(features[rows]), member.weights_of(own)
            )
        return value, self._map.pull_back(X, gradient)

    def improvement(self, X: Tensor, current: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean improvement over what each function has, and its gradient.

        Args:
            X: Rows of the unit cube, shape ``(n, D)``.
            current: What is to be improved upon under each function, shape ``(P,)``.

        Returns:
            ``mean_p max(0, f_p(x) - current_p)``, ``(n,)``, and gradients, ``(n, D)``.
        """
        features = self._map.features(X)
        value = X.new_zeros(len(X))
        gradient = torch.zeros_like(features)
        for member, start in zip(self._members, self._first, strict=False):
            if not member.n_paths:
                continue
            terms = member.terms(features)
            excess = member.values_of(terms) - current[start : start + member.n_paths]
            share = (excess > 0.0).to(excess.dtype) / self.n_paths  # (n, P)
            value += (excess * share).sum(-1)
            _, slope = member.combination(terms, member.mixed_weights(share))
            gradient += slope
        return value, self._map.pull_back(X, gradient)


@dataclass(frozen=True, slots=True)
class _Terms:
    """What functions of one kernel are sums of, at n points."""

    z: Tensor
    """Scaled feature rows, ``(n, F)``."""
    cosine: Tensor
    sine: Tensor
    """Of the waves, ``(n, N_WAVES)``."""
    covariance: Tensor
    derivative: Tensor
    """Of the observations with the points, and ``dk/ds``, ``(n, N)``."""


class _MemberPaths:
    """The functions drawn from one kernel."""

    @torch.inference_mode()
    def __init__(
        self, posterior: Posterior, member: int, n_paths: int, rng: np.random.Generator
    ) -> None:
        members = posterior.members
        self.n_paths = n_paths
        self._kernel = members.kernels[member]
        self._inverse_scales = members.inverse_scales[member]  # (1, F)
        self._scale = members.output_scale[member]
        self._constant = posterior.mean_constant[member]
        self._rows = posterior.scaled_rows[member]  # (n, F)
        self._norms = self._rows.square().sum(-1)
        like = self._rows
        self._waves = _tensor(_frequencies(self._kernel, like.shape[1], rng), like)
        weights = rng.standard_normal((2 * N_WAVES, n_paths))
        self._weights = _tensor(weights, like) * (self._scale / N_WAVES).sqrt()
        self.n_terms = posterior.n + 2 * N_WAVES
        noise = posterior.noise_variances[member]
        drawn_noise = _tensor(rng.standard_normal((posterior.n, n_paths)), like)
        drawn = self._prior(self._rows) + noise.sqrt()[:, None] * drawn_noise  # (n, P)
        residual = (posterior.y - self._constant)[:, None] - drawn
        inverse = posterior.inverse_factor[member]
        self._alphas = inverse.mT @ (inverse @ residual)  # (n, P)

    def _prior(self, z: Tensor) -> Tensor:
        angle = z @ self._waves.mT
        return torch.cat([angle.cos(), angle.sin()], -1) @ self._weights

    def values(self, features: Tensor) -> Tensor:
        """Evaluate all functions, ``(P, n)``."""
        return self.values_of(self.terms(features)).mT

    def terms(self, features: Tensor) -> _Terms:
        """Return what all functions are sums of."""
        z = features * self._inverse_scales
        angle = z @ self._waves.mT
        s = squared_distances(z, self._rows, b_norms=self._norms)
        k, derivative = kernel_value_and_derivative(self._kernel, s, scale=self._scale)
        return _Terms(z, angle.cos(), angle.sin(), k, derivative)

    def values_of(self, terms: _Terms) -> Tensor:
        """Return all functions, ``(n, P)``."""
        waves = torch.cat([terms.cosine, terms.sine], -1) @ self._weights
        return waves.addmm_(terms.covariance, self._alphas).add_(self._constant)

    def weights_of(self, path: Tensor) -> tuple[Tensor, Tensor]:
        """Return one function for each point: weights of waves and of observations."""
        return self._weights.mT[path], self._alphas.mT[path]

    def mixed_weights(self, share: Tensor) -> tuple[Tensor, Tensor]:
        """Return a weighted sum of the functions for each point; ``share`` is ``(n, P)``."""
        return share @ self._weights.mT, share @ self._alphas.mT

    def combination(
        self, terms: _Terms, weights: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Evaluate one function at each point, with gradients with respect to features."""
        of_waves, of_rows = weights
        by_cosine, by_sine = of_waves[:, :N_WAVES], of_waves[:, N_WAVES:]
        value = (by_cosine * terms.cosine + by_sine * terms.sine).sum(-1)
        value += (terms.covariance * of_rows).sum(-1) + self._constant
        slope = (by_sine * terms.cosine - by_cosine * terms.sine) @ self._waves
        pull = terms.derivative * of_rows * 2.0
        slope += terms.z * pull.sum(-1, keepdim=True) - pull @ self._rows
        return value, slope * self._inverse_scales


class JointChoice:
    """Chooses candidates greedily by their joint expected improvement over a sample of worlds.

    The points of a longer batch begin with those of a shorter one.
    """

    def __init__(
        self, values: Array, base: Array, *, is_possible: NDArray[np.bool_] | None = None
    ) -> None:
        """Start a batch.

        Args:
            values: What each world says of each candidate, shape ``(S, R)``.
            base: What is to be improved upon in each world, shape ``(S,)``.
            is_possible: Whether the candidate is feasible in that world, shape ``(S, R)``; one
                that is not improves nothing there. ``None``: all are.
        """
        worth = values
        if is_possible is not None:
            # No better than the worst: such a point may be had when nothing else is left.
            worth = np.where(is_possible, values, min(values.min(), base.min()))
        self._worth = np.ascontiguousarray(worth.T)  # (R, S)
        self._means = worth.mean(axis=0)
        self._is_left = np.ones(values.shape[1], dtype=np.bool_)
        self._gains = np.full(values.shape[1], np.inf)
        self.current = base.copy()
        """The best that each world has so far, shape ``(S,)``."""

    def best(self, n: int) -> list[tuple[int, float]]:
        """Return up to ``n`` candidates that are left and add most, with what they add.

        Where nothing adds anything, those with the highest means.
        """
        # A gain only ever falls as the batch grows: those last seen low need no second look.
        order = np.lexsort((-self._means, -self._gains))
        order = order[self._is_left[order]]
        for first in range(0, len(order), LOOKED_AT):
            some = order[first : first + LOOKED_AT]
            excess = self._worth[some] - self.current
            self._gains[some] = np.maximum(excess, 0.0).mean(axis=1)
            rest = order[first + LOOKED_AT : first + LOOKED_AT + 1]
            fresh = order[: first + LOOKED_AT]
            ranked = fresh[np.lexsort((-self._means[fresh], -self._gains[fresh]))][:n]
            is_sure = len(ranked) == n and bool(
                (self._gains[rest] < self._gains[ranked[-1]]).all()
            )
            if is_sure or not len(rest):
                return [(int(index), float(self._gains[index])) for index in ranked]
        return []

    def take(self, index: int, values: Array | None = None) -> None:
        """Put a candidate into the batch, or a point found near it.

        Args:
            index: The candidate.
            values: Of the point that is taken in its place, in each world, shape ``(S,)``.
        """
        self._is_left[index] = False
        worth = self._worth[index] if values is None else values
        self.current = np.maximum(self.current, worth)


def _frequencies(kernel: Kernel, n_features: int, rng: np.random.Generator) -> Array:
    """Draw from a kernel's spectral density, for unit length scale, ``(N_WAVES, F)``."""
    normal = rng.standard_normal((N_WAVES, n_features))
    match kernel:
        case Kernel.RBF:
            return normal
        case Kernel.MATERN52:
            square = rng.chisquare(MATERN52_FREEDOM, size=(N_WAVES, 1))
            drawn: Array = normal * np.sqrt(MATERN52_FREEDOM / square)
            return drawn
        case _:
            assert_never(kernel)


def _apportion(shares: Array, n: int) -> list[int]:
    """Divide ``n`` by shares that sum to one; the largest remainders get what is left."""
    exact = shares * n
    counts = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: n - int(counts.sum())]] += 1
    return [int(count) for count in counts]


def _tensor(array: Array, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(like.device)
