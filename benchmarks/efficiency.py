"""Sample efficiency: how good a point a given number of evaluations buys, ours and others'.

Run ``python -m benchmarks.efficiency``. It runs what is missing in ``--out`` (JSON lines, one a
study, so that an interrupted run goes on where it was), one process a study with one BLAS
thread, and prints a Markdown report that ranks our strategies beside runs of other optimizers
recorded in ``--peers``. ``--records`` keeps what the report read in a small file. Metrics are
declared as a user who declares nothing gets them: noise of unknown level.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import bbopt
from bbopt.trial import Value
from benchmarks import suite
from benchmarks.efficiency_records import Recorded, write_records
from benchmarks.efficiency_report import Run, read_runs
from benchmarks.recording import Recorder, read_lines, refusing
from benchmarks.tasks import run_missing

OURS = "bbopt "
"""How the names of our strategies begin in records."""


@dataclass(frozen=True, slots=True)
class Task:
    """One study."""

    strategy: str
    problem: str
    seed: int
    budget: int

    @property
    def job(self) -> dict[str, Any]:
        """What the record of the task is known by."""
        return {
            "peer": OURS + self.strategy,
            "problem": self.problem,
            "seed": self.seed,
            "budget": self.budget,
        }


def run_task(task: Task) -> dict[str, Any]:
    """Run one study, one trial at a time.

    Returns:
        A line of the records. An evaluation has the CPU seconds of ask and tell, the best
        noiseless feasible value so far (``best``), and that of the point which measured best
        (``inc``, what a user would take home); both are null while nothing was feasible.
    """
    import torch

    torch.set_num_threads(1)
    target = suite.make(task.problem)
    optimizer = bbopt.Optimizer(target.problem, task.strategy, task.seed)
    objective = target.problem.objective.name
    # The noise of the k-th evaluation is the same for every optimizer.
    noise = np.random.default_rng(777 + task.seed)
    evaluations: list[dict[str, Any]] = []
    best = observed = incumbent = float("inf")
    for n in range(1, task.budget + 1):
        start_s = time.process_time()
        (trial,) = optimizer.ask()
        ask_s = time.process_time() - start_s
        measured = target.evaluate(trial.parameters)
        told = dict(measured)
        if target.noise_sd > 0.0:
            told[objective] += target.noise_sd * float(noise.standard_normal())
        start_s = time.process_time()
        optimizer.tell(trial, told)
        tell_s = time.process_time() - start_s
        values = {name: Value(value) for name, value in measured.items()}
        if target.problem.is_feasible(values):
            best = min(best, measured[objective])
            if told[objective] < observed:
                observed, incumbent = told[objective], measured[objective]
        evaluations.append(
            {
                "n": n,
                "cpu_s": round(ask_s + tell_s, 5),
                "best": None if best == float("inf") else best,
                "inc": None if incumbent == float("inf") else incumbent,
            }
        )
    about = {"f_opt": target.optimum, "noise_sd": target.noise_sd}
    return {
        "job": task.job,
        "status": "ok",
        "version": bbopt.__version__,
        "start": about,
        "its": evaluations,
    }


def _selected(paths: Sequence[Path], names: Sequence[str], budget: int) -> list[Run]:
    lines = [line for path in paths for line in read_lines(path)]
    return read_runs(lines, problems=names, budget=budget)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--problems",
        nargs="+",
        default=["slice16"],
        help=f"problems ({', '.join(suite.MAKERS)}, coco/bbob/f#/d#/i#) or sets of them "
        f"({', '.join(suite.SETS)})",
    )
    parser.add_argument("--strategies", nargs="+", default=["gp", "random"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=60, help="evaluations a study")
    parser.add_argument("--jobs", type=int, default=1, help="studies at a time")
    parser.add_argument("--out", type=Path, default=Path("efficiency.jsonl"))
    parser.add_argument("--peers", type=Path, nargs="+", default=[], help="recorded runs")
    parser.add_argument(
        "--label", action="append", default=[], metavar="PEER=TEXT", help="name in the report"
    )
    parser.add_argument("--report", type=Path, help="write it here instead of printing it")
    parser.add_argument(
        "--records", type=Path, help="small file for the runs of the report, overwritten"
    )
    parser.add_argument("--report-only", action="store_true", help="run nothing")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, write the report; return 1 if a study failed."""
    parser = _parser()
    settings = parser.parse_args(arguments)
    problems = suite.names_of(settings.problems)
    is_well = True
    if not settings.report_only:
        tasks = [
            Task(strategy, problem, seed, settings.budget)
            for seed in range(settings.seeds)
            for problem in problems
            for strategy in settings.strategies
        ]
        preload = ["benchmarks.suite", "bbopt.strategies.gp_search"]
        recorder = Recorder(settings.out)
        is_well = run_missing(tasks, run_task, recorder, n_jobs=settings.jobs, preload=preload)
    with refusing(parser):
        runs = _selected([settings.out, *settings.peers], problems, settings.budget)
    if not runs:
        parser.error(f"no record is of {settings.budget} evaluations of these problems")
    labels = dict(label.split("=", 1) for label in settings.label)
    recorded = Recorded(runs, [OURS + each for each in settings.strategies], labels)
    report = recorded.report()
    if settings.records is not None:
        write_records(recorded, settings.records)
    if settings.report is None:
        print(report)
    else:
        settings.report.write_text(report)
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
