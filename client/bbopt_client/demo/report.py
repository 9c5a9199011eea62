"""What the demo leaves behind: the summary it prints, a history page and a CSV table."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bbopt_client.demo.history import Dot, Series, render
from bbopt_client.demo.problem import MAX_BYTES
from bbopt_client.trial import Trial


@dataclass(frozen=True, slots=True)
class Result:
    """One finished study of the demo."""

    name: str
    seconds: float
    best: Trial | None
    """Best feasible trial, as the server ranks them."""
    trials: tuple[Trial, ...]
    records: tuple[Mapping[str, object], ...]


def accuracy_of(trial: Trial) -> float | None:
    """Return the measured accuracy of a finished trial."""
    return trial.metrics.get("accuracy")


def size_of(trial: Trial) -> float | None:
    """Return the measured size of a finished trial, in bytes."""
    return trial.metrics.get("model_bytes")


def is_feasible(trial: Trial) -> bool:
    """Say whether a trial was measured within the bound on size."""
    return trial.feasible is True and accuracy_of(trial) is not None


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the most accurate feasible trial; the first of equals."""
    feasible = [trial for trial in trials if is_feasible(trial)]
    return max(feasible, key=lambda one: (accuracy_of(one) or 0.0, -one.number), default=None)


def describe(trial: Trial) -> str:
    """Write a trial's parameters on one line."""
    return " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in trial.parameters.items()
    )


def write_report(out: Path, results: Sequence[Result]) -> None:
    """Write ``history.html`` and ``trials.csv``."""
    best = results[0].best
    page = render(
        "bbopt demo: a digits classifier under a size bound",
        f"Cross-validated accuracy, maximised subject to model_bytes <= {MAX_BYTES:,.0f}.",
        [Series(result.name, _dots(result)) for result in results],
        {} if best is None else dict(best.parameters) | {"accuracy": accuracy_of(best)},
        axis="accuracy",
    )
    (out / "history.html").write_text(page, encoding="utf-8")
    rows = [{"study": result.name} | dict(row) for result in results for row in result.records]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with (out / "trials.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def summarise(results: Sequence[Result], out: Path) -> str:
    """Say what was found, in the words of one seed and no more."""
    tuned = results[0]
    n_feasible = sum(is_feasible(trial) for trial in tuned.trials)
    n_done = sum(trial.state.is_final for trial in tuned.trials)
    lines = [""]
    if tuned.best is None:
        lines.append("best     none: no trial kept the size bound")
    else:
        lines += [
            f"best     trial {tuned.best.number}: accuracy {accuracy_of(tuned.best):.4f}, "
            f"{size_of(tuned.best):,.0f} bytes",
            f"         {describe(tuned.best)}",
        ]
    lines.append(f"feasible {n_feasible} of {n_done} trials, in {tuned.seconds:.0f} s")
    lines += [_against(tuned, other) for other in results[1:]]
    lines.append(f"files    {out / 'history.html'}  {out / 'trials.csv'}")
    return "\n".join(lines)


def _against(tuned: Result, other: Result) -> str:
    """Compare best feasible accuracies at equal budget."""
    ours = None if tuned.best is None else accuracy_of(tuned.best)
    theirs = None if other.best is None else accuracy_of(other.best)
    n_feasible = sum(is_feasible(trial) for trial in other.trials)
    found = "nothing feasible" if theirs is None else f"{theirs:.4f}, {n_feasible} feasible"
    gain = "" if ours is None or theirs is None else f"; gain {ours - theirs:+.4f} (one seed)"
    return f"{other.name:<8} search with the same budget: {found}{gain}"


def _dots(result: Result) -> list[Dot]:
    return [
        Dot(accuracy, is_feasible(trial), f"trial {trial.number}: {describe(trial)}")
        for trial in sorted(result.trials, key=lambda one: one.number)
        if (accuracy := accuracy_of(trial)) is not None
    ]
