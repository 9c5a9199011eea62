"""Large batches in a large study: the ``gp`` strategy beside a TuRBO loop of BoTorch.

Run ``python -m benchmarks.turbo``; BoTorch must be installed. Batches of 50 until 5,000 points
are evaluated, three seeds, one thread, CPU seconds (``time.process_time``). The problem is
Ackley's function in ten dimensions on the box of BoTorch's TuRBO tutorial, with the optimum
moved to a random place (uniform over the middle three fifths of the box, one for each seed, the
same for both): no design that favours the centre or the middle of a side has an advantage.

Every finished run is a line of ``--records``; one that was broken off starts again.
``--problem`` names others, on which the strategy was checked.
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Final

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray

from bbopt import Optimizer
from bbopt.numerics import stream
from bbopt.problem import Metric, Problem
from bbopt.space import Float, Space
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
Function = Callable[[Array], Array]
"""From rows of the unit cube, ``(n, D)``, to values to be minimised, ``(n,)``; least value 0
(or, where no formula says, close to it)."""
DIM: Final = 10
MIDDLE: Final = 0.6
"""Part of each side in which the optimum may lie."""
N_WAVES: Final = 512
MARKS: Final = (500, 1000, 2000, 3000, 5000)
"""Evaluations at which the report looks."""


def optimum(seed: int, name: str) -> Array:
    """Return where the optimum of a problem lies for a seed, ``(D,)``."""
    place: Array = 0.5 + MIDDLE * (stream(seed, "turbo", name).random(DIM) - 0.5)
    return place


def make_ackley(seed: int) -> Function:
    """Return Ackley's function, box of width 15."""
    place = optimum(seed, "ackley10")

    def ackley(points: Array) -> Array:
        z = 15.0 * (points - place)
        radius = np.sqrt((z * z).mean(axis=1))
        waves = np.cos(2.0 * math.pi * z).mean(axis=1)
        values: Array = -20.0 * np.exp(-0.2 * radius) - np.exp(waves) + 20.0 + math.e
        return values

    return ackley


def make_levy(seed: int) -> Function:
    """Return Levy's function, box of width 20."""
    place = optimum(seed, "levy10")

    def levy(points: Array) -> Array:
        w = 1.0 + 5.0 * (points - place)
        first = np.sin(math.pi * w[:, 0]) ** 2
        inner = w[:, :-1]
        waves = 1.0 + 10.0 * np.sin(math.pi * inner + 1.0) ** 2
        last = w[:, -1]
        end = (last - 1.0) ** 2 * (1.0 + np.sin(2.0 * math.pi * last) ** 2)
        values: Array = first + ((inner - 1.0) ** 2 * waves).sum(axis=1) + end
        return values

    return levy


def make_rosenbrock(seed: int) -> Function:
    """Return Rosenbrock's function turned in space, box of width 4."""
    place = optimum(seed, "rosenbrock10")
    rotation, _ = np.linalg.qr(stream(seed, "turbo", "rotation").standard_normal((DIM, DIM)))

    def rosenbrock(points: Array) -> Array:
        z = 1.0 + 4.0 * (points - place) @ rotation
        valley = 100.0 * (z[:, 1:] - z[:, :-1] ** 2) ** 2
        values: Array = (valley + (1.0 - z[:, :-1]) ** 2).sum(axis=1)
        return values

    return rosenbrock


def make_random_waves(seed: int) -> Function:
    """Return a draw from a Gaussian process with a squared exponential kernel.

    Its least value is not known: regret is against -5 standard deviations.
    """
    rng = stream(seed, "turbo", "waves")
    frequencies = rng.standard_normal((DIM, N_WAVES)) / 0.5
    phases = 2.0 * math.pi * rng.random(N_WAVES)
    weights = rng.standard_normal(N_WAVES) * math.sqrt(2.0 / N_WAVES)

    def random_waves(points: Array) -> Array:
        values: Array = np.cos(points @ frequencies + phases) @ weights + 5.0
        return values

    return random_waves


PROBLEMS: Final[dict[str, Callable[[int], Function]]] = {
    "ackley10": make_ackley,
    "levy10": make_levy,
    "rosenbrock10": make_rosenbrock,
    "waves10": make_random_waves,
}


@dataclass(frozen=True, slots=True)
class Run:
    """One study."""

    problem: str
    method: str
    seed: int
    regrets: Sequence[float]
    """Of the best so far, after each batch."""
    cpu_s: Sequence[float]
    """Of asking and telling each batch."""

    def cells(self, q: int, marks: Sequence[int]) -> list[str]:
        """Return the cells of a table."""
        at = [self.regrets[math.ceil(mark / q) - 1] for mark in marks]
        return [
            self.problem,
            self.method,
            str(self.seed),
            *(f"{regret:.2e}" for regret in at),
            f"{sum(self.cpu_s):.0f}",
            f"{max(self.cpu_s):.1f}",
        ]


