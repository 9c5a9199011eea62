"""Large batches in a large study: the ``gp`` strategy beside a TuRBO loop of BoTorch.

Run ``python -m benchmarks.turbo``; BoTorch must be installed. Batches of 50 until 5,000 points
are evaluated, three seeds, one thread, CPU seconds (``time.process_time``). The problem is
Ackley's function in ten dimensions on the box of BoTorch's TuRBO tutorial, with the optimum
moved to a random place (uniform over the middle three fifths of the box, one for each seed, the
same for both): no design that favours the centre or the middle of a side has an advantage.

Every finished round is a line of ``--out``; a run that was broken off starts again, finished
ones are only read. ``--problem`` names others, on which the strategy was checked.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
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
from benchmarks.turbo_loop import TurboLoop

Array = NDArray[np.float64]
Function = Callable[[Array], Array]
"""From rows of the unit cube, ``(n, D)``, to values to be minimised, ``(n,)``; least value 0
(or, where no formula says, close to it)."""
DIM: Final = 10
MIDDLE: Final = 0.6
"""Part of each side in which the optimum may lie."""
N_WAVES: Final = 512


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
class Round:
    """One batch asked, evaluated and told."""

    problem: str
    method: str
    seed: int
    q: int
    n: int
    """Evaluations so far."""
    regret: float
    """Of the best so far."""
    batch_regret: float
    """Of the best of this batch."""
    cpu_s: float
    """Of this round's ask and tell."""
    note: str


def turbo_rounds(function: Function, seed: int, q: int) -> Iterator[tuple[Array, str]]:
    """Yield the values of TuRBO's batches and what it says of itself."""
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


METHODS: Final = {"turbo": turbo_rounds, "gp": our_rounds}


def run(problem: str, method: str, seed: int, q: int, n: int) -> Iterator[Round]:
    """Run one study and yield its rounds."""
    torch.set_num_threads(1)
    rounds = METHODS[method](PROBLEMS[problem](seed), seed, q)
    best, n_done = math.inf, 0
    while n_done < n:
        start = time.process_time()
        values, note = next(rounds)
        spent_s = time.process_time() - start
        n_done += len(values)
        best = min(best, float(values.min()))
        yield Round(problem, method, seed, q, n_done, best, float(values.min()), spent_s, note)


def read_runs(path: Path) -> dict[tuple[str, str, int, int], list[Round]]:
    """Read what was recorded; of a run that was started again, the last start counts."""
    runs: dict[tuple[str, str, int, int], list[Round]] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            each = Round(**json.loads(line))
            key = (each.problem, each.method, each.seed, each.q)
            earlier = runs.get(key, [])
            runs[key] = [*earlier, each] if earlier and each.n > earlier[-1].n else [each]
    return runs


def table(runs: dict[tuple[str, str, int, int], list[Round]], n: int) -> list[str]:
    """Return the lines of the report: regret on the way, at the end, and CPU time."""
    marks = [mark for mark in (500, 1000, 2000, 3000, 5000) if mark <= n]
    lines = [
        f"| problem | method | seed | {' | '.join(f'at {m}' for m in marks)} "
        "| CPU s | slowest round, s |",
        "|---|---|---|" + "---|" * (len(marks) + 2),
    ]
    for (problem, method, seed, _), rounds in sorted(runs.items()):
        if rounds[-1].n < n:
            continue
        at = [next(each.regret for each in rounds if each.n >= mark) for mark in marks]
        times = [each.cpu_s for each in rounds if each.n <= n]
        cells = [f"{regret:.2e}" for regret in at] + [f"{sum(times):.0f}", f"{max(times):.1f}"]
        lines.append(f"| {problem} | {method} | {seed} | {' | '.join(cells)} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, print the table; return 1 if our median is worse at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("turbo.jsonl"))
    parser.add_argument("--problem", choices=sorted(PROBLEMS), default="ackley10")
    parser.add_argument("--method", choices=sorted(METHODS), action="append")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--n", type=int, default=5000)
    parser.add_argument("--q", type=int, default=50)
    settings = parser.parse_args(arguments)
    for method in settings.method or sorted(METHODS):
        for seed in settings.seeds:
            key = (settings.problem, method, seed, settings.q)
            done = read_runs(settings.out).get(key, [])
            if done and done[-1].n >= settings.n:
                continue
            for each in run(*key[:3], settings.q, settings.n):
                with settings.out.open("a") as file:
                    file.write(json.dumps(asdict(each)) + "\n")
                print(each, file=sys.stderr, flush=True)
    runs = {
        key: rounds
        for key, rounds in read_runs(settings.out).items()
        if key[0] == settings.problem and key[2] in settings.seeds and key[3] == settings.q
    }
    print("\n".join(table(runs, settings.n)))
    final = {
        method: statistics.median(
            next(each.regret for each in rounds if each.n >= settings.n)
            for key, rounds in runs.items()
            if key[1] == method and rounds[-1].n >= settings.n
        )
        for method in METHODS
        if any(key[1] == method and rounds[-1].n >= settings.n for key, rounds in runs.items())
    }
    print("median final regrets: " + ", ".join(f"{m} {r:.3g}" for m, r in final.items()))
    return 1 if final.get("gp", 0.0) > final.get("turbo", math.inf) else 0


if __name__ == "__main__":
    sys.exit(main())
