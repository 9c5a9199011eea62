"""Sample efficiency of the default strategy: simple regret on known problems, with pass lines.

Run ``python -m benchmarks.regret``; ``--records`` keeps a line a problem. Ten fixed seeds a
problem; nothing in the library is tuned to a problem or a seed. Metrics are declared as a user
who declares nothing gets them: noise of unknown level.
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Final

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

SEEDS = tuple(range(10))


@dataclass(frozen=True, slots=True)
class Goal:
    """A problem, a budget, and what must be reached."""

    make: Callable[[], KnownProblem]
    n_trials: int
    limit: str
    is_reached: Callable[[float, float], bool]
    """Maps the median regrets of the strategy and of random search to the verdict."""


GOALS: Final[Mapping[str, Goal]] = {
    "branin": Goal(branin, 60, "< 1e-3", lambda ours, _: ours < 1e-3),
    "hartmann6": Goal(hartmann6, 60, "< 0.15", lambda ours, _: ours < 0.15),
    "levy8": Goal(
        partial(levy, 8), 60, "<= 40 % of random", lambda ours, chance: ours <= 0.4 * chance
    ),
    "constrained_gramacy": Goal(
        constrained_gramacy, 40, "<= 2 % of optimum", lambda ours, _: ours <= 0.02 * 0.5998
    ),
    "mixed_conditional": Goal(
        mixed_conditional, 40, "< random", lambda ours, chance: ours < chance
    ),
}
"""By the name of the problem."""


@dataclass(frozen=True, slots=True)
class Row:
    """The regrets of one problem, by seed; ``None`` where nothing feasible was found."""

    problem: str
    n_trials: int
    gp: Sequence[float | None]
    random: Sequence[float | None]
    ask_ms: float
    """Mean CPU milliseconds of an ask of ``gp``."""

    @property
    def medians(self) -> tuple[float, float]:
        """Of ``gp`` and of random search."""
        return statistics.median(_regrets(self.gp)), statistics.median(_regrets(self.random))

    def cells(self) -> list[str]:
        """Return the cells of a table."""
        ours, chance = self.medians
        low, _, high = statistics.quantiles(_regrets(self.gp), n=4)
        return [
            self.problem,
            str(self.n_trials),
            f"{ours:.3g}",
            f"{low:.3g} to {high:.3g}",
            f"{max(_regrets(self.gp)):.3g}",
            f"{chance:.3g}",
            f"{self.ask_ms:.0f}",
        ]

    def verdict(self) -> str:
        """Say whether the goal of the problem is reached."""
        goal = GOALS[self.problem]
        text = f"{self.problem}: median {self.medians[0]:.3g}, wanted {goal.limit}"
        return verdict(goal.is_reached(*self.medians), text)


def _regrets(kept: Sequence[float | None]) -> list[float]:
    return [math.inf if regret is None else regret for regret in kept]


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


def measure(name: str, n_processes: int) -> Row:
    """Run all seeds of a problem with both strategies."""
    goal = GOALS[name]
    task = partial(simple_regret, goal, "gp")
    if n_processes == 1:
        runs = [task(seed) for seed in SEEDS]
    else:
        with ProcessPoolExecutor(n_processes) as pool:
            runs = list(pool.map(task, SEEDS))
    chance = [simple_regret(goal, "random", seed)[0] for seed in SEEDS]
    ask_ms = 1e3 * statistics.fmean(spent_s for _, spent_s in runs)
    ours, theirs = (
        [regret if math.isfinite(regret) else None for regret in regrets]
        for regrets in ([regret for regret, _ in runs], chance)
    )
    return Row(name, goal.n_trials, ours, theirs, ask_ms)


def report(recorded: Recorded) -> list[str]:
    """Lay out the table and the verdicts, in Markdown."""
    by_name = {row["problem"]: Row(**row) for row in recorded.rows}
    rows = [by_name[name] for name in GOALS if name in by_name]
    head = ["problem", "trials", "gp median", "gp quartiles", "gp worst", "random median"]
    lines = table([*head, "ms/ask"], (row.cells() for row in rows))
    lines += fenced(row.verdict() for row in rows)
    return lines + versions_line(recorded)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what has no record and print the report; return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--problem", action="append", choices=GOALS, help="only this one; may be repeated"
    )
    parser.add_argument("--processes", type=int, default=1)
    add_argument(parser)
    settings = parser.parse_args(arguments)
    recorder = open_records(parser, settings.records, about_run("torch"))
    for name in settings.problem or GOALS:
        if not recorder.has(problem=name):
            row = measure(name, settings.processes)
            recorder.add(asdict(row))
            print(row.verdict(), file=sys.stderr, flush=True)
    return show(report(recorder.recorded))


if __name__ == "__main__":
    sys.exit(main())
