"""Logs: one JSON object per line, on the stream that was given."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from bbopt_server.telemetry.logs import configure_logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_record_is_one_line_with_its_extra_fields(stream: io.StringIO) -> None:
    configure_logs("info", stream)
    logging.getLogger("bbopt_server.x").info("line\nbreak", extra={"n_trials": 3})
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert record["message"] == "line\nbreak"
    assert (record["level"], record["logger"], record["n_trials"]) == (
        "info",
        "bbopt_server.x",
        3,
    )


def test_a_trace_stays_on_the_line_of_its_record(stream: io.StringIO) -> None:
    configure_logs("info", stream)
    try:
        raise ValueError("inner")
    except ValueError:
        logging.getLogger("x").exception("outer")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: inner" in json.loads(line)["exception"]


def test_what_is_below_the_level_is_left_out(stream: io.StringIO) -> None:
    configure_logs("warning", stream)
    logging.getLogger("x").info("quiet")
    assert stream.getvalue() == ""
