"""Writes tables of ``docs/benchmarks.md`` from the records of real runs.

A section between ``<!-- begin: NAME -->`` and ``<!-- end: NAME -->`` is what the benchmark NAME
reports of ``benchmarks/records/NAME.jsonl``, and nobody's handwriting::

    python -m benchmarks.through_server --records benchmarks/records/through_server.jsonl
    python -m benchmarks.efficiency --peers PEERS --records benchmarks/records/efficiency.jsonl
    python -m benchmarks.page
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import efficiency_records, through_server

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
RECORDS = ROOT / "benchmarks" / "records"

Report = Callable[[Path], Sequence[str]]
"""Reads records and lays them out as lines of Markdown."""

REPORTS: Mapping[str, Report] = {
    "efficiency": lambda path: efficiency_records.read_records(path).report().splitlines(),
    "through_server": lambda path: through_server.report(through_server.read_records(path)),
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
        lines = reports[name](records / f"{name}.jsonl")
        return "\n".join([begin, *lines, "", end])

    return _SECTION.sub(write, page)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or with ``--check`` return 1 if it is not what the records say."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    settings = parser.parse_args(arguments)
    old = PAGE.read_text()
    new = generate(old, RECORDS)
    if not settings.check:
        PAGE.write_text(new)
    return 1 if settings.check and new != old else 0


if __name__ == "__main__":
    sys.exit(main())
