"""Whole lines out of pieces; bounded files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbopt_client.worker.lines import FileTail, LineSplitter
from bbopt_client.worker.logs import CappedLog, LastLines


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_lines_do_not_depend_on_how_bytes_arrive(pieces: list[bytes]) -> None:
    splitter = LineSplitter()
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    assert [*lines, splitter.finish()] == b"".join(pieces).split(b"\n")


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_line_that_is_too_long_is_dropped_alone(size: int) -> None:
    splitter = LineSplitter(max_length=10)
    data = b"short\n" + b"x" * 50 + b"\nnext\n"
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert [line for piece in pieces for line in splitter.feed(piece)] == [b"short", b"next"]


def test_a_file_is_followed_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    tail = FileTail(path)
    assert tail.poll() == []
    path.write_bytes(b"a\nb")
    assert tail.poll() == [b"a"]
    path.write_bytes(b"a\nbc\nd")
    assert tail.poll() == [b"bc"]
    assert tail.finish() == [b"d"]


def test_a_file_that_is_started_over_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    path.write_bytes(b"first line\n")
    tail = FileTail(path)
    assert tail.poll() == [b"first line"]
    path.write_bytes(b"new\n")
    assert tail.poll() == [b"new"]


def test_finishing_reads_a_large_file_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    path.write_bytes(b"line\n" * 2_000_000)
    assert len(FileTail(path).finish()) == 2_000_000


@given(st.lists(st.binary(max_size=300), max_size=30))
def test_a_log_never_outgrows_its_limit_and_keeps_the_end(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = CappedLog(folder / "out.log", limit_bytes=200)
    for piece in pieces:
        log.write(piece)
    log.close()
    older = folder / "out.log.1"
    kept = (older.read_bytes() if older.exists() else b"") + (folder / "out.log").read_bytes()
    written = b"".join(pieces)
    assert len(kept) <= 200
    assert written.endswith(kept)
    assert len(kept) >= min(len(written), 100)


def test_the_last_lines_are_printable_and_few() -> None:
    last = LastLines(n_lines=2)
    last.feed(b"one\ntwo\n\n  10%\r 100% done\n\x1b[31mred\x1b[0m")
    assert last.text() == " 100% done\nred"


def test_the_very_last_line_is_never_crowded_out() -> None:
    last = LastLines()
    last.feed(b"".join(b"%d " % i + b"x" * 1000 + b"\n" for i in range(20)) + b"boom\n")
    text = last.text()
    assert (len(text) <= 3500, text.startswith("1"), text.endswith("\nboom")) == (True,) * 3
