from hypothesis import given
from hypothesis import strategies as st

from bbopt.rpc.log import (
    event_to_message,
    strategy_state_to_bytes,
    suggestion_from_bytes,
    suggestion_to_bytes,
)
from bbopt.rpc.names import StudyName
from bbopt.rpc.splice import varint
from bbopt.rpc.v1 import log_pb2, trial_pb2
from bbopt.rpc.v1 import optimization_service_pb2 as service_pb2
from bbopt.trial import (
    Asked,
    NewTrial,
    Outcome,
    Provenance,
    Stage,
    StrategyState,
    Suggestion,
    Told,
)
from bbopt_server.rpc import writing
from bbopt_server.storage.store import TrialRow
from bbopt_server.studies.answers import AskAnswer, AskReason, TrialView
from bbopt_server.studies.records import (
    asked_to_bytes,
    begun_at,
    event_to_bytes,
    outcome_to_bytes,
    told_to_bytes,
    trial_labels_to_bytes,
)
from tests.contract.store_contract import trial_row
from tests.wire.examples import OUTCOMES

POINTS = st.dictionaries(
    st.text("abcxyz", min_size=1, max_size=40),
    st.one_of(st.floats(0, 1), st.integers(0, 9), st.booleans(), st.text(max_size=200)),
    max_size=4,
)
PROVENANCES = st.builds(
    Provenance, st.just("sobol"), data_revision=st.integers(0, 2**40), reason=st.text("ab")
)
SUGGESTIONS = st.builds(
    Suggestion, POINTS, PROVENANCES, st.none() | st.builds(Stage, st.integers(1, 9))
)


@given(st.integers(0, 2**63 - 1))
def test_an_encoded_integer_reads_as_itself(number: int) -> None:
    field = bytes([log_pb2.NewTrial.NUMBER_FIELD_NUMBER << 3]) + varint(number)
    assert log_pb2.NewTrial.FromString(field).number == number


@given(SUGGESTIONS)
def test_a_suggestion_reads_as_it_was_written(suggestion: Suggestion) -> None:
    assert suggestion_from_bytes(suggestion_to_bytes(suggestion)) == suggestion


@given(
    st.lists(SUGGESTIONS, min_size=1, max_size=3),
    st.integers(1, 2**40),
    st.none() | st.integers(0, 2**40),
)
def test_an_ask_put_together_is_the_ask_that_is_written_as_a_whole(
    suggestions: list[Suggestion], first: int, counter: int | None
) -> None:
    trials = tuple(
        NewTrial(number, each.parameters, each.provenance, each.stage)
        for number, each in enumerate(suggestions, start=first)
    )
    state = None if counter is None else StrategyState("sobol", 1, {"counter": counter}, {})
    whole = event_to_message(Asked(trials, state))
    points = [suggestion_to_bytes(each) for each in suggestions]
    put_together = asked_to_bytes(
        first, points, None if state is None else strategy_state_to_bytes(state)
    )
    assert put_together.payload == whole.SerializeToString(deterministic=True)
    assert put_together.trials == tuple(
        each.SerializeToString(deterministic=True) for each in whole.asked.trials
    )


@given(SUGGESTIONS)
def test_a_stage_is_filled_in_only_where_the_strategy_chose_none(
    suggestion: Suggestion,
) -> None:
    begun = suggestion_from_bytes(begun_at(suggestion_to_bytes(suggestion), Stage(7)))
    assert begun.stage == (suggestion.stage or Stage(7))
    assert (begun.parameters, begun.provenance) == (
        suggestion.parameters,
        suggestion.provenance,
    )


@given(st.integers(1, 2**63 - 1), st.sampled_from(list(OUTCOMES.values())), st.booleans())
def test_a_result_put_together_is_the_event_written_as_a_whole(
    number: int, outcome: Outcome, is_late: bool
) -> None:
    put_together = told_to_bytes(number, outcome_to_bytes(outcome), is_late=is_late)
    assert ("told", put_together) == event_to_bytes(Told(number, outcome, is_late))


@given(st.lists(SUGGESTIONS, max_size=3), st.sampled_from([None, 1.5]))
def test_an_answer_put_together_reads_as_the_one_written_as_a_whole(
    points: list[Suggestion], retry_after_s: float | None
) -> None:
    views = tuple(
        TrialView(StudyName("p", "s"), _handed_out(number, point), 9.5, is_for_holder=True)
        for number, point in enumerate(points, 1)
    )
    answer = AskAnswer(views, AskReason.COUNT_MET, "ACTIVE", retry_after_s)
    written = service_pb2.AskTrialsResponse.FromString(writing.asked(answer))
    assert list(written.trials) == [writing.trial(each) for each in views]
    assert written.reason == service_pb2.AskTrialsResponse.REASON_COUNT_MET
    assert written.HasField("retry_after") is (retry_after_s is not None)


def test_parts_of_a_point_have_the_numbers_that_they_have_in_the_whole() -> None:
    for whole, parts in (
        (log_pb2.NewTrial, log_pb2.NewTrialParts),
        (trial_pb2.Trial, log_pb2.TrialParts),
    ):
        fields = parts.DESCRIPTOR.fields_by_name
        assert sorted(fields) == ["parameters", "provenance", "stage"]
        for name, field in fields.items():
            assert whole.DESCRIPTOR.fields_by_name[name].number == field.number


def _handed_out(number: int, point: Suggestion) -> TrialRow:
    data = asked_to_bytes(number, [suggestion_to_bytes(point)], None).trials[0]
    labels = trial_labels_to_bytes({"a": "b"})
    return trial_row(
        1,
        number,
        point=data,
        labels=labels,
        attempt=2,
        lease_token="t",  # noqa: S106
        started_at=2.5,
    )
