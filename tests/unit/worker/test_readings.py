"""One JSON object: what it says about a trial."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbopt.rpc.trial import outcome_to_message
from bbopt.trial import Completed, Failed, Infeasible, Value
from bbopt_client.worker.ending import Exit, judge
from bbopt_client.worker.readings import (
    InfeasibleReport,
    NotFinite,
    Reading,
    Report,
    Unreadable,
    read_json,
)
from bbopt_client.worker.record import MetricsRecord

NAMES = frozenset({"loss", "acc"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"loss": 0.5}', Report({"loss": Value(0.5)})),
        ('{"loss": 1}', Report({"loss": Value(1.0)})),
        ('{"loss": 0.5, "step": 3}', Report({"loss": Value(0.5)}, 3)),
        ('{"loss": [0.5, 0.1]}', Report({"loss": Value(0.5, 0.1)})),
        (
            '{"loss": {"value": 0.5, "sd": 0.1, "replicates": 4}}',
            Report({"loss": Value(0.5, 0.1, 4)}),
        ),
        ('{"loss": {"value": 2}}', Report({"loss": Value(2.0)})),
        ('{"loss": 0.5, "epoch": 3, "note": "x"}', Report({"loss": Value(0.5)})),
        ("{}", Report({})),
        ('{"loss": NaN}', Report({"loss": NotFinite("nan")})),
        ('{"loss": -Infinity}', Report({"loss": NotFinite("-inf")})),
        ('{"infeasible": "mesh failed"}', InfeasibleReport("mesh failed")),
        ('{"infeasible": true}', InfeasibleReport("infeasible")),
        ('{"infeasible": false, "loss": 1}', Report({"loss": Value(1.0)})),
    ],
)
def test_a_report_is_read(text: str, expected: Reading) -> None:
    assert read_json(text, NAMES) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"loss": 0.',
        "[1, 2]",
        "3",
        '{"loss": true}',
        '{"loss": [true, 1]}',
        '{"loss": "0.5"}',
        '{"loss": null}',
        '{"loss": [0.5, -1]}',
        '{"loss": [0.5, NaN]}',
        '{"loss": [1, 2, 3]}',
        '{"loss": {"value": 1, "mean": 2}}',
        '{"loss": {"value": 1, "replicates": 0}}',
        '{"step": -1, "loss": 1}',
        '{"step": 1.5, "loss": 1}',
        '{"step": true, "loss": 1}',
        "[" * 100_000,
    ],
)
def test_what_is_no_report_is_named_as_unreadable(text: str) -> None:
    assert isinstance(read_json(text, NAMES), Unreadable)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(10**400), 10**400) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["loss", "step", "value", "sd", "replicates", "infeasible"])
            | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(JSON | st.dictionaries(st.sampled_from(["loss", "step", "infeasible"]), JSON))
def test_any_json_is_read_and_what_it_says_can_be_sent(value: object) -> None:
    record = MetricsRecord(frozenset({"loss"}))
    record.add_result(read_json(json.dumps(value), frozenset({"loss"})))
    ending = judge(Exit(0, 1.0, ""), record)
    assert isinstance(ending, Completed | Failed | Infeasible)
    message = outcome_to_message(ending)
    assert type(message).FromString(message.SerializeToString()) == message


def test_an_integer_beyond_every_float_is_not_finite() -> None:
    assert read_json('{"loss": 1' + "0" * 400 + "}", NAMES) == Report(
        {"loss": NotFinite("too large")}
    )


def test_the_finite_part_leaves_out_what_diverged() -> None:
    reading = read_json('{"loss": NaN, "acc": 1}', NAMES)
    assert isinstance(reading, Report)
    assert reading.finite == {"acc": Value(1.0)}