def turbo_rounds(function: Function, seed: int, q: int) -> Iterator[tuple[Array, str]]:
    """Yield the values of TuRBO's batches and what it says of itself."""
    from benchmarks.turbo_loop import TurboLoop  # It needs BoTorch, a report does not.

    loop = TurboLoop(DIM, q, seed)
    while True:
        points = loop.ask()
        values = function(points)
        loop.tell(points, -values)
        yield values, f"length {loop.length:.4f}, {loop.n_restarts} restarts"


def our_rounds(function: Function, seed: int, q: int) -> Iterator[tuple[Array, str]]:
    """Yield the values of the strategy's batches."""
    names = [f"x{index}" for index in range(DIM)]
    space = Space(tuple(Float(name, 0.0, 1.0) for name in names))
    optimizer = Optimizer(Problem(space, (Metric.parse("-value"),)), "gp", seed)
    while True:
        trials = optimizer.ask(q)
        points = np.array(
            [[float(trial.parameters[name]) for name in names] for trial in trials]
        )
        values = function(points)
        for trial, value in zip(trials, values.tolist(), strict=True):
            optimizer.tell(trial, value)
        counts: dict[str, int] = {}
        for trial in trials:
            text = f"{trial.provenance.generator} {trial.provenance.reason}".strip()
            counts[text] = counts.get(text, 0) + 1
        yield values, ", ".join(f"{count} {text}" for text, count in counts.items())


METHODS: Final = {"gp": our_rounds, "turbo": turbo_rounds}


def run(problem: str, method: str, seed: int, *, q: int, n: int) -> Run:
    """Run one study; what its rounds say goes to standard error."""
    rounds = METHODS[method](PROBLEMS[problem](seed), seed, q)
    regrets: list[float] = []
    spent_s: list[float] = []
    for n_done in range(q, n + q, q):
        start = time.process_time()
        values, note = next(rounds)
        spent_s.append(time.process_time() - start)
        regrets.append(min([*regrets[-1:], float(values.min())]))
        print(problem, method, seed, n_done, regrets[-1], note, file=sys.stderr, flush=True)
    return Run(problem, method, seed, regrets, spent_s)


def report(recorded: Recorded) -> list[str]:
    """Lay out regrets on the way and CPU time, and the verdicts, in Markdown."""
    q, n = (recorded.about["settings"][name] for name in ("q", "n"))
    runs = [Run(**row) for row in recorded.rows]
    runs.sort(key=lambda each: (each.problem, each.method, each.seed))
    marks = [mark for mark in MARKS if mark <= n]
    head = ["problem", "method", "seed", *(f"at {mark}" for mark in marks)]
    lines = table([*head, "CPU s", "slowest round, s"], (each.cells(q, marks) for each in runs))
    verdicts = (_judge(runs, problem) for problem in dict.fromkeys(r.problem for r in runs))
    return [*lines, *fenced(filter(None, verdicts)), *versions_line(recorded)]


def _judge(runs: Sequence[Run], problem: str) -> str | None:
    """Compare the medians at the end, where both methods were run."""
    last = {
        method: [r.regrets[-1] for r in runs if (r.problem, r.method) == (problem, method)]
        for method in METHODS
    }
    if not all(last.values()):
        return None
    ours, theirs = (statistics.median(last[method]) for method in ("gp", "turbo"))
    text = f"{problem}: median final regret {ours:.3g}, wanted at most TuRBO's {theirs:.3g}"
    return verdict(ours <= theirs, text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, print the report; return 1 if our median is worse at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problem", choices=sorted(PROBLEMS), default="ackley10")
    parser.add_argument("--method", choices=METHODS, action="append")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--n", type=int, default=5000)
    parser.add_argument("--q", type=int, default=50)
    add_argument(parser, Path("turbo.jsonl"))
    settings = parser.parse_args(arguments)
    torch.set_num_threads(1)
    about = about_run("torch", "botorch", "gpytorch", q=settings.q, n=settings.n)
    recorder = open_records(parser, settings.records, about)
    problem = settings.problem
    for method, seed in product(settings.method or METHODS, settings.seeds):
        if not recorder.has(problem=problem, method=method, seed=seed):
            done = run(problem, method, seed, q=settings.q, n=settings.n)
            recorder.add(asdict(done))
    return show(report(recorder.recorded))


if __name__ == "__main__":
    sys.exit(main())
