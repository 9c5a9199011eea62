"""Warm refits of several models over the same rows, as one program.

A study with constraints refits a model of each metric after every result. While results are
few, a fit takes as long as its operations take to begin, and these are then begun once.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bbopt.gp.fit import fit_warm_together
from bbopt.gp.model import LEAVE_OUT_BEHIND, GPModel
from bbopt.numerics import FAILURES

Array = NDArray[np.float64]
TOGETHER_UNTIL: Final = 100
"""Rows from which arithmetic is most of a fit, and its matrices of several models no longer
fit into caches."""


def fit_together(models: Sequence[GPModel]) -> list[Array | None]:
    """Find new hyperparameters of models for which a warm refit is due.

    Args:
        models: Of any metrics.

    Returns:
        Of each what to give to ``refit``; ``None`` where that should fit by itself: a cold
        start or no refit is due, no other model is like it, or a fit failed.
    """
    found: list[Array | None] = [None] * len(models)
    waiting = [index for index, model in enumerate(models) if _is_joinable(model)]
    while waiting:
        first = models[waiting[0]]
        group = [index for index in waiting if _are_alike(first, models[index])]
        waiting = [index for index in waiting if index not in group]
        if len(group) > 1:
            for index, theta in zip(group, _fit([models[i] for i in group]), strict=True):
                found[index] = theta
    return found


def _is_joinable(model: GPModel) -> bool:
    is_small = model.n <= TOGETHER_UNTIL and model.device.type == "cpu"
    return is_small and model.is_refit_due and not model.is_cold_refit_due


def _are_alike(a: GPModel, b: GPModel) -> bool:
    return (
        a.priors == b.priors and a.settings.fit == b.settings.fit and np.array_equal(a.X, b.X)
    )


def _fit(models: Sequence[GPModel]) -> Sequence[Array | None]:
    try:
        return fit_warm_together(
            [model.objective() for model in models],
            models[0].priors,
            [model.hyperparameters.theta for model in models],
            leave_out_behind=LEAVE_OUT_BEHIND,
            settings=models[0].settings.fit,
        )
    except FAILURES:
        return [None] * len(models)
