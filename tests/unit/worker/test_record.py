"""What counts at the end, out of everything a program has said."""

from bbopt.trial import Value
from bbopt_client.worker.readings import NotFinite, Report, Unreadable, read_json
from bbopt_client.worker.record import Diverged, Full, Lacking, MetricsRecord

REQUIRED = frozenset({"loss", "size"})


def record(*reports: Report) -> MetricsRecord:
    filled = MetricsRecord(REQUIRED)
    for report in reports:
        filled.add(report)
    return filled


def values(**metrics: float) -> dict[str, Value | NotFinite]:
    return {name: Value(value) for name, value in metrics.items()}


def test_the_last_value_without_a_step_counts() -> None:
    told = record(Report(values(loss=2, size=1)), Report(values(loss=1)))
    assert told.final() == Full({"loss": Value(1), "size": Value(1)})


def test_the_last_full_step_counts_when_nothing_else_was_said() -> None:
    told = record(
        Report(values(loss=3, size=1), 0),
        Report(values(loss=2, size=1), 1),
        Report(values(loss=1), 2),
    )
    assert told.final() == Full({"loss": Value(2), "size": Value(1)})


def test_a_constant_said_once_completes_each_step() -> None:
    told = record(Report(values(size=7)), Report(values(loss=2), 0), Report(values(loss=1), 1))
    assert told.final() == Full({"loss": Value(1), "size": Value(7)})


def test_values_of_different_steps_are_never_mixed() -> None:
    told = record(Report(values(size=7), 0), Report(values(loss=1), 1))
    assert told.final() == Lacking(("size",), "")


def test_reports_outrank_scraped_values() -> None:
    told = record(Report(values(loss=1), 0))
    told.add_scraped(values(loss=9, size=5))
    assert told.final() == Full({"loss": Value(1), "size": Value(5)})


def test_the_note_says_what_could_not_be_read() -> None:
    told = record()
    told.add(Unreadable("not JSON: {"))
    assert told.final() == Lacking(("loss", "size"), "not JSON: {")


def test_a_required_metric_that_diverged_is_named() -> None:
    told = record(Report({"loss": NotFinite("nan"), **values(size=1)}))
    assert told.final() == Diverged({"loss": "nan"})


def test_a_tracked_metric_that_diverged_is_left_out() -> None:
    told = record(Report({"grad": NotFinite("inf"), **values(loss=1, size=1)}))
    assert told.final() == Full({"loss": Value(1), "size": Value(1)})


def test_an_unreadable_result_file_is_a_fault_of_its_own() -> None:
    told = record(Report(values(loss=1, size=1)))
    told.add_result(Unreadable("not JSON"))
    assert told.result_fault == "not JSON"


def test_partial_values_are_those_of_the_last_step() -> None:
    told = record(Report(values(loss=3, size=1), 0), Report(values(loss=2), 1))
    assert told.partial() == {"loss": Value(2)}


def test_a_misspelt_metric_is_named_where_one_is_missing() -> None:
    names = frozenset({"loss", "size"})
    told = MetricsRecord(REQUIRED)
    told.add(read_json('{"metrics": {"loss": 1}}', names))
    told.add(read_json('{"step": 3, "val_loss": 0.5}', names))
    assert told.final() == Lacking(("loss", "size"), "not metrics of the study: val_loss")


def test_a_line_without_metrics_takes_nothing_back() -> None:
    told = record(Report(values(loss=2), 1), Report({}, 1, strangers=("learning_rate",)))
    assert told.partial() == {"loss": Value(2)}
