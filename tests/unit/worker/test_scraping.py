"""Metrics in standard output, in each of the known forms."""

import time

import pytest

from bbopt.errors import InvalidError
from bbopt.trial import Value
from bbopt_client.worker.readings import NotFinite, Report, Unreadable
from bbopt_client.worker.scraping import Scraped, parse_metrics_option

NAMES = frozenset({"loss", "acc", "val-acc"})


def read(option: str, line: str) -> object:
    return parse_metrics_option(option, NAMES).read(line.encode())


@pytest.mark.parametrize("option", ["auto", "syne-tune", "regex=(\\w+): (\\S+)"])
def test_a_marked_line_is_a_report(option: str) -> None:
    assert read(option, '::bbopt::{"loss": 1, "step": 2}') == Report({"loss": Value(1)}, 2)


def test_a_marked_line_is_found_behind_a_progress_bar() -> None:
    line = '\r 50%|#####     | ::bbopt::{"loss": 1}\r\n'
    assert read("auto", line) == Report({"loss": Value(1)})


def test_half_a_marked_line_is_unreadable() -> None:
    assert isinstance(read("auto", '::bbopt::{"loss": 1'), Unreadable)


def test_a_syne_tune_line_is_an_intermediate_report() -> None:
    line = '[tune-metric]: {"epoch": 4, "loss": 0.5, "st_worker_iter": 3, "st_worker_cost": 1}'
    assert read("auto", line) == Report({"loss": Value(0.5)}, 3)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("loss=0.5", {"loss": Value(0.5)}),
        ("epoch 3: loss = 1e-3, acc=.9 lr=0.1", {"loss": Value(1e-3), "acc": Value(0.9)}),
        ("val-acc=0.8 acc=0.7", {"val-acc": Value(0.8), "acc": Value(0.7)}),
        ("loss=-2.", {"loss": Value(-2.0)}),
        ("loss=nan", {"loss": NotFinite("nan")}),
        ("loss=1,acc=2, done", {"loss": Value(1.0), "acc": Value(2.0)}),
    ],
)
@pytest.mark.parametrize("option", ["auto", "katib"])
def test_name_and_value_are_picked_out_of_a_log_line(
    option: str, line: str, expected: dict[str, object]
) -> None:
    assert read(option, line) == Scraped(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "line",
    [
        *("train_loss=3", "loss: 3", "loss=abc", "loss=1.2.3", "closs=1"),
        *("loss=0,5", "loss=12,5e-3", "loss=1,024.5"),
    ],
)
def test_other_words_are_not_metrics(line: str) -> None:
    assert read("katib", line) is None


def test_jsonl_looks_at_no_output() -> None:
    assert read("jsonl", '::bbopt::{"loss": 1}') is None
    assert read("jsonl", "loss=1") is None


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (r"final loss: (?P<loss>\S+)", "final loss: 0.5 after 3 s"),
        (r"(?P<name>\w+) -> (?P<value>\S+)", "loss -> 0.5"),
        (r"(\w+) is (\S+)", "loss is 0.5"),
    ],
)
def test_a_pattern_finds_values(pattern: str, line: str) -> None:
    assert read(f"regex={pattern}", line) == Scraped({"loss": Value(0.5)})


@pytest.mark.parametrize(
    "option", ["", "json", "auto=1", "regex=", "regex=(", "regex=loss", "regex=(?P<other>x)"]
)
def test_a_wrong_option_is_refused(option: str) -> None:
    with pytest.raises(InvalidError, match="--metrics"):
        parse_metrics_option(option, NAMES)


def test_a_long_line_of_noise_costs_little() -> None:
    reader = parse_metrics_option("auto", NAMES)
    started = time.perf_counter()
    reader.read(b"loss " * 200_000)
    assert time.perf_counter() - started < 1.0


def test_bytes_that_are_no_text_are_survived() -> None:
    assert parse_metrics_option("auto", NAMES).read(b"\xff\xfe\x00loss=1\x80") == Scraped(
        {"loss": Value(1)}
    )
