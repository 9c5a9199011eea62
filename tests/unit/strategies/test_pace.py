"""What fits into the time that is left."""

import pytest

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
