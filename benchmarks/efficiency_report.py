"""The report on sample efficiency: recorded runs in, Markdown out.

A run is scored by the log10 of its regret: the distance of the best feasible value from the
problem's optimum or, where that is unknown, from the best value in the report. On noisy
problems the value is the true one of the point that measured best. What found nothing feasible
counts as worse than everything.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, wilcoxon

from benchmarks.recording import table

DIGITS: Final = 1e-6
"""Regret below this part of the optimum (or of 1) counts as none: records have seven digits."""
MILESTONES: Final = 6
"""At how many counts of evaluations ranks are taken."""


@dataclass(frozen=True, slots=True)
class Run:
    """One study: the score after each evaluation."""

    optimizer: str
    problem: str
    seed: int
    version: str
    values: tuple[float, ...]
    """Best so far, by evaluation; infinite while nothing was feasible."""
    cpu_s: float
    """Median CPU seconds of ask and tell."""
    optimum: float | None
    is_noisy: bool

    @property
    def n_to_feasible(self) -> int | None:
        """Evaluations up to the first feasible one."""
        return next((n for n, v in enumerate(self.values, 1) if math.isfinite(v)), None)


def read_runs(
    lines: Iterable[Mapping[str, Any]], *, problems: Sequence[str], budget: int
) -> list[Run]:
    """Return the whole runs among records: those that finished, one trial at a time.

    Args:
        lines: Records. ``its`` holds one entry per evaluation: ``best``, ``inc``, ``cpu_s``.
        problems: Only these; runs come back in their order.
        budget: Evaluations a run; others are left out.
    """
    lines = [line for line in lines if line["job"].get("problem") in problems]
    noisy = {
        line["job"]["problem"] for line in lines if line.get("start", {}).get("noise_sd", 0.0)
    }
    runs = []
    for line in lines:
        job, its = line["job"], line["its"]
        if line["status"] != "ok" or len(its) != budget or job.get("batch", 1) != 1:
            continue
        is_noisy = job["problem"] in noisy
        values = [each["inc" if is_noisy else "best"] for each in its]
        runs.append(
            Run(
                optimizer=job["peer"],
                problem=job["problem"],
                seed=job["seed"],
                version=str(line.get("version", "")),
                values=tuple(math.inf if value is None else value for value in values),
                cpu_s=statistics.median(each["cpu_s"] for each in its),
                optimum=line.get("start", {}).get("f_opt"),
                is_noisy=is_noisy,
            )
        )
    return sorted(runs, key=lambda run: problems.index(run.problem))


class Scores:
    """Log10 regrets by optimizer, problem and evaluation."""

    def __init__(self, runs: Sequence[Run]) -> None:
        """Sort the runs.

        Args:
            runs: All of one budget.
        """
        self.runs: dict[tuple[str, str], list[Run]] = {}
        for run in sorted(runs, key=lambda each: each.seed):
            self.runs.setdefault((run.optimizer, run.problem), []).append(run)
        self.optimizers = list(dict.fromkeys(run.optimizer for run in runs))
        self.problems = list(dict.fromkeys(run.problem for run in runs))
        self.budget = len(runs[0].values)
        self._optima = {name: self._optimum(name) for name in self.problems}

    def of(self, run: Run, n: int | None = None) -> float:
        """Return a run's score after ``n`` evaluations, all by default."""
        optimum = self._optima[run.problem]
        value = run.values[(n or self.budget) - 1]
        return math.log10(max(value - optimum, DIGITS * max(1.0, abs(optimum))))

    def median(self, optimizer: str, problem: str, n: int | None = None) -> float:
        """Return the median over seeds; NaN without runs."""
        found = self.runs.get((optimizer, problem), [])
        return statistics.median(self.of(run, n) for run in found) if found else math.nan

    def complete(self) -> list[str]:
        """Return the optimizers that ran every problem."""
        return [
            each
            for each in self.optimizers
            if all((each, p) in self.runs for p in self.problems)
        ]

    def ranks(self, optimizers: Sequence[str], n: int) -> NDArray[np.float64]:
        """Return ranks by median score, optimizers by problems; equals share theirs."""
        medians = [[self.median(each, p, n) for p in self.problems] for each in optimizers]
        return np.asarray(rankdata(np.array(medians), axis=0), dtype=np.float64)

    def _optimum(self, problem: str) -> float:
        runs = [
            run for (_, name), found in self.runs.items() if name == problem for run in found
        ]
        known = [run.optimum for run in runs if run.optimum is not None]
        # Records may round the optimum; ours come first, and with all its digits.
        return known[0] if known else min(run.values[-1] for run in runs)


