"""Slots of a round, as the log tells what became of them."""

import pytest

from bbopt import Float, Metric, Problem, Space
from bbopt.population.rounds import Round, of_suggestion, of_trial
from bbopt.problem import Goal
from bbopt.space import Codec
from bbopt.trial import (
    Abandoned,
    Amended,
    Asked,
    Columns,
    Completed,
    Enqueued,
    Failed,
    Infeasible,
    Measurement,
    NewTrial,
    Outcome,
    Provenance,
    StrategyState,
    Told,
    Value,
)

PROBLEM = Problem(Space((Float("x", 0.0, 1.0),)), (Metric("y", goal=Goal.MAXIMIZE),))
DONE = Completed(Measurement({"y": Value(1.0)}))


def new(number: int) -> NewTrial:
    return NewTrial(number, {"x": number / 100}, Provenance("cma_es"))


@pytest.fixture
def columns() -> Columns:
    """Trials 1 and 3 to 5 are the strategy's, 2 and 6 are not."""
    state = StrategyState("cma_es")
    return Columns(
        PROBLEM,
        Codec(PROBLEM.space),
        [
            Asked((new(1),), state),
            Enqueued(new(2)),
            Asked((new(3), new(4), new(5)), state),
            Asked((new(6),), None),
        ],
    )


FOUR = Round(4, tuple(of_suggestion(index) for index in range(4)))


def test_suggestions_are_counted_without_what_others_proposed(columns: Columns) -> None:
    assert [columns.suggested_number(index) for index in range(5)] == [1, 3, 4, 5, None]


def test_slots_are_open_until_their_trials_end(columns: Columns) -> None:
    assert FOUR.standing(columns).n_open == 4
    for number in (5, 1):
        columns.fold(Told(number, DONE))
    standing = FOUR.standing(columns)
    assert (standing.measured, standing.n_open, standing.n_lost) == ((0, 3), 2, 0)
    assert [int(columns.numbers[row]) for row in standing.rows] == [1, 5]
    assert FOUR.n_to_draw(standing) == 0


def test_a_slot_whose_suggestion_is_not_stored_yet_is_open(columns: Columns) -> None:
    standing = Round(2, (of_suggestion(4), of_suggestion(5))).standing(columns)
    assert standing.n_open == 2


@pytest.mark.parametrize("outcome", [Failed("power cut"), Abandoned("lost")])
def test_a_trial_that_says_nothing_is_drawn_again(columns: Columns, outcome: Outcome) -> None:
    columns.fold(Told(3, outcome))
    standing = FOUR.standing(columns)
    assert (standing.n_lost, FOUR.n_to_draw(standing)) == (1, 1)
    assert not FOUR.is_complete(standing)


def test_a_point_that_cannot_be_evaluated_has_a_result(columns: Columns) -> None:
    columns.fold(Told(3, Infeasible("diverged")))
    assert FOUR.standing(columns).measured == (1,)


def test_a_lost_trial_that_is_found_counts_beside_its_replacement(columns: Columns) -> None:
    columns.fold(Told(3, Failed("lease expired")))
    round_ = FOUR.with_slot(of_suggestion(4))
    columns.fold(Asked((new(7),), StrategyState("cma_es")))
    for number in (1, 4, 5, 7):
        columns.fold(Told(number, DONE))
    assert round_.is_complete(round_.standing(columns))
    columns.fold(Told(3, DONE, late=True))
    assert round_.standing(columns).measured == (0, 1, 2, 3, 4)


def test_a_result_that_is_withdrawn_is_drawn_again(columns: Columns) -> None:
    columns.fold(Told(3, DONE))
    columns.fold(Amended(3, Failed("wrong machine"), ""))
    assert FOUR.n_to_draw(FOUR.standing(columns)) == 1


def test_a_slot_may_stand_on_a_trial_of_somebody_else(columns: Columns) -> None:
    round_ = Round(1, (of_trial(2),))
    assert round_.standing(columns).n_open == 1
    columns.fold(Told(2, DONE))
    assert round_.is_complete(round_.standing(columns))


@pytest.mark.parametrize(("n_told", "share", "expected"), [(3, 0.75, True), (2, 0.75, False)])
def test_a_quorum_is_a_share_of_the_rounds_size(
    columns: Columns, n_told: int, share: float, expected: bool
) -> None:
    for number in (1, 3, 4)[:n_told]:
        columns.fold(Told(number, DONE))
    standing = FOUR.standing(columns)
    assert FOUR.has_quorum(standing, share, least=1) is expected
    assert not FOUR.has_quorum(standing, share, least=4)
