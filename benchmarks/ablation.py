"""What each choice of the engine is worth: the default strategy with one choice taken back.

Run ``python -m benchmarks.ablation``. It runs what is missing in ``--records`` (JSON lines, one
a study, so that an interrupted run goes on where it was), one process a study with one BLAS
thread, and prints a Markdown table. The functions are those of ``benchmarks.heldout``: none of
the choices was made on them. A run with a choice and the run without it share the seed, which
is the function's as well.
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from scipy.stats import binomtest

import bbopt
from bbopt.gp import Kernel, LearnedNoise, WarpKind
from bbopt.problem import Noise
from bbopt.specs import GPSpec, Quality
from bbopt.strategies import registry
from bbopt.strategies.gp_search import GPSearch
from bbopt.strategies.gp_settings import CHOICES, GPChoices
from bbopt.trial import Value
from benchmarks import heldout
from benchmarks.recording import (
    Recorded,
    about_run,
    add_argument,
    open_records,
    read,
    refusing,
    show,
    table,
    versions_line,
)
from benchmarks.tasks import run_missing

DEFAULT: Final = "default"
DIGITS: Final = 1e-5
"""Less regret than this counts as none."""
MILESTONES: Final = (10, 20, 30, 60)
MAKERS: Final = {**heldout.MAKERS, **heldout.REPORTED_MAKERS}


@dataclass(frozen=True, slots=True)
class Ablation:
    """The default with one choice taken back."""

    text: str
    choices: GPChoices
    n_initial: int | None = None
    problems: tuple[str, ...] = tuple(heldout.MAKERS)
    """Those on which it can make a difference."""


def _ablations() -> dict[str, Ablation]:
    full = CHOICES[Quality.BALANCED]
    model = full.model
    mixed = tuple(name for name in heldout.MAKERS if name.startswith("mixed"))
    noisy = tuple(name for name in heldout.MAKERS if name.endswith("noisy"))
    same_warp = replace(model, noisy_objective_warp=model.objective_warp)
    return {
        DEFAULT: Ablation("everything as it is", full, problems=tuple(MAKERS)),
        "center": Ablation(
            "starts at a Sobol point instead of the middle",
            replace(full, starts_at_center=False),
        ),
        "categories": Ablation(
            "the length scales of categories have the prior of all others",
            replace(full, model=replace(model, category_scale=None)),
            problems=mixed,
        ),
        "noise": Ablation(
            "the same under noise as without",
            replace(full, model=same_warp, is_augmented=False),
        ),
        "reported": Ablation(
            "the same under reported noise as without",
            replace(full, model=same_warp, is_augmented=False),
            problems=tuple(heldout.REPORTED_MAKERS),
        ),
        "augmented": Ablation(
            "improvements not augmented where noise is seen",
            replace(full, is_augmented=False),
            problems=noisy,
        ),
        "noisy_warp": Ablation(
            "ranks instead of bad values also where noise is seen",
            replace(full, model=same_warp),
            problems=noisy,
        ),
        "n_initial": Ablation("5 initial points instead of 10", full, n_initial=5),
        "warp": Ablation(
            "the objective is standardised only",
            replace(full, model=replace(model, objective_warp=WarpKind.STANDARDISE)),
        ),
        "kernels": Ablation(
            "Matern 5/2 alone",
            replace(full, model=replace(model, kernels=(Kernel.MATERN52,))),
        ),
        "floor": Ablation(
            "least noise variance 1e-4 instead of 1e-6",
            replace(full, model=replace(model, noise=LearnedNoise(1e-4))),
        ),
    }


ABLATIONS: Final[Mapping[str, Ablation]] = _ablations()


@dataclass(frozen=True, slots=True)
class Task:
    """One study."""

    ablation: str
    problem: str
    seed: int
    budget: int

    @property
    def job(self) -> dict[str, Any]:
        """What the record of the task is known by."""
        return asdict(self)


def run_task(task: Task) -> dict[str, Any]:
    """Run one study, one trial at a time.

    Returns:
        A line of the records: after each evaluation the true value of the best feasible point,
        on noisy problems of the point that measured best; null while nothing was feasible. And
        at last the true value of the trial that the strategy recommends.
    """
    import torch

    torch.set_num_threads(1)
    ablation = ABLATIONS[task.ablation]
    target = MAKERS[task.problem](task.seed)
    objective = target.problem.objective.name
    is_reported = target.problem.objective.noise is Noise.REPORTED
    noise = np.random.default_rng([777, task.seed])
    values: list[float | None] = []
    true_values: dict[int, float] = {}
    observed, best = math.inf, math.inf
    spent_s = 0.0
    builder = partial(GPSearch, choices=ablation.choices)
    with mock.patch.dict(registry.BUILDERS, {GPSpec: builder}):
        spec = GPSpec(n_initial=ablation.n_initial)
        optimizer = bbopt.Optimizer(target.problem, spec, task.seed)
        for _ in range(task.budget):
            start_s = time.process_time()
            (trial,) = optimizer.ask()
            spent_s += time.process_time() - start_s
            measured = target.evaluate(trial.parameters)
            told = dict(measured)
            true_values[trial.number] = measured[objective]
            told[objective] += target.noise_sd * float(noise.standard_normal())
            sd = target.noise_sd if is_reported else None
            optimizer.tell(trial, {**told, objective: Value(told[objective], sd)})
            is_feasible = target.problem.is_feasible(
                {name: Value(value) for name, value in measured.items()}
            )
            if is_feasible and told[objective] < observed:
                observed, best = told[objective], measured[objective]
            values.append(None if best == math.inf else best)
        recommended = optimizer.recommend()
    return {
        "job": task.job,
        "ask_ms": round(1e3 * spent_s / task.budget, 2),
        "values": values,
        "recommended": None if recommended is None else true_values[recommended.number],
    }


# ---------------------------------------------------------------------- report


class Records:
    """Log10 regrets by ablation, problem and seed."""

    def __init__(self, lines: Sequence[Mapping[str, Any]], budget: int) -> None:
        """Sort the lines of one budget."""
        self.budget = budget
        self.lines: dict[tuple[str, str, int], Mapping[str, Any]] = {}
        for line in lines:
            job = line["job"]
            if job["budget"] == budget:
                self.lines[job["ablation"], job["problem"], job["seed"]] = line

    def score(self, ablation: str, problem: str, seed: int, n: int) -> float:
        """Return the log10 regret after ``n`` evaluations; 6 while nothing was feasible."""
        return _log_regret(self.lines[ablation, problem, seed]["values"][n - 1])

    def differences(self, ablation: str, problem: str, n: int) -> list[float]:
        """Return by how much the ablation is worse than the default, by seed."""
        return [
            self.score(ablation, problem, seed, n) - self.score(DEFAULT, problem, seed, n)
            for seed in self._paired_seeds(ablation, problem)
        ]

    def differences_of_recommended(self, ablation: str, problem: str) -> list[float]:
        """Return the same of the trials recommended at last, where they were recorded."""
        pairs = [
            [self.lines[name, problem, seed] for name in (ablation, DEFAULT)]
            for seed in self._paired_seeds(ablation, problem)
        ]
        return [
            _log_regret(ours["recommended"]) - _log_regret(default["recommended"])
            for ours, default in pairs
            if "recommended" in ours and "recommended" in default
        ]

    def _paired_seeds(self, ablation: str, problem: str) -> list[int]:
        return [
            seed
            for name, of, seed in self.lines
            if (name, of) == (ablation, problem) and (DEFAULT, problem, seed) in self.lines
        ]

    def ask_ms(self, ablation: str, problems: Sequence[str]) -> float:
        """Return the mean CPU milliseconds of an ask."""
        found = [
            line["ask_ms"]
            for (name, problem, _), line in self.lines.items()
            if name == ablation and problem in problems
        ]
        return statistics.fmean(found) if found else math.nan


def _log_regret(value: float | None) -> float:
    return 6.0 if value is None else math.log10(max(value, DIGITS))


def report(recorded: Recorded) -> list[str]:
    """Lay out the tables in Markdown; positive numbers speak for the choice."""
    budget = recorded.about["settings"]["budget"]
    records = Records(recorded.rows, budget)
    milestones = [n for n in MILESTONES if n <= budget]
    used = [
        name
        for name in ABLATIONS
        if name != DEFAULT and any(key[0] == name for key in records.lines)
    ]
    head = [
        "without",
        "functions",
        "runs",
        *(f"after {n}" for n in milestones),
        f"recommended after {budget}",
        f"wins / losses after {budget}",
        "p",
        "functions better / worse",
        "ask, ms",
    ]
    rows = [_row(records, name, milestones) for name in used]
    return [*table(head, rows), "", *_by_function(records, used), *versions_line(recorded)]


def _row(records: Records, name: str, milestones: Sequence[int]) -> list[str]:
    problems = [p for p in ABLATIONS[name].problems if records.differences(name, p, 1)]
    means = []
    for n in milestones:
        found = [d for p in problems for d in records.differences(name, p, n)]
        means.append(_mean_and_error(found))
    recommended = [d for p in problems for d in records.differences_of_recommended(name, p)]
    means.append(_mean_and_error(recommended) if recommended else "")
    last = [d for p in problems for d in records.differences(name, p, records.budget)]
    won, lost = sum(d > 1e-9 for d in last), sum(d < -1e-9 for d in last)
    p_value = binomtest(won, won + lost).pvalue if won + lost else 1.0
    medians = [
        statistics.median(records.differences(name, p, records.budget)) for p in problems
    ]
    better, worse = sum(m > 1e-9 for m in medians), sum(m < -1e-9 for m in medians)
    ask_ms = f"{records.ask_ms(name, problems):.1f} / {records.ask_ms(DEFAULT, problems):.1f}"
    return [
        ABLATIONS[name].text,
        str(len(problems)),
        str(len(last)),
        *means,
        f"{won} / {lost}",
        f"{p_value:.2g}",
        f"{better} / {worse}",
        ask_ms,
    ]


def _mean_and_error(found: Sequence[float]) -> str:
    error = statistics.stdev(found) / math.sqrt(len(found)) if len(found) > 1 else math.nan
    return f"{statistics.fmean(found):+.3f} ± {error:.3f}"


def _by_function(records: Records, used: Sequence[str]) -> list[str]:
    """Return the median log regret of the default and what each choice is worth by function."""
    rows = []
    for problem in MAKERS:
        seeds = [seed for name, of, seed in records.lines if (name, of) == (DEFAULT, problem)]
        if not seeds:
            continue
        scores = [records.score(DEFAULT, problem, seed, records.budget) for seed in seeds]
        cells = []
        for name in used:
            found = records.differences(name, problem, records.budget)
            won, lost = sum(d > 1e-9 for d in found), sum(d < -1e-9 for d in found)
            text = f"{statistics.fmean(found):+.2f} ({won} / {lost})" if found else ""
            cells.append(text)
        rows.append([problem, f"{statistics.median(scores):.2f}", *cells])
    return table(["function", "median", *used], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing and print the tables; return 1 if a study failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ablations", nargs="+", choices=tuple(ABLATIONS), default=None)
    parser.add_argument("--problems", nargs="+", choices=tuple(MAKERS), default=None)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--budget", type=int, default=60, help="evaluations a study")
    parser.add_argument("--jobs", type=int, default=1, help="studies at a time")
    add_argument(parser, Path("ablation.jsonl"))
    parser.add_argument("--report-only", action="store_true", help="run nothing")
    settings = parser.parse_args(arguments)
    if settings.report_only:
        with refusing(parser):
            return show(report(read(settings.records)))
    names = settings.ablations or [name for name in ABLATIONS if name != DEFAULT]
    of_any = {problem for name in names for problem in ABLATIONS[name].problems}
    tasks = [
        Task(name, problem, seed, settings.budget)
        for seed in range(settings.seeds)
        for name in dict.fromkeys([DEFAULT, *names])
        for problem in ABLATIONS[name].problems
        if problem in (settings.problems or of_any)
    ]
    recorder = open_records(
        parser, settings.records, about_run("torch", budget=settings.budget)
    )
    preload = ["benchmarks.heldout", "bbopt.strategies.gp_search"]
    is_well = run_missing(tasks, run_task, recorder, n_jobs=settings.jobs, preload=preload)
    return max(show(report(recorder.recorded)), 0 if is_well else 1)


if __name__ == "__main__":
    sys.exit(main())
