"""The demo's live view: a table that updates in place, or plain lines without a terminal."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from bbopt.trial import TrialState
from bbopt_client.demo.report import accuracy_of, best_of, describe, is_feasible, size_of
from bbopt_client.trial import Trial

N_SHOWN = 10


class ProgressView:
    """Shows the latest trials and the best so far; use as a context manager."""

    def __init__(self, title: str, n_trials: int, console: Console) -> None:
        self._title = title
        self._n_trials = n_trials
        self._console = console
        self._live = (
            Live(console=console, refresh_per_second=4) if console.is_terminal else None
        )
        self._printed: set[int] = set()

    def update(self, trials: Sequence[Trial]) -> None:
        """Show the state of a study, given all of its trials."""
        if self._live is not None:
            self._live.update(self._table(trials))
            return
        for trial in sorted(trials, key=lambda one: one.number):
            if trial.state.is_final and trial.number not in self._printed:
                self._printed.add(trial.number)
                self._say(_line(trial))

    def note(self, message: str) -> None:
        """Say something beside the table."""
        self._say(message)

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _table(self, trials: Sequence[Trial]) -> Table:
        n_final = sum(trial.state.is_final for trial in trials)
        n_feasible = sum(is_feasible(trial) for trial in trials)
        best = best_of(trials)
        table = Table(
            title=f"{self._title}  {n_final}/{self._n_trials} trials, {n_feasible} feasible, "
            f"best accuracy {'-' if best is None else f'{accuracy_of(best):.4f}'}",
            title_justify="left",
        )
        for column in ("trial", "state", "from", "accuracy", "bytes", "parameters"):
            right = column in ("trial", "accuracy", "bytes")
            table.add_column(column, justify="right" if right else "left", no_wrap=True)
        for trial in sorted(trials, key=lambda one: one.number)[-N_SHOWN:]:
            table.add_row(*_cells(trial), style="bold green" if trial is best else None)
        return table

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()


def _cells(trial: Trial) -> tuple[str, ...]:
    accuracy, size = accuracy_of(trial), size_of(trial)
    done = trial.state is TrialState.COMPLETED
    return (
        str(trial.number),
        trial.state.value if is_feasible(trial) or not done else "infeasible size",
        trial.provenance.generator,
        "" if accuracy is None else f"{accuracy:.4f}",
        "" if size is None else f"{size:,.0f}",
        describe(trial),
    )


def _line(trial: Trial) -> str:
    number, state, generator, accuracy, size, parameters = _cells(trial)
    return f"{number:>4} {state:<15} {generator:<8} {accuracy:>7} {size:>11}  {parameters}"
