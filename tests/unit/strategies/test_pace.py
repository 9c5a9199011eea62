"""What fits into the time that is left."""

import pytest

from bbopt import Float, Optimizer, Problem
from bbopt.specs import GPSpec
from bbopt.strategies.pace import Effort, Pace, nominal_fit_s, nominal_search_s


def effort(pace: Pace, time_left_s: float | None) -> Effort:
    return pace.effort(n=1, n_rows=100, n_models=1, time_left_s=time_left_s)


def test_without_a_deadline_everything_is_done_whatever_it_costs() -> None:
    assert effort(Pace(fit_factor=1e9, search_factor=1e9), None) is Effort.FULL


def test_less_time_means_less_effort() -> None:
    efforts = [effort(Pace(), seconds) for seconds in (1.0, 0.03, 0.0)]
    assert efforts == [Effort.FULL, Effort.SHORT, Effort.NONE]


def test_it_learns_how_fast_the_machine_is() -> None:
    pace = Pace()
    for _ in range(12):
        pace.learn(
            n=1,
            n_rows=100,
            n_models=1,
            fit_s=10.0 * nominal_fit_s(100, 1),
            search_s=0.1 * nominal_search_s(100, 1),
        )
    assert pace.fit_factor == pytest.approx(10.0, rel=0.01)
    assert pace.search_factor == pytest.approx(0.1, rel=0.01)
    assert effort(pace, 0.05) is Effort.SHORT


def test_a_study_of_any_size_has_time_for_its_models_in_the_time_of_an_ask() -> None:
    for n_rows in (1_000, 5_000, 20_000, 100_000):
        fresh = Pace()  # As after a restart, when nothing has been measured.
        found = fresh.effort(n=1, n_rows=n_rows, n_models=4, time_left_s=30.0)
        assert found is Effort.FULL, n_rows


def test_more_results_never_promise_less_time() -> None:
    sizes = (0, 10, 999, 1_000, 1_001, 50_000)
    for nominal_s in (nominal_fit_s, nominal_search_s):
        times = [nominal_s(n_rows, 2) for n_rows in sizes]
        assert times == sorted(times)
        assert times[0] > 0


def test_asks_without_a_model_do_not_go_on_for_ever() -> None:
    pace = Pace(search_factor=1e3)
    efforts = [effort(pace, 1.0) for _ in range(40)]
    assert efforts[0] is Effort.NONE
    assert efforts[-1] is not Effort.NONE


def test_asks_without_any_time_do_not_make_later_ones_bold() -> None:
    pace = Pace()
    for _ in range(100):
        effort(pace, 0.0)
    assert 0.29 < pace.search_factor < 0.31


def test_a_short_ask_teaches_how_long_a_search_takes() -> None:
    pace = Pace()
    for _ in range(12):
        search_s = 0.5 * 0.2 * nominal_search_s(100, 1)
        pace.learn(n=1, n_rows=100, n_models=1, fit_s=None, search_s=search_s)
    assert pace.search_factor == pytest.approx(0.2, rel=0.01)
    assert pace.fit_factor == Pace().fit_factor


def test_what_was_learnt_outlives_an_answer_that_is_not_stored() -> None:
    problem = Problem.of([Float("x", 0, 1)], objective="-loss")
    optimizer = Optimizer(problem, GPSpec(n_initial=2), seed=1)
    for _ in range(3):
        (trial,) = optimizer.ask()
        optimizer.tell(trial, 1.0)
    pace = optimizer._context.pace
    pace.fit_factor = pace.search_factor = 1e6  # Then there is no time for a model.

    for _ in range(2):  # The second makes the strategy anew, because the first was not stored.
        (suggestion,) = optimizer.suggest(1, time_left_s=60.0).suggestions
        assert suggestion.provenance.degraded_from == "gp"
