"""Records of benchmarks are kept as they come, and never measured twice."""

from pathlib import Path

import pytest

from benchmarks.recording import (
    Line,
    Recorded,
    Recorder,
    about_run,
    append_line,
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


@pytest.mark.parametrize("part", ["versions", "settings"])
def test_records_of_other_versions_or_settings_are_not_gone_on_with(
    tmp_path: Path, part: str
) -> None:
    path = tmp_path / "runs.jsonl"
    Recorder(path, ABOUT).add({"n": 1})
    before = path.read_text()
    with pytest.raises(ValueError, match="is of other runs"):
        Recorder(path, {**ABOUT, part: {"other": 1}})
    assert path.read_text() == before


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
