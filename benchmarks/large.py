"""Asks of the ``gp`` strategy in large studies: time, memory, accuracy, and what they find.

Run ``python -m benchmarks.large``; ``--records`` keeps a line a row. Hartmann-6 with noise of
0.02; 70 % of the points uniform, 30 % round the optimum, as late in a run. The results go into
the log as enqueued trials; then rounds of ask and tell follow, on one thread. Times are CPU
seconds (``time.process_time``): the first ask fits its hyperparameters cold; the median is over
the others, and so is the slowest, which may hold a refit. Memory is what the process grew by.

The second table compares models of the same data with the exact one, at 500 uniform points and
500 near the optimum: root mean squared error in standard deviations of the data, and negative
log predictive density in nats.
"""

import argparse
import math
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray

from bbopt import Optimizer
from bbopt.gp import GPModel, Hyperparameters, mixture_moments
from bbopt.numerics import stream
from bbopt.problems import hartmann6
from bbopt.problems.continuous import HARTMANN_A, HARTMANN_ALPHA, HARTMANN_P
from bbopt.space import Codec
from bbopt.strategies import StrategyContext
from bbopt.strategies.gp_settings import ModelChoices
from bbopt.strategies.gp_surrogates import Surrogates
from bbopt.trial import (
    Columns,
    Completed,
    Enqueued,
    Event,
    Measurement,
    NewTrial,
    Provenance,
    Told,
    Value,
)
from benchmarks.recording import (
    Recorded,
    about_run,
    add_argument,
    fenced,
    open_records,
    show,
    table,
    verdict,
    versions_line,
)

Array = NDArray[np.float64]
NOISE_SD = 0.02
N_ROUNDS = 21
EXACT_UNTIL = 2000
KNOWN = hartmann6()
CODEC = Codec(KNOWN.problem.space)
LIMITS_S = {10_000: 1.0, 100_000: 2.0}
SCREENED, ALONE = "screened by neighbours", "model alone"
CHOSEN = "chosen rows"
Result = TypeVar("Result")
Moments = Callable[[Array], tuple[Array, Array]]


def hartmann(points: Array) -> Array:
    """Return Hartmann-6 without noise, to be minimised, at rows ``(n, 6)``."""
    squared = (points[:, None] - HARTMANN_P) ** 2
    values: Array = -np.exp(-(HARTMANN_A * squared).sum(axis=2)) @ HARTMANN_ALPHA
    return values


def make_points(n: int, *, n_near: int, purpose: str) -> Array:
    """Return uniform points and ``n_near`` points round the optimum, mixed."""
    rng = stream(0, "large", purpose, n)
    optimum = CODEC.encode(KNOWN.optimizer)
    points = rng.random((n, CODEC.dim))
    near = rng.permutation(n)[:n_near]
    points[near] = np.clip(optimum + 0.1 * rng.standard_normal((n_near, CODEC.dim)), 0.0, 1.0)
    return points


def make_events(n: int) -> list[Event]:
    """Return the log of ``n`` enqueued and measured points."""
    points = make_points(n, n_near=round(0.3 * n), purpose="data")
    noise = NOISE_SD * stream(0, "large", "noise", n).standard_normal(n)
    names = [column.name for column in CODEC.columns]
    by_hand = Provenance("enqueued")
    events: list[Event] = []
    for number, (x, y) in enumerate(
        zip(points.tolist(), hartmann(points) + noise, strict=True), 1
    ):
        point = dict(zip(names, x, strict=True))
        outcome = Completed(Measurement({"value": Value(float(y))}))
        events += [Enqueued(NewTrial(number, point, by_hand)), Told(number, outcome)]
    return events


def resident_mib() -> float:
    """Return the resident memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


@dataclass(frozen=True, slots=True)
class Asks:
    """What the asks of one study cost and found."""

    n: int
    search: str
    fold_us: float
    """Per trial: enqueued and told."""
    first_s: float
    rest_s: Sequence[float]
    """Of every later round: the tell before it and the ask."""
    recommend_s: float
    log_mib: float
    asks_mib: float
    regrets: Sequence[float]
    """Noise-free, of every point asked."""

    @property
    def median_s(self) -> float:
        """Of all but the first."""
        return statistics.median(self.rest_s)

    def cells(self) -> list[str]:
        """Return the cells of a table."""
        return [
            str(self.n),
            self.search,
            f"{self.fold_us:.0f}",
            f"{self.first_s:.2f}",
            f"{self.median_s:.3f}",
            f"{max(self.rest_s):.3f}",
            f"{self.recommend_s:.2f}",
            f"{self.log_mib:.0f}",
            f"{self.asks_mib:.0f}",
            f"{statistics.median(self.regrets):.1e}",
            f"{max(self.regrets):.1e}",
        ]


def measure_asks(n: int, search: str, n_rounds: int) -> Asks:
    """Fold a log, then ask and tell."""
    if search == SCREENED:
        return _measure_asks(n, search, n_rounds)
    with without_neighbours():
        return _measure_asks(n, search, n_rounds)


def _measure_asks(n: int, search: str, n_rounds: int) -> Asks:
    start_mib = resident_mib()
    events = make_events(n)
    optimizer = Optimizer(KNOWN.problem, "gp", seed=1)
    start = time.process_time()
    optimizer.fold(events)
    fold_us = (time.process_time() - start) / n * 1e6
    folded_mib = resident_mib()
    times, regrets = [], []
    rng = stream(0, "large", "tells", n)
    outcome: tuple[int, float] | None = None
    for _ in range(n_rounds):
        start = time.process_time()
        if outcome is not None:
            optimizer.tell(*outcome)
        (trial,) = optimizer.ask()
        times.append(time.process_time() - start)
        value = KNOWN.evaluate(trial.parameters)["value"]
        regrets.append(KNOWN.regret(value))
        outcome = (trial.number, value + NOISE_SD * float(rng.standard_normal()))
    start = time.process_time()
    optimizer.recommend()
    return Asks(
        n,
        search,
        fold_us,
        times[0],
        times[1:],
        time.process_time() - start,
        folded_mib - start_mib,
        resident_mib() - folded_mib,
        regrets,
    )


@contextmanager
def without_neighbours() -> Iterator[None]:
    """Search with the model on the chosen rows alone."""
    neighbours = Surrogates.neighbours
    setattr(Surrogates, "neighbours", lambda *_: None)  # noqa: B010 - mypy refuses methods
    try:
        yield
    finally:
        setattr(Surrogates, "neighbours", neighbours)  # noqa: B010


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a model predicts, near the optimum and everywhere."""

    n: int
    model: str
    predict_ms: float
    near: Sequence[float]
    """Root mean squared error, negative log predictive density."""
    anywhere: Sequence[float]

    def cells(self) -> list[str]:
        """Return the cells of a table."""
        both = [f"{e:.4f} / {density:.2f}" for e, density in (self.near, self.anywhere)]
        return [str(self.n), self.model, f"{self.predict_ms:.0f}", *both]


