"""The history plot of a study: one self-contained HTML page with an SVG, no scripts.

Every finished trial is a dot (filled when feasible, hollow when not); a line follows the best
feasible value so far, one colour for each study on the page.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 900.0, 460.0
LEFT, RIGHT, TOP, BOTTOM = 70.0, 20.0, 20.0, 50.0
COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea")

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
:root {{ color-scheme: light dark; --ink: #1f2937; --soft: #6b7280; --grid: #e5e7eb; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e5e7eb; --soft: #9ca3af; --grid: #374151; }}
  body {{ background: #111827; }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 960px;
  margin: 2rem auto; padding: 0 1rem; }}
svg {{ width: 100%; height: auto; }} text {{ fill: var(--soft); font-size: 12px; }}
.grid {{ stroke: var(--grid); }} .best {{ fill: none; stroke-width: 2; }}
table {{ border-collapse: collapse; }}
td, th {{ padding: .15rem .8rem .15rem 0; text-align: left; }}
.key {{ display: inline-block; width: .8em; height: .8em; border-radius: 50%; }}
</style></head><body><h1>{title}</h1><p>{subtitle}</p>
<p>{legend} &nbsp; filled: feasible &nbsp; hollow: infeasible
&nbsp; line: best feasible so far</p>
{svg}
<h2>Best trial</h2>
{best}
</body></html>
"""


@dataclass(frozen=True, slots=True)
class Dot:
    """One finished trial."""

    value: float
    is_feasible: bool
    label: str
    """Shown when the pointer rests on the dot."""


@dataclass(frozen=True, slots=True)
class Series:
    """The finished trials of one study, in the order of their results."""

    name: str
    dots: Sequence[Dot]

    def best_so_far(self) -> list[float | None]:
        """Return the largest feasible value up to each trial; ``None`` before the first."""
        best: float | None = None
        curve: list[float | None] = []
        for dot in self.dots:
            if dot.is_feasible and (best is None or dot.value > best):
                best = dot.value
            curve.append(best)
        return curve


@dataclass(frozen=True, slots=True)
class Axes:
    """Where data coordinates fall on the page."""

    n_trials: int
    low: float
    high: float

    @classmethod
    def around(cls, series: Iterable[Series]) -> "Axes":
        """Fit the axes to the data, leaving out the worst tenth so that the top is legible."""
        series = list(series)
        values = sorted(dot.value for one in series for dot in one.dots)
        if not values:
            return cls(1, 0.0, 1.0)
        low, high = values[len(values) // 10], values[-1]
        margin = 0.05 * (high - low) or 0.5
        return cls(max(len(one.dots) for one in series), low - margin, high + margin)

    def x(self, trial: float) -> float:
        """Map a trial's position, counted from 1."""
        return LEFT + (trial - 0.5) / self.n_trials * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Map a value; what is below the axis is drawn on it."""
        share = (max(value, self.low) - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def ticks(self) -> list[float]:
        """Choose about six round values."""
        raw = (self.high - self.low) / 6
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= raw)
        first = math.ceil(self.low / step)
        return [step * k for k in range(first, math.floor(self.high / step) + 1)]


def render(
    title: str,
    subtitle: str,
    series: Sequence[Series],
    best: Mapping[str, object],
    *,
    axis: str,
) -> str:
    """Return the page as text; every piece of it is escaped."""
    axes = Axes.around(series)
    parts = [*_grid(axes, axis)]
    for one, colour in zip(series, COLOURS, strict=False):
        parts += [*_dots(axes, one, colour), *_best_line(axes, one, colour)]
    legend = " &nbsp; ".join(
        f'<span class="key" style="background:{colour}"></span> {escape(one.name)}'
        for one, colour in zip(series, COLOURS, strict=False)
    )
    rows = "".join(
        f"<tr><th>{escape(key)}</th><td>{escape(str(value))}</td></tr>"
        for key, value in best.items()
    )
    svg = (
        f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" aria-label="{escape(title)}">'
        + "".join(parts)
        + "</svg>"
    )
    return PAGE.format(
        title=escape(title),
        subtitle=escape(subtitle),
        legend=legend,
        svg=svg,
        best=f"<table>{rows}</table>" if rows else "<p>None yet.</p>",
    )


def _grid(axes: Axes, axis: str) -> Iterable[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    for value in axes.ticks():
        y = axes.y(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>'
    step = max(1, axes.n_trials // 8)
    for trial in range(step, axes.n_trials + 1, step):
        x = axes.x(trial)
        yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{trial}</text>'
    middle = (TOP + bottom) / 2
    yield f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">result</text>'
    yield (
        f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(axis)}</text>"
    )


def _dots(axes: Axes, series: Series, colour: str) -> Iterable[str]:
    for position, dot in enumerate(series.dots, 1):
        fill = colour if dot.is_feasible else "none"
        yield (
            f'<circle cx="{axes.x(position):.1f}" cy="{axes.y(dot.value):.1f}" r="4"'
            f' fill="{fill}" fill-opacity=".55" stroke="{colour}">'
            f"<title>{escape(dot.label)}</title></circle>"
        )


def _best_line(axes: Axes, series: Series, colour: str) -> Iterable[str]:
    points: list[tuple[float, float]] = []
    for position, value in enumerate(series.best_so_far(), 1):
        if value is not None:
            if points:
                points.append((axes.x(position), points[-1][1]))
            points.append((axes.x(position), axes.y(value)))
    if points:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline class="best" stroke="{colour}" points="{path}"/>'
