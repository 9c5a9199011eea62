"""What a benchmark measured, kept as JSON lines, and how reports lay it out in Markdown.

The first line of a file says of what runs its rows are (versions, settings), every other line
is a row. A run that was broken off, or is made in pieces, goes on with its file: what has a
row there is not measured again. A benchmark prints the report of the same records from which
``benchmarks.page`` writes the page.
"""

import argparse
import json
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import bbopt

Line = Mapping[str, Any]

PASS: Final = "PASS"  # noqa: S105 - no password
MISS: Final = "MISS"
NOT_MEASURED: Final = "????"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a file of records holds."""

    rows: Sequence[Line]
    about: Line = field(default_factory=dict)
    """The first line."""


def about_run(*packages: str, **settings: object) -> dict[str, Any]:
    """Return the first line of records: versions, and settings that hold for every row."""
    versions = {"bbopt": bbopt.__version__, "python": platform.python_version()}
    versions |= {package: version(package) for package in packages}
    return {"versions": versions, "settings": settings}


# Files ---------------------------------------------------------------------------------------


def add_argument(parser: argparse.ArgumentParser, default: Path | None = None) -> None:
    """Add the flag ``--records``, the same for every benchmark."""
    parser.add_argument(
        "--records",
        type=Path,
        default=default,
        metavar="FILE",
        help="JSON lines of what was measured; what has a row there is not run again"
        + (f" [default: {default}]" if default else ""),
    )


class RecordsError(ValueError):
    """A file of records is not what it is taken for."""


class Recorder:
    """The records of a run, kept in a file as they come."""

    def __init__(self, path: Path | None, about: Line | None = None) -> None:
        """Go on with a file, or begin it.

        Args:
            path: The file; ``None`` keeps nothing beyond this object.
            about: The first line; ``None`` if all lines are rows, which say for themselves of
                what runs they are.

        Raises:
            RecordsError: The file is of runs with other versions or settings.
        """
        self._path, self._about = path, None if about is None else json.loads(_text(about))
        lines = [] if path is None or not path.exists() else list(read_lines(path))
        if self._about is not None:
            if not lines and path is not None:
                append_line(path, self._about)
            elif lines and lines[0] != self._about:
                raise RecordsError(f"{path}: {_difference(lines[0], self._about)}")
            lines = lines[1:]
        self._rows: list[Line] = list(lines)

    @property
    def recorded(self) -> Recorded:
        """All records so far."""
        return Recorded(list(self._rows), self._about or {})

    def has(self, **fields: object) -> bool:
        """Return whether a row has these values in its fields."""
        wanted = fields.items()
        return any(all(row.get(name) == value for name, value in wanted) for row in self._rows)

    def add(self, row: Line) -> None:
        """Keep a row."""
        if self._path is not None:
            append_line(self._path, row)
        self._rows.append(json.loads(_text(row)))


@contextmanager
def refusing(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Exit with one line if a file cannot be read or is refused."""
    try:
        yield
    except (RecordsError, OSError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")


def open_records(parser: argparse.ArgumentParser, path: Path | None, about: Line) -> Recorder:
    """Go on with the file of ``--records``, or begin it; exit if it is refused."""
    with refusing(parser):
        return Recorder(path, about)


def read(path: Path) -> Recorded:
    """Read a file of records.

    Raises:
        RecordsError: There is not even a first line.
    """
    lines = list(read_lines(path))
    if not lines:
        raise RecordsError(f"{path}: has no first line, which says of what runs it is")
    return Recorded(lines[1:], lines[0])


def write(recorded: Recorded, path: Path) -> None:
    """Write a file of records over."""
    path.write_text("".join(_text(line) + "\n" for line in (recorded.about, *recorded.rows)))


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read JSON lines; one that was cut off by a crash is left out."""
    for text in filter(None, path.read_text().splitlines()):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            line = None
        if isinstance(line, dict):
            yield line
        else:
            print(f"{path}: left out a line that is no record", file=sys.stderr)


def append_line(path: Path, line: Line) -> None:
    """Append a JSON line, apart from one that was cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as out:
        if out.tell():
            out.seek(-1, 2)
            if out.read() != b"\n":
                out.write(b"\n")
        out.write(_text(line).encode() + b"\n")


def _difference(found: Line, wanted: Line) -> str:
    """Name the first field of a first line that is not as it should be."""
    for part, fields in wanted.items():
        there = found.get(part)
        if not isinstance(there, dict):
            return f"the first line has no {part}: these are no records of this benchmark"
        for name in dict.fromkeys([*fields, *there]):
            if there.get(name) != fields.get(name):
                old, new = (json.dumps(each.get(name)) for each in (there, fields))
                return f"is of other runs: {part}.{name} is {old} there and {new} now"
    return "is of other runs"


def _text(line: Line) -> str:
    return json.dumps(line, allow_nan=False, separators=(",", ":"))


# Markdown ------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay out a table."""
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows)]


def verdict(is_reached: bool, text: str) -> str:
    """Say whether what is wanted is reached."""
    return f"{PASS if is_reached else MISS} {text}"


def fenced(lines: Iterable[str]) -> list[str]:
    """Keep lines as they are; nothing if there are none."""
    kept = list(lines)
    return ["", "```", *kept, "```"] if kept else []


def versions_line(recorded: Recorded) -> list[str]:
    """Say which versions were measured, those of peers (which rows know) included."""
    known = [recorded.about.get("versions", {})]
    known += [row["versions"] for row in recorded.rows if row.get("versions")]
    texts = dict.fromkeys(f"{name} {value}" for each in known for name, value in each.items())
    return ["", f"Versions: {', '.join(texts)}."] if texts else []


def show(lines: Sequence[str]) -> int:
    """Print a report; return 1 if something wanted is missed or was not measured."""
    print("\n".join(lines))
    return 1 if any(line.startswith((MISS, NOT_MEASURED)) for line in lines) else 0
