"""Whether a device answers an ask faster than the CPU, found out by trying the parts of one."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from bbopt.acquisition import LogExpectedImprovement
from bbopt.gp import GPModel, MapObjective
from bbopt.numerics import FAILURES, stream
from bbopt.numerics.devices import to_host
from bbopt.space import Codec, Float, Space

N_FIT: Final = 8
"""Evaluations of a warm refit, all kernels at once."""
N_CLIMB: Final = 20
"""Evaluations of the ascents of a search."""
N_CLIMBING: Final = 10
"""Rows that climb together."""
N_SCREENED: Final = 512
"""Candidates that a search looks at first."""
N_REPEATED: Final = 3
"""The best of so many counts, after one for what is set up at first use."""
MARGIN: Final = 1.25
"""Times that a device must be faster; a close race is no reason to change the last bits."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall seconds of the parts of an ask."""

    fit_s: float
    """One evaluation of the hyperparameters' log posterior and its gradient."""
    screen_s: float
    """Log expected improvement of 512 rows."""
    climb_s: float
    """Log expected improvement and its gradient at 10 rows."""

    @property
    def ask_s(self) -> float:
        """Roughly of a whole ask with a warm refit."""
        return N_FIT * self.fit_s + self.screen_s + N_CLIMB * self.climb_s


@functools.cache
def _measured(device: torch.device) -> dict[tuple[int, int], bool]:
    """Return what this process has found out about a device."""
    del device
    return {}


def is_faster(device: torch.device, n: int, d: int, *, has_time: bool = True) -> bool:
    """Say whether asks at a size are faster on a device than on the CPU, measured once.

    Args:
        device: Not the CPU.
        n: Results.
        d: Columns.
        has_time: For a measurement, which takes the CPU about as long as an ask.

    Returns:
        ``False`` too if the device cannot do it at all, or there was no time to find out.
    """
    known = _measured(device)
    if has_time and (n, d) not in known:
        known[n, d] = measure(device, n, d)
    return known.get((n, d), False)


def measure(device: torch.device, n: int, d: int) -> bool:
    """Measure whether asks at a size are clearly faster on a device; see ``is_faster``."""
    try:
        there = time_parts(device, n, d)
    except (*FAILURES, RuntimeError):  # Out of memory, or whatever else the driver says.
        return False
    return there.ask_s * MARGIN < time_parts(torch.device("cpu"), n, d).ask_s


def time_parts(device: torch.device, n: int, d: int) -> Timing:
    """Measure the parts of an ask of the default model on some made-up data.

    Args:
        device: Any.
        n: Results.
        d: Columns.
    """
    model, objective = made_up(device, n, d)
    thetas = model.hyperparameters.theta
    acquisition = LogExpectedImprovement(model, model.posterior.y.max())
    rows = stream(1, "device", n, d).random((N_SCREENED, d))
    few = rows[:N_CLIMBING]

    def climb() -> None:
        to_host(*acquisition.value_and_gradient(torch.from_numpy(few).to(device)))

    with torch.inference_mode():
        return Timing(
            best_s(lambda: objective.evaluate(thetas, np.arange(len(thetas)))),
            best_s(lambda: acquisition.value(torch.from_numpy(rows).to(device)).cpu()),
            best_s(climb),
        )


def made_up(device: torch.device, n: int, d: int) -> tuple[GPModel, MapObjective]:
    """Return the default model of some made-up data, and the objective of its fit.

    Args:
        device: Any.
        n: Results.
        d: Columns.
    """
    X = stream(0, "device", n, d).random((n, d))
    columns = Codec(Space(tuple(Float(f"x{i}", 0.0, 1.0) for i in range(d)))).columns
    model = GPModel.restored(columns, X, np.sin(5.0 * X).sum(axis=1), device=device)
    objective = MapObjective(
        torch.from_numpy(X).to(device),
        model.posterior.y,
        kernels=model.settings.kernels,
        priors=model.priors,
        group=model.feature_map.group,
    )
    return model, objective


def best_s(call: Callable[[], object]) -> float:
    """Return the shortest of a few runs; each ends with numbers on the host."""
    call()
    times = []
    for _ in range(N_REPEATED):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
