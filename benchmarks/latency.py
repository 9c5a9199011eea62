"""CPU time of one ask, on one thread, beside BoTorch and Optuna's GPSampler in the same run.

Run ``python -m benchmarks.latency``. BoTorch and Optuna are optional; what is not installed is
left out. All numbers are CPU milliseconds (``time.process_time``), because wall time on a
shared machine measures the neighbours.

The data: 70 % uniform points and 30 % around the best of them, as in the middle of a run. Each
tool then goes through consecutive ask-tell rounds; the first one, which starts cold, is
reported as such and left out of the mean. Ours refits by its own schedule (every tell up to 200
results, then after 2 % growth), so that its mean at 500 holds one refit in ten asks; the column
"with refit" is an ask that refits.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray

from bbopt import Optimizer
from bbopt.acquisition import LogExpectedImprovement, incumbent_value
from bbopt.gp import GPModel
from bbopt.numerics import stream
from bbopt.problems import KnownProblem, hartmann6, levy
from bbopt.search import Found, SearchSettings, maximise
from bbopt.space import Codec, Float

Array = NDArray[np.float64]
NEEDED_SPEED_UP = 3.0
CHECKED = (100, 500)
N_OURS = 11
N_THEIRS = 4


@dataclass(frozen=True, slots=True)
class Timing:
    """CPU milliseconds; NaN where a tool does not tell its parts apart."""

    tool: str
    n: int
    d: int
    fit: float
    search: float
    cold: float
    ask: float
    with_refit: float

    def row(self) -> str:
        """Return a line of the table."""
        cells = (self.fit, self.search, self.with_refit, self.ask, self.cold)
        numbers = " | ".join("" if np.isnan(cell) else f"{cell:.1f}" for cell in cells)
        return f"| {self.d} | {self.n} | {self.tool} | {numbers} |"


@dataclass(frozen=True, slots=True)
class Data:
    """Points in the unit cube with their values, higher is better."""

    known: KnownProblem
    codec: Codec
    X: Array
    y: Array

    def value(self, x: Array) -> float:
        """Measure one row."""
        return -self.known.evaluate(self.codec.decode(x))["value"]


def make_data(known: KnownProblem, n: int) -> Data:
    """Sample ``n`` points of a minimised problem, a third of them near the best others."""
    codec = Codec(known.problem.space)
    rng = stream(0, "latency", known.name, n)
    n_uniform = round(0.7 * n)
    uniform = codec.sample(rng, n_uniform)
    values = [-known.evaluate(codec.decode(x))["value"] for x in uniform]
    best = uniform[int(np.argmax(values))]
    near = codec.snap(
        np.clip(best + 0.1 * rng.standard_normal((n - n_uniform, codec.dim)), 0, 1)
    )
    values += [-known.evaluate(codec.decode(x))["value"] for x in near]
    order = rng.permutation(n)
    return Data(known, codec, np.concatenate([uniform, near])[order], np.array(values)[order])


def cpu_ms(call: Callable[[], object]) -> float:
    """Return how much CPU time a call takes, in milliseconds."""
    start = time.process_time()
    call()
    return (time.process_time() - start) * 1e3


def time_bbopt(data: Data) -> Timing:
    """Time ``Optimizer.ask`` and, by themselves, a warm refit and a search."""
    optimizer = Optimizer(data.known.problem, "gp", seed=1)
    for x, y in zip(data.X, data.y, strict=True):
        trial = optimizer.enqueue(data.codec.decode(x))
        optimizer.ask()
        optimizer.tell(trial, -y)
    asks = []
    for _ in range(N_OURS):
        asks.append(cpu_ms(optimizer.ask))
        trial = optimizer.trials[len(optimizer.trials)]
        optimizer.tell(trial, data.known.evaluate(trial.parameters))
    fit, search = _time_parts(data)
    return Timing(
        "bbopt",
        len(data.y),
        data.codec.dim,
        fit,
        search,
        asks[0],
        statistics.fmean(asks[1:]),
        fit + search,
    )


def _time_parts(data: Data) -> tuple[float, float]:
    """Time a warm refit after one more row, and the search that follows."""
    model = GPModel(data.codec.columns)
    # Not across a multiple of ten, where a fit starts cold as well.
    model.observe(data.X[:-5], data.y[:-5])
    model.refit()
    fits = []
    for row in range(len(data.y) - 5, len(data.y) - 1):
        model.observe(data.X[row], data.y[row])
        fits.append(cpu_ms(model.refit))
    fit = statistics.fmean(fits)
    optima = data.X[:0]
    times = []
    for repeat in range(4):
        rng = stream(1, repeat)
        incumbents = model.X[np.argsort(-model.y)[:5]]
        start = time.process_time()
        acquisition = LogExpectedImprovement(model, incumbent_value(model, is_noisy=True))
        found = maximise(
            acquisition,
            data.codec,
            rng,
            incumbents=incumbents,
            taken=model.X,
            warm_starts=optima if len(optima) else None,
            length_scales=model.length_scales,
            settings=SearchSettings.small() if len(optima) else SearchSettings(),
        )
        times.append((time.process_time() - start) * 1e3)
        if not isinstance(found, Found):
            raise TypeError("a box cannot be exhausted")
        optima = found.optima[:3]
    return fit, statistics.median(times[1:])


def time_botorch(data: Data) -> Timing | None:
    """Time the textbook loop: a new ``SingleTaskGP``, its fit, ``optimize_acqf`` on LogEI."""
    try:
        from botorch.acquisition.analytic import LogExpectedImprovement as BotorchLogEI
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from botorch.optim.optimize import optimize_acqf
        from gpytorch.mlls import ExactMarginalLogLikelihood
    except ImportError:
        return None
    torch.manual_seed(0)
    x, y = torch.from_numpy(data.X), torch.from_numpy(data.y)[:, None]
    bounds = torch.stack([torch.zeros(x.shape[1]), torch.ones(x.shape[1])]).to(x)
    fits, searches = [], []
    for _ in range(2 if len(y) >= 500 else N_THEIRS):
        model = SingleTaskGP(x, y)
        likelihood = ExactMarginalLogLikelihood(model.likelihood, model)
        fits.append(cpu_ms(partial(fit_gpytorch_mll, likelihood)))
        acquisition = BotorchLogEI(model, best_f=y.max())
        searches.append(
            cpu_ms(
                partial(
                    optimize_acqf,
                    acquisition,
                    bounds=bounds,
                    q=1,
                    num_restarts=10,
                    raw_samples=512,
                )
            )
        )
    fit, search = statistics.fmean(fits[1:]), statistics.fmean(searches[1:])
    cold = fits[0] + searches[0]
    return Timing("BoTorch", len(y), x.shape[1], fit, search, cold, fit + search, fit + search)


def time_optuna(data: Data) -> Timing | None:
    """Time ``Study.ask`` with ``GPSampler``, results told in between."""
    try:
        import optuna
    except ImportError:
        return None
    import warnings

    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = {
        parameter.name: optuna.distributions.FloatDistribution(parameter.low, parameter.high)
        for parameter in data.known.problem.space.parameters
        if isinstance(parameter, Float)
    }
    study = optuna.create_study(sampler=optuna.samplers.GPSampler(seed=0))
    study.add_trials(
        [
            optuna.trial.create_trial(
                params=data.codec.decode(x), distributions=space, value=-float(y)
            )
            for x, y in zip(data.X, data.y, strict=True)
        ]
    )
    asks = []
    for _ in range(N_THEIRS):
        start = time.process_time()
        trial = study.ask(space)
        asks.append((time.process_time() - start) * 1e3)
        study.tell(trial, data.known.evaluate(trial.params)["value"])
    nan, mean = float("nan"), statistics.fmean(asks[1:])
    return Timing(
        "Optuna GPSampler", len(data.y), data.codec.dim, nan, nan, asks[0], mean, mean
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if a speed-up is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, nargs="*", default=[20, 50, 100, 200, 500])
    parser.add_argument("--d", type=int, nargs="*", default=[6, 20])
    settings = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print("| d | n | tool | fit | search | ask with refit | ask, mean | first ask, cold |")
    print("|---|---|---|---|---|---|---|---|")
    lines = []
    for d in settings.d:
        known = hartmann6() if d == 6 else levy(d)
        for n in settings.n:
            data = make_data(known, n)
            ours = time_bbopt(data)
            print(ours.row(), flush=True)
            for theirs in (time_botorch(data), time_optuna(data)):
                if theirs is None:
                    continue
                print(theirs.row(), flush=True)
                if n in CHECKED and theirs.tool.startswith("Optuna"):
                    lines.append((d, n, theirs.ask / ours.ask, theirs.ask / ours.with_refit))
    for d, n, mean, refit in lines:
        verdict = "PASS" if mean >= NEEDED_SPEED_UP else "MISS"
        print(
            f"{verdict} d={d} n={n}: {mean:.1f} times faster than Optuna's GPSampler "
            f"(an ask that refits: {refit:.1f} times)"
        )
    if not lines:
        print("Optuna is not installed: nothing to compare with")
    return 0 if all(mean >= NEEDED_SPEED_UP for _, _, mean, _ in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
