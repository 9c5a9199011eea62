"""A model's kernels conditioned, at every point, on the nearest of *all* observations.

A model of a large study stands on a choice of its rows and is unsure wherever it has few of
them, although others were measured there. Conditioning each point on its own neighbours costs
the same whatever their number, and knows the whole space; but it has no gradient, because the
neighbours change from point to point.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from bbopt.gp.kernels import kernel_value, squared_distances
from bbopt.gp.model import GPModel
from bbopt.numerics.linalg import cholesky

Array = NDArray[np.float64]
N_NEIGHBOURS: Final = 64
CHUNK: Final = 64
"""Points conditioned at once; more only leave the caches."""
MAX_TREE_DIMENSIONS: Final = 12
"""Beyond, a tree looks at nearly every row, and comparing with all of them is faster."""
VARIANCE_FLOOR: Final = 1e-10
"""Of the output scale."""


class NearestRows:
    """Finds the nearest of many rows; some more may be given with each search."""

    def __init__(self, Z: Array) -> None:
        """Prepare for searches.

        Args:
            Z: Rows in which distance is Euclidean, shape ``(n, F)``.
        """
        self._rows = torch.from_numpy(np.ascontiguousarray(Z))
        self._norms = self._rows.square().sum(1)
        is_low = Z.shape[1] <= MAX_TREE_DIMENSIONS
        self._tree = cKDTree(Z) if is_low else None

    def __len__(self) -> int:
        return len(self._rows)

    def search(self, Q: Array, later: Array, n: int) -> NDArray[np.int64]:
        """Return the ``n`` nearest rows of each point.

        Args:
            Q: The points, shape ``(R, F)``.
            later: Rows that came after those of the constructor, shape ``(k, F)``.
            n: At most the number of all rows.

        Returns:
            Row numbers, those of ``later`` after all others, shape ``(R, n)``.
        """
        n_here = min(n, len(self._rows))
        if self._tree is not None:
            distance, found = self._tree.query(Q, k=np.arange(1, n_here + 1))
            squared, index = np.asarray(distance) ** 2, np.asarray(found, dtype=np.int64)
        else:
            parts = [self._compare(part, n_here) for part in torch.from_numpy(Q).split(CHUNK)]
            squared = np.concatenate([part[0] for part in parts])
            index = np.concatenate([part[1] for part in parts])
        if not len(later):
            return index
        more = ((Q[:, None] - later) ** 2).sum(axis=2)
        number = np.broadcast_to(np.arange(len(later)) + len(self._rows), more.shape)
        order = np.argsort(np.concatenate([squared, more], axis=1), axis=1, kind="stable")
        both = np.concatenate([index, number], axis=1)
        nearest: NDArray[np.int64] = np.take_along_axis(both, order[:, :n], axis=1)
        return nearest

    def _compare(self, Q: Tensor, n: int) -> tuple[Array, NDArray[np.int64]]:
        squared = torch.addmm(self._norms[None], Q, self._rows.T, alpha=-2.0)
        values, index = squared.topk(n, dim=1, largest=False)
        values = values + Q.square().sum(1, keepdim=True)
        return values.numpy(), index.numpy()


class NeighbourPosterior:
    """The members of a model worth searching, each point given its nearest observations.

    Source:
        Wu, Pleiss & Cunningham (2022), arXiv:2202.01694, for Gaussian processes on nearest
        neighbours.
    """

    def __init__(
        self,
        model: GPModel,
        features: Array,
        targets: Array,
        *,
        noise_variances: Array | None = None,
        nearest: NearestRows,
    ) -> None:
        """Take the observations as they are.

        Args:
            model: Gives kernels and mean; it must not change while this is in use.
            features: Feature rows of all observations, ``(n, F)``, n >= 1.
            targets: In standardized units, ``(n,)``.
            noise_variances: Known variance of each target, ``(n,)``; ``None`` is zero.
            nearest: Over the first rows of ``features`` times ``scales_of(model)``.
        """
        posterior, self.log_weights, self.kept = model.searchable()
        members = posterior.members
        self._kernels = members.kernels
        self._scales = members.inverse_scales[:, 0].cpu()  # (E, F)
        self._variance = members.output_scale.cpu()
        self._noise = (members.noise + posterior.jitter).cpu()
        self._mean = posterior.mean_constant.cpu()
        self._features = torch.from_numpy(np.ascontiguousarray(features))
        self._targets = torch.from_numpy(np.ascontiguousarray(targets))
        known = np.zeros(len(targets)) if noise_variances is None else noise_variances
        self._known = torch.from_numpy(known)
        self._nearest = nearest
        self._metric = scales_of(model)

    def predict(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the latent mean and variance in standardized units, each ``(E, R)``.

        Args:
            features: Feature rows on the CPU, shape ``(R, F)``.
        """
        n_first = len(self._nearest)
        later = (self._features[n_first:].numpy()) * self._metric
        index = self._nearest.search(
            features.numpy() * self._metric, later, min(N_NEIGHBOURS, len(self._targets))
        )
        parts = [
            self._condition(part, torch.from_numpy(rows.astype(np.int64)))
            for part, rows in zip(
                features.split(CHUNK),
                np.split(index, range(CHUNK, len(index), CHUNK)),
                strict=True,
            )
        ]
        return torch.cat([part[0] for part in parts], 1), torch.cat([p[1] for p in parts], 1)

    def _condition(self, features: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        # Relative to the point: rounding in the distances is then as small as they are.
        around = self._features[index] - features[:, None]  # (R, m, F)
        targets, known = self._targets[index], self._known[index]
        means, variances = [], []
        for member, kernel in enumerate(self._kernels):
            scale = self._variance[member]
            z = around * self._scales[member]
            matrix = kernel_value(kernel, squared_distances(z, z)).mul_(scale)
            matrix.diagonal(dim1=-2, dim2=-1).copy_(scale + self._noise[member] + known)
            k = kernel_value(kernel, z.square().sum(-1)).mul_(scale)
            pair = torch.stack([k, targets - self._mean[member]], dim=-1)
            lower = cholesky(matrix).lower
            whitened = torch.linalg.solve_triangular(lower, pair, upper=False)
            means.append(self._mean[member] + (whitened[..., 0] * whitened[..., 1]).sum(-1))
            left = scale - whitened[..., 0].square().sum(-1)
            variances.append(torch.maximum(left, VARIANCE_FLOOR * scale))
        return torch.stack(means), torch.stack(variances)


def scales_of(model: GPModel) -> Array:
    """Return what feature rows are multiplied by before distances are taken, ``(F,)``: the
    inverse length scales of the heaviest kernel.
    """
    heaviest = int(np.argmax(model.weights))
    scales: Array = model.posterior.members.inverse_scales[heaviest, 0].cpu().numpy()
    return scales
