"""Draws regrets and ranks of each optimizer over the evaluations, as SVG files.

Needs matplotlib. The same runs give the same bytes with the same version of matplotlib.
"""

import math
import re
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.efficiency_records import Recorded
from benchmarks.efficiency_report import Scores, label

N_COLUMNS: Final = 4
STYLE: Final[Any] = MappingProxyType(
    {
        "svg.hashsalt": "bbopt",
        "svg.fonttype": "path",
        "font.family": "DejaVu Sans",  # comes with matplotlib
        "font.size": 9.0,
        "axes.titlesize": 9.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)
OURS: Final = "#000000"
PEERS: Final = (
    ("#332288", "-"),
    ("#CC6677", "-"),
    ("#117733", "-"),
    ("#DDAA33", "-"),
    ("#33BBEE", "-"),
    ("#AA4499", "-"),
    ("#882255", "--"),
    ("#44AA99", "--"),
    ("#6699CC", "--"),
)
"""Colours that the colour-blind tell apart; in doubt the dashes help."""
BASELINES: Final = ("random", "sobol")
"""Optimizers of no intelligence, grey: a name that ends so is one."""
GREYS: Final = (("#777777", ":"), ("#777777", "--"), ("#777777", "-."))


def draw_regret(recorded: Recorded, path: Path) -> None:
    """Draw median log10 regret over evaluations: a panel a problem, a line an optimizer.

    Our first optimizer is drawn thicker, with its quartiles as a band. A line starts where more
    than half of the runs have found something feasible.
    """
    scores = Scores(recorded.runs)
    labels = label(recorded.runs, recorded.labels)
    styles = style(scores.optimizers, recorded.ours[0])
    n_rows = math.ceil(len(scores.problems) / N_COLUMNS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.0, 2.2 * n_rows + 1.0), layout="constrained")
        panels = figure.subplots(n_rows, N_COLUMNS, sharex=True, squeeze=False).flatten()
        for panel in panels[len(scores.problems) :]:
            panel.set_axis_off()
        for panel, problem in zip(panels, scores.problems, strict=False):
            _draw_panel(panel, scores, problem, ours=recorded.ours[0], styles=styles)
        lines = {line.get_label(): line for panel in panels for line in panel.get_lines()}
        names = [name for name in styles if name in lines]
        figure.legend(
            [lines[name] for name in names],
            [labels[name] for name in names],
            loc="outside upper center",
            ncols=N_COLUMNS,
            frameon=False,
        )
        figure.supxlabel("evaluations")
        figure.supylabel("median log10 regret")
        _save(figure, path)


def draw_ranks(recorded: Recorded, path: Path) -> None:
    """Draw average ranks over evaluations, of the optimizers that ran all problems."""
    scores = Scores(recorded.runs)
    labels = label(recorded.runs, recorded.labels)
    complete = scores.complete()
    counts = np.arange(1, scores.budget + 1)
    ranks = np.array([scores.ranks(complete, int(n)).mean(axis=1) for n in counts])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 3.4), layout="constrained")
        panel = figure.subplots()
        for name, look in style(scores.optimizers, recorded.ours[0]).items():
            if name in complete:
                shown = ranks[:, complete.index(name)]
                gid = _line_id(name, "ranks")
                panel.plot(counts, shown, gid=gid, label=labels[name], **look)
        panel.invert_yaxis()  # the best on top
        panel.set_xlim(1, scores.budget)
        panel.set_xlabel("evaluations")
        panel.set_ylabel("average rank")
        panel.grid(visible=True, color="#dddddd", linewidth=0.5)
        figure.legend(loc="outside right center", frameon=False)
        _save(figure, path)


def style(optimizers: Sequence[str], ours: str) -> dict[str, dict[str, Any]]:
    """Return how each optimizer's line looks, in the order of the legend: ours first."""
    greys = [each for each in optimizers if each.endswith(BASELINES) and each != ours]
    peers = [each for each in optimizers if each not in greys and each != ours]
    looks = {ours: {"color": OURS, "linewidth": 2.2, "zorder": 4}}
    for names, pairs, zorder in ((peers, PEERS, 3), (greys, GREYS, 2)):
        for i, name in enumerate(names):
            color, dashes = pairs[i % len(pairs)]
            looks[name] = {
                "color": color,
                "linestyle": dashes,
                "linewidth": 1.1,
                "zorder": zorder,
            }
    return looks


def _line_id(optimizer: str, panel: str) -> str:
    """Return what a line is called in the file, where no two may share an id."""
    return f"{panel}-{optimizer}".replace(" ", "-")


def _save(figure: Figure, path: Path) -> None:
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    # A hundredth of a point is more than enough, and a fifth of the file less.
    short = re.sub(
        r"^(?:<path d=\"M|[ML]) .*",
        lambda line: re.sub(r"\d+\.\d{3,}", lambda x: f"{float(x[0]):.2f}", line[0]),
        re.sub(r"^ +| +$", "", text.getvalue(), flags=re.MULTILINE),
        flags=re.MULTILINE,
    )
    path.write_text(short)


def _draw_panel(
    panel: Axes, scores: Scores, problem: str, *, ours: str, styles: Mapping[str, Any]
) -> None:
    counts = np.arange(1, scores.budget + 1)
    seen = []
    for name, look in styles.items():
        if (name, problem) not in scores.runs:
            continue
        lower, median, upper = _quartiles(scores, name, problem)
        seen += [median, lower if name == ours else median]
        shown = np.where(np.isfinite(median), median, np.nan)
        n, shown = _corners(counts, shown)
        gid = _line_id(name, problem)
        panel.plot(n, shown, drawstyle="steps-post", gid=gid, label=name, **look)
        if name == ours:
            # Where a quartile found nothing feasible the band goes on to the top.
            band = np.where(np.isfinite([lower, upper]), [lower, upper], 99.0)
            n, low, high = _corners(counts, *band)
            panel.fill_between(n, low, high, step="post", color=OURS, alpha=0.18, linewidth=0.0)
    finite = np.concatenate(seen)
    finite = finite[np.isfinite(finite)]
    margin = 0.05 * max(float(np.ptp(finite)), 0.2)
    panel.set_ylim(float(finite.min()) - margin, float(finite.max()) + margin)
    panel.set_xlim(1, scores.budget + 1)
    panel.locator_params(nbins=4)
    panel.set_title(problem)
    panel.grid(visible=True, color="#dddddd", linewidth=0.5)


def _corners(
    counts: NDArray[np.int64], *values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """Leave out the evaluations that changed nothing, and hold the last for one more."""
    rows = np.array([counts, *values], dtype=np.float64)
    rows = np.column_stack([rows, rows[:, -1]])
    rows[0, -1] += 1.0
    is_corner = np.ones(rows.shape[1], dtype=bool)
    before, after = rows[1:, :-2], rows[1:, 1:-1]
    is_same: NDArray[np.bool_] = (before == after) | (np.isnan(before) & np.isnan(after))
    is_corner[1:-1] = ~is_same.all(axis=0)
    return tuple(rows[:, is_corner])


def _quartiles(
    scores: Scores, optimizer: str, problem: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return lower quartile, median and upper quartile over seeds, by evaluation."""
    runs = scores.runs[optimizer, problem]
    regrets = np.array(
        [[scores.of(run, n) for run in runs] for n in range(1, scores.budget + 1)]
    )
    # Quartiles are runs, not means of two, because a regret may be infinite.
    lower, upper = np.quantile(regrets, (0.25, 0.75), axis=1, method="nearest")
    medians = [scores.median(optimizer, problem, n) for n in range(1, scores.budget + 1)]
    return lower, np.array(medians), upper
