"""Data on standard output: each format, safe for spreadsheets and terminals."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbopt_client.cli.output import (
    Format,
    Record,
    choose_format,
    to_csv,
    write_record,
    write_records,
)

RECORDS = [
    Record(
        {"trial": "s/1", "metrics": {"loss": 0.5}}, {"trial": "s/1", "loss": 0.5, "ok": True}
    ),
    Record({"trial": "s/2", "metrics": {}}, {"trial": "s/2", "loss": None, "ok": None}),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(chosen: Format, records: list[Record] | None = None) -> str:
    stream = io.StringIO()
    write_records(RECORDS if records is None else records, chosen, stream=stream)
    return stream.getvalue()


def test_a_list_is_an_array_in_json() -> None:
    assert json.loads(written(Format.JSON)) == [record.data for record in RECORDS]
    assert written(Format.JSON, []) == "[]\n"


def test_a_list_is_a_line_each_in_json_lines() -> None:
    lines = written(Format.JSONL).splitlines()
    assert [json.loads(line) for line in lines] == [record.data for record in RECORDS]


def test_a_list_is_a_row_each_in_csv() -> None:
    assert written(Format.CSV) == "trial,loss,ok\ns/1,0.5,true\ns/2,,\n"
    assert written(Format.CSV, []) == ""


def test_a_table_shows_columns_in_which_something_stands() -> None:
    stream = io.StringIO()
    write_records(RECORDS[1:], Format.TABLE, stream=stream)
    assert "trial" in stream.getvalue()
    assert "loss" not in stream.getvalue()


def test_a_single_thing_is_an_object() -> None:
    stream = io.StringIO()
    write_record(RECORDS[0], Format.JSON, stream=stream)
    assert json.loads(stream.getvalue()) == RECORDS[0].data


def test_people_see_tables_and_programs_see_json() -> None:
    assert choose_format(None, Terminal()) is Format.TABLE
    assert choose_format(None, io.StringIO()) is Format.JSON
    assert choose_format(Format.CSV, Terminal()) is Format.CSV


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_a_spreadsheet_runs_no_formula(text: str) -> None:
    (row,) = csv.reader(io.StringIO(to_csv([{"a": text}]).partition("\n")[2], newline=""))
    assert row == ["'" + text]


def test_a_negative_number_stays_a_number() -> None:
    assert to_csv([{"a": -1.5}]) == "a\n-1.5\n"


@given(
    st.lists(
        st.fixed_dictionaries({"a": st.floats(allow_nan=False), "b": st.integers()}), min_size=1
    )
)
def test_numbers_survive_csv(rows: list[dict[str, float | int]]) -> None:
    text = to_csv([dict(row) for row in rows])
    read = list(csv.DictReader(io.StringIO(text)))
    assert [{"a": float(row["a"]), "b": int(row["b"])} for row in read] == rows


def test_a_table_carries_no_control_characters_and_no_markup() -> None:
    stream = io.StringIO()
    record = Record({}, {"message": "\x1b[31m[red]x[/red]"})
    write_records([record], Format.TABLE, stream=stream)
    assert "\x1b" not in stream.getvalue()
    assert "[red]x[/red]" in stream.getvalue()


def test_colours_are_left_out_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    write_records(RECORDS, Format.TABLE, stream=stream)
    assert "\x1b[3" not in stream.getvalue()
