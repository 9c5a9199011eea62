"""The page of benchmarks says what the records say."""

from pathlib import Path

import pytest

from benchmarks import page
from benchmarks.recording import Recorded, read, write

PAGE = "before\n<!-- begin: runs -->\nold\n<!-- end: runs -->\nafter\n"
REPORTS: dict[str, page.Report] = {
    "runs": lambda recorded: [str(row["n"]) for row in recorded.rows]
}


def test_only_a_marked_section_is_written_anew(tmp_path: Path) -> None:
    write(Recorded([{"n": 3}, {"n": 4}]), tmp_path / "runs.jsonl")
    written = page.generate(PAGE, tmp_path, REPORTS)
    assert written == "before\n<!-- begin: runs -->\n\n3\n4\n\n<!-- end: runs -->\nafter\n"


def test_writing_a_page_twice_changes_nothing(tmp_path: Path) -> None:
    write(Recorded([{"n": 3}]), tmp_path / "runs.jsonl")
    once = page.generate(PAGE, tmp_path, REPORTS)
    assert page.generate(once, tmp_path, REPORTS) == once


def test_a_section_of_an_unknown_benchmark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="runs"):
        page.generate(PAGE, tmp_path, {})


def test_the_page_is_what_its_records_say() -> None:
    assert page.main(["--check"]) == 0


@pytest.mark.parametrize("name", sorted(each.stem for each in page.RECORDS.iterdir()))
def test_every_kept_benchmark_has_its_section_on_the_page(name: str) -> None:
    lines = page.REPORTS[name](read(page.RECORDS / f"{name}.jsonl"))
    text = page.PAGE.read_text()
    section = text.partition(f"<!-- begin: {name} -->\n")[2]
    assert section.partition(f"<!-- end: {name} -->")[0] == "\n".join(["", *lines, "", ""])
