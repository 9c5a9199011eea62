"""What all acquisitions over an ensemble share: mixing members, bounded memory, the
incumbent, and what noise leaves of an improvement.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from bbopt.gp import GPModel
from bbopt.numerics import logsumexp_with_weights
from bbopt.numerics.elementwise import Values

CHUNK_ENTRIES: Final = 2**22
"""Largest number of covariances evaluated at once (32 MiB each of a few temporaries)."""


def mix(log_values: Values, log_weights: Values) -> tuple[Values, Values]:
    """Return the log of the weighted mean over members, and each member's share in it.

    Args:
        log_values: Shape ``(E, n)``.
        log_weights: Shape ``(E,)``, the logarithm of weights that sum to one.

    Returns:
        The log mean, ``(n,)``, and the shares, ``(E, n)``, summing to one over members.
    """
    if isinstance(log_values, Tensor):
        if len(log_values) == 1:
            return log_values[0], torch.ones_like(log_values)
        return logsumexp_with_weights(log_values + log_weights[:, None], 0)
    if len(log_values) == 1:
        return log_values[0], np.ones_like(log_values)
    weighted = log_values + log_weights[:, None]
    top = weighted.max(axis=0)
    terms = np.exp(weighted - top)
    total = terms.sum(axis=0)
    return top + np.log(total), terms / total


def value_in_chunks(value: Callable[[Tensor], Tensor], X: Tensor, *, n_per_row: int) -> Tensor:
    """Evaluate many rows without letting temporaries grow beyond some tens of megabytes.

    Args:
        value: Maps rows ``(k, D)`` to ``(k,)``.
        X: Shape ``(n, D)``.
        n_per_row: Numbers that one row needs, usually ``posterior.n_covariances``.

    Returns:
        Shape ``(n,)``.
    """
    size = max(64, CHUNK_ENTRIES // max(1, n_per_row))
    if len(X) <= size:
        return value(X)
    return torch.cat([value(part) for part in X.split(size)])


def per_member(best: Tensor | float, model: GPModel, kept: Sequence[int]) -> Tensor:
    """Return the incumbent of each kernel that a search looks at.

    Args:
        best: In standardized units, ``(E,)`` or one number for all.
        model: Whose kernels.
        kept: Numbers of the kernels, E' of them.

    Returns:
        Shape ``(E',)``, on the model's device.
    """
    values = torch.as_tensor(best, dtype=torch.float64, device=model.device)
    of_all = values.expand(len(model.weights))
    # Not by a list of indices, which a device would have to be sent first.
    return torch.stack([of_all[e] for e in kept])


def log_augmentation(variance: Values, noise: Tensor) -> tuple[Values, Values]:
    """Return the log of what noise leaves of an improvement, and its derivative by variance.

    ``1 - sd_noise / sqrt(variance + noise)`` is one where the posterior is much less sure than
    a measurement, and near nothing where another measurement would hardly be news.

    Args:
        variance: Of the posterior, positive, shape ``(E, n)``.
        noise: Of a measurement, shape ``(E, 1)``.

    Source:
        Huang, Allen, Notz & Zeng (2006), "Global Optimization of Stochastic Black-Box Systems
        via Sequential Kriging Meta-Models".
    """
    if not isinstance(variance, Tensor):
        value, slope = log_augmentation(torch.from_numpy(variance), noise)
        return value.numpy(), slope.numpy()
    total = variance + noise
    share = (noise / total).sqrt()
    # 1 - share is variance / total / (1 + share), without the difference of near equals.
    value = variance.log() - total.log() - share.log1p()
    slope = noise / (variance * total) + 0.5 * share / (total * (1.0 + share))
    return value, slope


def incumbent_value(model: GPModel, *, is_noisy: bool) -> Tensor:
    """Return what an improvement is measured from, in standardized units, per kernel.

    Args:
        model: The objective's model, with at least one observation.
        is_noisy: Noise-free: the best value seen. Noisy: each kernel's highest posterior mean
            over the evaluated points, because the best value seen is partly luck.

    Returns:
        Shape ``(E,)``.
    """
    if model.n == 0:
        raise ValueError("there is no incumbent before the first observation")
    if is_noisy:
        return model.fitted_means().amax(dim=1)
    return model.posterior.y.max().expand(len(model.weights))
