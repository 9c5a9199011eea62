"""What is stored and sent today must be readable for ever.

``golden.txt`` holds a line ``name hex`` for each example. A line is added with a new
example (print ``fresh()``), never changed: what renumbers, retypes or drops a field fails here.
"""

from pathlib import Path

import pytest
from google.protobuf.message import Message

from bbopt.rpc import log, study, trial
from bbopt.rpc.v1 import log_pb2, study_pb2, trial_pb2
from bbopt.trial import Asked
from tests.wire import examples

GOLDEN = {
    name: bytes.fromhex(text)
    for name, text in (
        line.split() for line in (Path(__file__).parent / "golden.txt").read_text().splitlines()
    )
}
MESSAGES: dict[str, Message] = examples.converted() | examples.written_by_hand()


def fresh() -> str:
    """The file as this version would write it."""
    lines = (
        f"{name} {message.SerializeToString(deterministic=True).hex()}"
        for name, message in MESSAGES.items()
    )
    return "\n".join(lines) + "\n"


def test_every_example_has_golden_bytes() -> None:
    assert GOLDEN.keys() == MESSAGES.keys()


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_written_as_ever(name: str) -> None:
    assert MESSAGES[name].SerializeToString(deterministic=True).hex() == GOLDEN[name].hex()


@pytest.mark.parametrize("name", MESSAGES)
def test_golden_bytes_have_no_field_that_is_unknown_today(name: str) -> None:
    message = type(MESSAGES[name]).FromString(GOLDEN[name])
    assert message == MESSAGES[name]
    n_bytes = message.ByteSize()
    message.DiscardUnknownFields()
    assert message.ByteSize() == n_bytes


@pytest.mark.parametrize("name", examples.SPECS)
def test_golden_definitions_are_read_as_ever(name: str) -> None:
    message = study_pb2.StudySpec.FromString(GOLDEN[f"spec_{name}"])
    assert study.study_spec_from_message(message) == examples.SPECS[name]


@pytest.mark.parametrize("name", examples.OUTCOMES)
def test_golden_outcomes_are_read_as_ever(name: str) -> None:
    message = trial_pb2.Outcome.FromString(GOLDEN[f"outcome_{name}"])
    assert trial.outcome_from_message(message) == examples.OUTCOMES[name]


@pytest.mark.parametrize("name", examples.EVENTS)
def test_golden_events_are_read_as_ever(name: str) -> None:
    message = log_pb2.LogEvent.FromString(GOLDEN[f"event_{name}"])
    assert log.event_from_message(message) == examples.EVENTS[name]


def test_a_golden_ask_is_read_with_its_state() -> None:
    event = log.event_from_message(log_pb2.LogEvent.FromString(GOLDEN["asked"]))
    assert isinstance(event, Asked)
    assert event.trials == examples.ASKED.trials
    assert event.state is not None
    assert event.state.equals(examples.STATE)


def test_a_golden_trial_is_read_as_ever() -> None:
    message = trial_pb2.Trial.FromString(GOLDEN["trial"])
    assert trial.trial_from_message(message) == examples.TRIAL
