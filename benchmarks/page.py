"""Writes tables of ``docs/benchmarks.md`` from the records of real runs.

A section between ``<!-- begin: NAME -->`` and ``<!-- end: NAME -->`` is what a benchmark
reports of ``benchmarks/records/NAME.jsonl``, and nobody's handwriting. So are the figures in
``docs/images``, which are drawn if matplotlib is there::

    python -m benchmarks.regret --records benchmarks/records/regret.jsonl
    python -m benchmarks.page

A benchmark goes on with a file of records where it was; to measure anew, remove the file first.
"""

import argparse
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import (
    ablation,
    engine_report,
    large,
    latency,
    recording,
    regret,
    service_report,
    studies_report,
    through_server,
    turbo,
)
from benchmarks.efficiency_records import read_records, restore
from benchmarks.recording import Recorded

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
RECORDS = ROOT / "benchmarks" / "records"

Report = Callable[[Recorded], Sequence[str]]
"""Lays records out as lines of Markdown."""

IMAGES = ROOT / "docs" / "images"

FIGURES = """\
![Average rank of each optimizer over the evaluations, as in the table](images/ranks.svg)

![Median log10 regret over the evaluations, a panel a problem and a line an optimizer; that of
bbopt is thick, and its quartiles are a band](images/efficiency.svg)

A line is the median over seeds, and starts where more than half of the runs have found a
feasible point; the band is between the quartiles of the thick one."""

REPORTS: Mapping[str, Report] = {
    "ablation_reported": ablation.report,
    "efficiency": lambda recorded: restore(recorded).report(FIGURES).splitlines(),
    "engine": engine_report.report,
    "large": large.report,
    "latency": latency.report,
    "regret": regret.report,
    "service": service_report.report,
    "studies": studies_report.report,
    "through_server": through_server.report,
    "turbo": turbo.report,
}

_SECTION = re.compile(r"(<!-- begin: (\w+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)


def generate(page: str, records: Path, reports: Mapping[str, Report] = REPORTS) -> str:
    """Return a page with its marked sections written anew.

    Raises:
        KeyError: A section is of a benchmark that is not known.
        FileNotFoundError: A benchmark has no records.
    """

    def write(section: re.Match[str]) -> str:
        begin, name, end = section.groups()
        lines = reports[name](recording.read(records / f"{name}.jsonl"))
        return "\n".join([begin, *lines, "", end])

    return _SECTION.sub(write, page)


def draw(records: Path, images: Path) -> bool:
    """Draw the figures; return whether matplotlib is there."""
    if importlib.util.find_spec("matplotlib") is None:
        return False
    from benchmarks.efficiency_plot import draw_ranks, draw_regret

    recorded = read_records(records / "efficiency.jsonl")
    images.mkdir(exist_ok=True)
    draw_ranks(recorded, images / "ranks.svg")
    draw_regret(recorded, images / "efficiency.svg")
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Write page and figures, or with ``--check`` return 1 if the page is not as recorded."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    settings = parser.parse_args(arguments)
    old = PAGE.read_text()
    with recording.refusing(parser):
        new = generate(old, RECORDS)
    if not settings.check:
        PAGE.write_text(new)
        if not draw(RECORDS, IMAGES):
            print("the figures are left as they are: there is no matplotlib", file=sys.stderr)
    return 1 if settings.check and new != old else 0


if __name__ == "__main__":
    sys.exit(main())
