from hypothesis import given
from hypothesis import strategies as st

from bbopt.rpc.log import (
    event_to_message,
    strategy_state_to_bytes,
    suggestion_from_bytes,
    suggestion_to_bytes,
)
from bbopt.rpc.splice import varint
from bbopt.rpc.v1 import log_pb2
from bbopt.trial import Asked, NewTrial, Provenance, Stage, StrategyState, Suggestion
from bbopt_server.studies.records import asked_to_bytes, begun_at

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
