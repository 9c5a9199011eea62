"""Sample efficiency of the default strategy: simple regret on known problems, with pass lines.

Run ``python -m benchmarks.regret``. Ten fixed seeds a problem; nothing in the library is tuned
to a problem or a seed. Metrics are declared as a user who declares nothing gets them: noise of
unknown level.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from bbopt import Optimizer
from bbopt.problems import (
    KnownProblem,
    branin,
    constrained_gramacy,
    hartmann6,
    levy,
    mixed_conditional,
)

SEEDS = tuple(range(10))


@dataclass(frozen=True, slots=True)
class Goal:
    """A problem, a budget, and what must be reached."""

    make: Callable[[], KnownProblem]
    n_trials: int
    limit: str
    is_reached: Callable[[float, float], bool]
    """Maps the median regrets of the strategy and of random search to the verdict."""


GOALS = (
    Goal(branin, 60, "< 1e-3", lambda ours, _: ours < 1e-3),
    Goal(hartmann6, 60, "< 0.15", lambda ours, _: ours < 0.15),
    Goal(partial(levy, 8), 60, "<= 40 % of random", lambda ours, chance: ours <= 0.4 * chance),
    Goal(constrained_gramacy, 40, "<= 2 % of optimum", lambda ours, _: ours <= 0.02 * 0.5998),
    Goal(mixed_conditional, 40, "< random", lambda ours, chance: ours < chance),
)


def simple_regret(goal: Goal, strategy: str, seed: int) -> tuple[float, float]:
    """Run one study.

    Returns:
        The regret of the best measured feasible value (the worst possible, infinity, if none),
        and CPU seconds per ask.
    """
    torch.set_num_threads(1)
    known = goal.make()
    optimizer = Optimizer(known.problem, strategy, seed)
    spent_s = 0.0
    for _ in range(goal.n_trials):
        start = time.process_time()
        (trial,) = optimizer.ask()
        spent_s += time.process_time() - start
        optimizer.tell(trial, known.evaluate(trial.parameters))
    best = optimizer.best()
    if best is None:
        return float("inf"), spent_s / goal.n_trials
    value = known.evaluate(best.parameters)[known.problem.objective.name]
    return known.regret(value), spent_s / goal.n_trials


def measure(goal: Goal, strategy: str, n_processes: int) -> tuple[list[float], float]:
    """Return the regrets of all seeds, sorted, and mean CPU seconds per ask."""
    runs: list[tuple[float, float]] = []
    task = partial(simple_regret, goal, strategy)
    if n_processes == 1:
        runs = [task(seed) for seed in SEEDS]
    else:
        with ProcessPoolExecutor(n_processes) as pool:
            runs = list(pool.map(task, SEEDS))
    return sorted(regret for regret, _ in runs), statistics.fmean(s for _, s in runs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problem", action="append", help="only this one; may be repeated")
    parser.add_argument("--processes", type=int, default=1)
    settings = parser.parse_args(arguments)
    print("| problem | trials | gp median | gp quartiles | gp worst | random median | ms/ask |")
    print("|---|---|---|---|---|---|---|")
    lines = []
    for goal in GOALS:
        name = goal.make().name
        if settings.problem and name not in settings.problem:
            continue
        ours, ask_s = measure(goal, "gp", settings.processes)
        chance, _ = measure(goal, "random", 1)
        low, median, high = statistics.quantiles(ours, n=4)
        median = statistics.median(ours)
        print(
            f"| {name} | {goal.n_trials} | {median:.3g} | {low:.3g} to {high:.3g} "
            f"| {ours[-1]:.3g} | {statistics.median(chance):.3g} | {ask_s * 1e3:.0f} |",
            flush=True,
        )
        is_reached = goal.is_reached(median, statistics.median(chance))
        lines.append((is_reached, f"{name}: median {median:.3g}, wanted {goal.limit}"))
    for is_reached, line in lines:
        print("PASS" if is_reached else "MISS", line)
    return 0 if all(is_reached for is_reached, _ in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
