"""Records of benchmarks are kept as they come, and never measured twice."""

import argparse
import re
from pathlib import Path

import pytest

from benchmarks.recording import (
    Line,
    Recorded,
    Recorder,
    RecordsError,
    about_run,
    append_line,
    open_records,
    read,
    read_lines,
    show,
    table,
    versions_line,
    write,
)

ABOUT = {"versions": {"tool": "1.2"}, "settings": {"rounds": 3}}


def test_a_recorder_goes_on_where_another_was_broken_off(tmp_path: Path) -> None:
    path = tmp_path / "records" / "runs.jsonl"
    Recorder(path, ABOUT).add({"n": 1, "times": (0.5, 0.25)})
    again = Recorder(path, ABOUT)
    assert again.has(n=1)
    assert not again.has(n=2)
    again.add({"n": 2, "times": ()})
    assert read(path) == again.recorded
    assert read(path).rows == [{"n": 1, "times": [0.5, 0.25]}, {"n": 2, "times": []}]


def test_a_row_is_found_by_all_fields_that_are_asked_for() -> None:
    recorder = Recorder(None, ABOUT)
    recorder.add({"n": 1, "d": 6})
    assert recorder.has(n=1, d=6)
    assert not recorder.has(n=1, d=20)
    assert not recorder.has(tool="bbopt")


def test_a_line_that_was_cut_off_is_left_out_and_stays_alone(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    Recorder(path, ABOUT).add({"n": 1})
    with path.open("a") as file:
        file.write('{"n": 2, "tim')
    Recorder(path, ABOUT).add({"n": 3})
    assert list(read_lines(path)) == [ABOUT, {"n": 1}, {"n": 3}]


@pytest.mark.parametrize(
    ("about", "fault"),
    [
        ({**ABOUT, "versions": {"tool": "1.3"}}, 'versions.tool is "1.2" there and "1.3" now'),
        ({**ABOUT, "settings": {"n": 1, "rounds": 3}}, "settings.n is null there and 1 now"),
        ({**ABOUT, "settings": {}}, "settings.rounds is 3 there and null now"),
        ({"machine": {}}, "the first line has no machine"),
    ],
)
def test_records_of_other_runs_are_refused_with_the_field_that_differs(
    tmp_path: Path, about: Line, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "runs.jsonl"
    Recorder(path, ABOUT).add({"n": 1})
    before = path.read_text()
    with pytest.raises(SystemExit):
        open_records(argparse.ArgumentParser(), path, about)
    (line,) = capsys.readouterr().err.splitlines()
    assert f"error: {path}: " in line
    with pytest.raises(RecordsError, match=re.escape(fault)):
        Recorder(path, about)
    assert path.read_text() == before


@pytest.mark.parametrize("text", ["", "no JSON\n", "[1]\n"])
def test_a_file_without_a_first_line_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(text)
    with pytest.raises(RecordsError, match="has no first line"):
        read(path)


def test_what_is_written_over_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    append_line(path, {"old": True})
    write(Recorded([{"n": 1}], ABOUT), path)
    assert read(path) == Recorded([{"n": 1}], ABOUT)


def test_the_first_line_names_versions_and_settings() -> None:
    about = about_run("numpy", rounds=3)
    assert set(about["versions"]) == {"bbopt", "python", "numpy"}
    assert about["settings"] == {"rounds": 3}


def test_a_table_has_a_line_for_each_row_and_two_for_its_head() -> None:
    assert table(["a", "b"], [["1", "2"]]) == ["| a | b |", "| --- | --- |", "| 1 | 2 |"]


def test_versions_of_the_run_and_of_peers_are_named_once() -> None:
    rows: list[Line] = [
        {"versions": {"peer": "3"}},
        {"n": 1},
        {"versions": {"peer": "3", "tool": "1.2"}},
    ]
    assert versions_line(Recorded(rows, ABOUT)) == ["", "Versions: tool 1.2, peer 3."]


@pytest.mark.parametrize(
    ("lines", "status"),
    [(["PASS this"], 0), (["PASS this", "MISS that"], 1), (["???? not measured"], 1), ([], 0)],
)
def test_a_report_that_misses_something_fails(lines: list[str], status: int) -> None:
    assert show(lines) == status
