"""Data on standard output, as a table, JSON, JSON lines or CSV."""

import enum
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TypeAlias

Cell: TypeAlias = str | int | float | bool | None

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class Format(enum.StrEnum):
    """How data is written."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class Record:
    """One thing to show: nested for JSON, flat for tables and CSV."""

    data: Mapping[str, object]
    flat: Mapping[str, Cell] = field(default_factory=dict)


def choose_format(given: Format | None, stream: IO[str]) -> Format:
    """Take the format that was asked for; otherwise a table for people, JSON for pipes."""
    if given is not None:
        return given
    return Format.TABLE if stream.isatty() else Format.JSON


def write_records(
    records: Sequence[Record],
    chosen: Format,
    *,
    columns: Sequence[str] | None = None,
    stream: IO[str] | None = None,
) -> None:
    """Write a list.

    Args:
        records: What to write.
        chosen: How.
        columns: Columns of a table; all by default. CSV always has all.
        stream: Where to; standard output by default.
    """
    match chosen:
        case Format.TABLE:
            _write_table(records, columns, stream or sys.stdout)
        case Format.JSON:
            _write(_to_json([record.data for record in records], indent=2), stream)
        case Format.JSONL:
            _write("".join(_to_json(record.data) for record in records), stream)
        case Format.CSV:
            _write(to_csv([record.flat for record in records]), stream)


def write_record(record: Record, chosen: Format, *, stream: IO[str] | None = None) -> None:
    """Write a single thing: JSON without a list around it, a table with a row per field."""
    match chosen:
        case Format.TABLE:
            rows = [
                Record({}, {"field": name, "value": cell})
                for name, cell in record.flat.items()
                if cell is not None and cell != ""
            ]
            _write_table(rows, None, stream or sys.stdout)
        case Format.JSON:
            _write(_to_json(record.data, indent=2), stream)
        case Format.JSONL:
            _write(_to_json(record.data), stream)
        case Format.CSV:
            _write(to_csv([record.flat]), stream)


def to_csv(rows: Sequence[Mapping[str, Cell]]) -> str:
    """Write rows as CSV.

    Text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [[_defuse(name) for name in names]]
    lines += [[_csv_cell(row.get(name)) for name in names] for row in rows]
    return "".join(",".join(map(_quote, line)) + "\n" for line in lines)


def _quote(text: str) -> str:
    # By hand: the csv module leaves a lone carriage return bare if lines end without one.
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if set(text) & set(',"\r\n') else text


def _csv_cell(cell: Cell) -> str:
    match cell:
        case None:
            return ""
        case bool():
            return "true" if cell else "false"
        case str():
            return _defuse(cell)
        case _:
            return repr(cell)


def _defuse(text: str) -> str:
    return "'" + text if text.startswith(_FORMULA_STARTS) else text


def _to_json(data: object, *, indent: int | None = None) -> str:
    return json.dumps(data, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"


def _write(text: str, stream: IO[str] | None) -> None:
    target = stream or sys.stdout
    try:
        target.write(text)
        target.flush()
    except BrokenPipeError:
        # The reader has seen enough (`| head`); let the interpreter's own flush succeed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), target.fileno())


def _write_table(
    records: Sequence[Record], columns: Sequence[str] | None, stream: IO[str]
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    names = _shown(records, columns)
    for position, name in enumerate(names):
        cells = [record.flat.get(name) for record in records]
        is_number = all(isinstance(cell, int | float | None) for cell in cells)
        table.add_column(
            Text(name), justify="right" if is_number else "left", no_wrap=position == 0
        )
    for record in records:
        table.add_row(*(Text(_show(record.flat.get(name))) for name in names))
    # Rich honours NO_COLOR and the terminal's width; Text keeps markup in data harmless.
    Console(file=stream).print(table)


def _shown(records: Sequence[Record], columns: Sequence[str] | None) -> list[str]:
    """Name the columns of a table: those in which something stands."""
    filled = [
        name
        for name in dict.fromkeys(name for record in records for name in record.flat)
        if any(record.flat.get(name) not in (None, "") for record in records)
    ]
    return filled if columns is None else [name for name in columns if name in filled]


def _show(cell: Cell) -> str:
    match cell:
        case None:
            return ""
        case bool():
            return "yes" if cell else "no"
        case float():
            return f"{cell:.6g}"
        case _:
            return "".join(char if char.isprintable() else " " for char in str(cell))