def write_report(
    runs: Sequence[Run],
    *,
    ours: Sequence[str],
    labels: Mapping[str, str] | None = None,
    figure: str = "",
) -> str:
    """Return the report.

    Args:
        runs: Ours first.
        ours: Names of our optimizers; the first is compared with all others.
        labels: What to call an optimizer, by its name in the records.
        figure: Markdown to show after the ranks.
    """
    if not any(run.optimizer in ours for run in runs):
        raise ValueError("there are no runs of ours to report on")
    scores = Scores(runs)
    labels = label(runs, labels or {})
    parts = (
        _ranks(scores, labels),
        figure,
        _medians(scores, labels),
        _duels(scores, ours[0], labels),
        _spread(scores, ours[0]),
        _feasibility(scores, labels),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def label(runs: Iterable[Run], labels: Mapping[str, str]) -> dict[str, str]:
    """Return what to call each optimizer: by its label, else by its name and version."""
    named = {run.optimizer: f"{run.optimizer} {run.version}".strip() for run in runs}
    return named | dict(labels)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(table(head, rows))


def _number(value: float) -> str:
    if math.isnan(value):
        return ""
    return "none feasible" if value == math.inf else f"{value:.2f}"


def _ranks(scores: Scores, labels: Mapping[str, str]) -> str:
    complete = scores.complete()
    step = max(1, scores.budget // MILESTONES)
    milestones = list(range(step, scores.budget + 1, step))
    means = {n: scores.ranks(complete, n).mean(axis=1) for n in milestones}
    order = np.argsort(means[milestones[-1]], kind="stable")
    rows = []
    for i in order:
        name = complete[i]
        runs = [run for (who, _), found in scores.runs.items() if who == name for run in found]
        seeds = sorted({len(scores.runs[name, problem]) for problem in scores.problems})
        rows.append(
            [
                labels[name],
                " to ".join(str(each) for each in dict.fromkeys((seeds[0], seeds[-1]))),
                *(f"{means[n][i]:.2f}" for n in milestones),
                f"{1e3 * statistics.median(run.cpu_s for run in runs):.1f}",
            ]
        )
    head = ["optimizer", "seeds", *(f"rank at {n}" for n in milestones), "CPU ms a trial"]
    partial = [name for name in scores.optimizers if name not in complete]
    text = (
        f"Average rank over {len(scores.problems)} problems by median regret, 1 is best, after "
        f"so many evaluations; of the {len(complete)} optimizers that ran all problems.\n\n"
    )
    text += _table(head, rows)
    if partial:
        listed = "; ".join(
            f"{labels[name]} ({sum(who == name for who, _ in scores.runs)} problems)"
            for name in partial
        )
        text += f"\n\nNot ranked, because not all problems were run: {listed}."
    return text


def _medians(scores: Scores, labels: Mapping[str, str]) -> str:
    rows = []
    for problem in scores.problems:
        medians = [scores.median(each, problem) for each in scores.optimizers]
        least = np.nanmin(medians)
        rows.append(
            [
                problem,
                *(f"**{_number(m)}**" if m == least else _number(m) for m in medians),
            ]
        )
    head = ["problem", *(labels[each] for each in scores.optimizers)]
    text = (
        f"Median log10 regret after {scores.budget} evaluations; "
        "the least of each row is bold.\n\n"
    )
    return text + _table(head, rows)


def _duels(scores: Scores, ours: str, labels: Mapping[str, str]) -> str:
    rows = []
    for peer in scores.optimizers:
        if peer == ours:
            continue
        common = [
            p for p in scores.problems if (peer, p) in scores.runs and (ours, p) in scores.runs
        ]
        gains = np.array(
            [_gain(scores.median(peer, p), scores.median(ours, p)) for p in common]
        )
        by_seed = np.array(list(_paired(scores, ours, peer, common)))
        lost = [p for p, gain in zip(common, gains, strict=True) if gain < 0.0]
        rows.append(
            [
                labels[peer],
                f"{int((gains > 0).sum())} / {int((gains == 0).sum())} / {len(lost)}",
                f"{(gains > 0).mean():.0%}",
                _p_value(gains),
                f"{(by_seed > 0).mean():.0%} of {len(by_seed)}" if len(by_seed) else "",
                _p_value(by_seed),
                ", ".join(lost) or "none",
            ]
        )
    head = [
        "against",
        "better / equal / worse",
        "better",
        "p",
        "by seed",
        "p by seed",
        "worse on",
    ]
    text = (
        f"{ours} against each other optimizer, by the median of each problem that both ran. p "
        'is that of a two-sided Wilcoxon signed-rank test over problems; "by seed" pairs the '
        "runs of equal seed, which are many but not independent of each other.\n\n"
    )
    return text + _table(head, rows)


def _gain(theirs: float, ours: float) -> float:
    """Return by how much our score is lower; 0 where neither found a feasible point."""
    return 0.0 if theirs == ours else float(np.clip(theirs - ours, -99.0, 99.0))


def _paired(scores: Scores, ours: str, peer: str, problems: Sequence[str]) -> Iterable[float]:
    for problem in problems:
        by_seed = {run.seed: run for run in scores.runs[peer, problem]}
        for run in scores.runs[ours, problem]:
            if run.seed in by_seed:
                yield _gain(scores.of(by_seed[run.seed]), scores.of(run))


def _p_value(gains: NDArray[np.float64]) -> str:
    if not np.any(gains):
        return ""
    return f"{float(wilcoxon(gains, zero_method='zsplit').pvalue):.2g}"


def _spread(scores: Scores, ours: str) -> str:
    rows = []
    for problem in scores.problems:
        regrets = sorted(scores.of(run) for run in scores.runs.get((ours, problem), []))
        if regrets:
            # Quartiles are runs, not means of two, because a regret may be infinite.
            cuts = np.quantile(regrets, (0.0, 0.25, 0.75, 1.0), method="nearest").tolist()
            cuts.insert(2, statistics.median(regrets))
            rows.append([problem, *(_number(cut) for cut in cuts)])
    head = ["problem", "best", "quartile", "median", "quartile", "worst"]
    return f"Log10 regret of {ours} over its seeds.\n\n" + _table(head, rows)


def _feasibility(scores: Scores, labels: Mapping[str, str]) -> str:
    """Return shares of runs with a feasible point, for problems where that is not a matter of
    course; an empty text if there are none.
    """
    constrained = [
        problem
        for problem in scores.problems
        if any(
            run.n_to_feasible != 1
            for (_, name), found in scores.runs.items()
            if name == problem
            for run in found
        )
    ]
    if not constrained:
        return ""
    rows = []
    for each in scores.optimizers:
        cells = []
        for problem in constrained:
            firsts = [run.n_to_feasible for run in scores.runs.get((each, problem), [])]
            found = [n for n in firsts if n is not None]
            when = f", first after {statistics.median(found):g}" if found else ""
            cells.append(f"{len(found)} of {len(firsts)}{when}" if firsts else "")
        rows.append([labels[each], *cells])
    text = (
        "Runs that found a feasible point, and the median number of evaluations to the first."
        "\n\n"
    )
    return text + _table(["optimizer", *constrained], rows)