def measure_quality(n: int) -> list[Quality]:
    """Compare the strategy's model, the one on neighbours and, if small, the exact one."""
    columns = Columns(KNOWN.problem, CODEC, make_events(n))
    surrogates = Surrogates(
        StrategyContext(KNOWN.problem, CODEC, columns, 1, "cpu"),
        ModelChoices(),
        torch.device("cpu"),
    )
    model = surrogates.refit()[0]["objective"]
    models: dict[str, Moments] = {CHOSEN: moments_of(model)}
    neighbours = surrogates.neighbours(model)
    if neighbours is not None:

        def given_neighbours(points: Array) -> tuple[Array, Array]:
            features = model.feature_map.features(torch.from_numpy(points))
            mean, variance = neighbours.predict(features)
            shares = neighbours.log_weights.exp().numpy()
            prediction = mixture_moments(model.warp, mean, variance, shares)
            return prediction.mean, prediction.sd

        models["64 neighbours"] = given_neighbours
    if len(columns) <= EXACT_UNTIL:
        theta = model.hyperparameters.theta
        exact = GPModel.restored(
            CODEC.columns,
            columns.X,
            columns.Y[:, 0],
            hyperparameters=Hyperparameters(theta, len(columns)),
            settings=model.settings,
        )
        models["exact"] = moments_of(exact)
    unit = float(columns.Y[:, 0].std())
    return [Quality(n, name, *score(each, unit)) for name, each in models.items()]


def moments_of(model: GPModel) -> Moments:
    """Return a model's mean and standard deviation as a function of rows."""

    def moments(points: Array) -> tuple[Array, Array]:
        prediction = model.predict(points)
        return prediction.mean, prediction.sd

    return moments


def score(moments: Moments, unit: float) -> tuple[float, Sequence[float], Sequence[float]]:
    """Compare predictions with the noise-free function (the model maximises).

    Returns:
        Milliseconds, and error and density near the optimum and anywhere.
    """
    results = []
    start = time.process_time()
    for n_near in (500, 0):
        points = make_points(500, n_near=n_near, purpose=f"test{n_near}")
        mean, sd = moments(points)
        error, sd = (mean + hartmann(points)) / unit, sd / unit
        density = 0.5 * (error / sd) ** 2 + np.log(sd) + 0.5 * math.log(2.0 * math.pi)
        results.append((float(np.sqrt((error**2).mean())), float(density.mean())))
    milliseconds = (time.process_time() - start) * 500.0
    return milliseconds, results[0], results[1]


def apart(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function in a process of its own, whose memory is its alone."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def report(recorded: Recorded) -> list[str]:
    """Lay out the tables and the verdicts, in Markdown."""
    asks = [Asks(**row) for row in recorded.rows if "search" in row]
    asks.sort(key=lambda each: each.n)
    models = [Quality(**row) for row in recorded.rows if "model" in row]
    models.sort(key=lambda each: each.n)
    head = ["n", "search", "fold, us a trial", "first ask, s", "tell + ask, median s"]
    head += ["slowest s", "recommend, s", "log, MiB", "asks, MiB", "median regret", "worst"]
    lines = table(head, (each.cells() for each in asks))
    head = ["n", "model", "predict 500, ms", "near the optimum", "everywhere"]
    lines += ["", *table(head, (each.cells() for each in models))]
    judged = [each for each in asks if each.search == SCREENED and each.n in LIMITS_S]
    lines += fenced(
        verdict(
            each.median_s < LIMITS_S[each.n],
            f"n={each.n}: tell and ask take {each.median_s:.3f} s in the median, wanted less "
            f"than {LIMITS_S[each.n]:g}",
        )
        for each in judged
    )
    return lines + versions_line(recorded)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what has no record and print the report; return 1 if an ask is too slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, nargs="*", default=[2_000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=N_ROUNDS)
    add_argument(parser)
    settings = parser.parse_args(arguments)
    torch.set_num_threads(1)
    recorder = open_records(
        parser, settings.records, about_run("torch", rounds=settings.rounds)
    )
    for n in settings.n:
        for search in (SCREENED, ALONE):
            if not recorder.has(n=n, search=search):
                asks = apart(measure_asks, n, search, settings.rounds)
                recorder.add(asdict(asks))
                print(*asks.cells(), file=sys.stderr, flush=True)
        if not recorder.has(n=n, model=CHOSEN):
            for model in apart(measure_quality, n):
                recorder.add(asdict(model))
    return show(report(recorder.recorded))


if __name__ == "__main__":
    sys.exit(main())
