from collections.abc import Callable
from pathlib import Path

import pytest

from bbopt.errors import DataLossError, SpecError
from bbopt.rpc.v1 import log_pb2, study_pb2
from bbopt_server.compute.hot import BehindError, HotStudies
from tests.unit.compute.fake_process import FakeOptimizer
from tests.unit.compute.recorded import RecordedStudy
from tests.waiting import Clock

MODELS = 1000
"""Bytes of a study's models, by the meter of these tests."""


def hot_studies(
    *,
    max_studies: int | None = 3,
    max_bytes: int = 10**6,
    clock: Callable[[], float] = lambda: 0.0,
) -> HotStudies:
    return HotStudies(
        lambda spec: FakeOptimizer(spec.drawn_seed, Path("nowhere")),
        n_bytes=lambda _: MODELS,
        max_studies=max_studies,
        max_bytes=max_bytes,
        clock=clock,
    )


def study_with(uid: str, n_told: int) -> RecordedStudy:
    study = RecordedStudy(uid)
    study.record(n_told)
    return study


def fold(hot: HotStudies, study: RecordedStudy, since: int) -> FakeOptimizer:
    events = [log_pb2.LogEvent.FromString(each) for each in study.events[since:]]
    optimizer = hot.fold(study.uid, study.spec, since, events)
    assert isinstance(optimizer, FakeOptimizer)
    return optimizer


def test_only_the_new_events_are_folded() -> None:
    hot, study = hot_studies(), study_with("a", 3)
    first = fold(hot, study, 0)
    n_before = study.revision
    study.record(2)
    assert fold(hot, study, n_before) is first
    assert first.revision == hot.revision("a") == study.revision
    assert first.recommendation() == FakeOptimizer.recommendation(first)


def test_events_that_overlap_are_folded_once() -> None:
    hot, study = hot_studies(), study_with("a", 3)
    fold(hot, study, 0)
    study.record(2)
    twin = fold(hot_studies(), study, 0)
    again = fold(hot, study, 0)
    assert again.revision == study.revision
    assert again.suggest(2) == twin.suggest(2)


def test_a_gap_is_asked_for_and_the_study_stays() -> None:
    hot, study = hot_studies(), study_with("a", 3)
    kept = fold(hot, study, 0)
    n_before = study.revision
    study.record(3)
    with pytest.raises(BehindError) as caught:
        fold(hot, study, n_before + 2)
    assert caught.value.revision == n_before
    assert fold(hot, study, n_before) is kept


def test_the_study_used_longest_ago_is_dropped_first() -> None:
    hot = hot_studies(max_studies=2)
    studies = [study_with(uid, 1) for uid in "abc"]
    for study in studies[:2]:
        fold(hot, study, 0)
    fold(hot, studies[0], studies[0].revision)
    fold(hot, studies[2], 0)
    hot.trim()
    assert [hot.revision(uid) > 0 for uid in "abc"] == [True, False, True]


def test_memory_is_a_bound_but_the_last_study_stays() -> None:
    hot = hot_studies(max_bytes=1)
    for uid in "abc":
        fold(hot, study_with(uid, 1), 0)
        hot.trim()
        assert len(hot) == 1
        assert hot.revision(uid) > 0


def test_a_study_that_cannot_be_folded_is_not_there() -> None:
    hot, study = hot_studies(), study_with("a", 1)
    fold(hot, study, 0)
    with pytest.raises(DataLossError):
        hot.fold("a", study.spec, study.revision, [log_pb2.LogEvent()])
    assert hot.revision("a") == 0


def test_a_study_without_a_definition_is_refused() -> None:
    with pytest.raises(SpecError):
        hot_studies().fold("a", study_pb2.StudySpec(), 0, [])


def rests(*optimizers: FakeOptimizer) -> list[int]:
    return [each.n_rests for each in optimizers]


def test_models_go_before_studies_do_and_the_oldest_first() -> None:
    one = hot_studies()
    fold(one, study_with("a", 2), 0)
    of_one = one.n_bytes
    hot = hot_studies(max_bytes=3 * of_one - MODELS - 1)
    a, b, c = (fold(hot, study_with(uid, 2), 0) for uid in "abc")
    assert hot.n_bytes == 3 * of_one
    hot.trim()
    assert rests(a, b, c) == [1, 1, 0]
    assert len(hot) == 3
    assert hot.n_bytes == 3 * of_one - 2 * MODELS
    assert hot.take_dropped() == []


def test_a_study_at_rest_wakes_up_where_it_was() -> None:
    study, clock = study_with("a", 2), Clock()
    hot = hot_studies(clock=clock)
    kept = fold(hot, study, 0)
    n_bytes = hot.n_bytes
    clock.now_s += 10.0
    assert hot.rest(idle_s=10.0, n_most=9) == 1
    assert (hot.n_at_rest, hot.n_bytes) == (1, n_bytes - MODELS)
    assert fold(hot, study, study.revision) is kept
    assert (hot.n_at_rest, hot.n_bytes) == (0, n_bytes)


def test_only_studies_that_nobody_used_for_a_while_rest_and_a_few_at_a_time() -> None:
    clock = Clock()
    hot = hot_studies(clock=clock)
    studies = [study_with(uid, 1) for uid in "abc"]
    a, b, c = (fold(hot, study, 0) for study in studies)
    clock.now_s += 5.0
    fold(hot, studies[0], studies[0].revision)
    clock.now_s += 5.0
    assert hot.rest(idle_s=10.0, n_most=1) == 1
    assert rests(a, b, c) == [0, 1, 0]
    assert hot.rest(idle_s=10.0, n_most=1) == 1
    assert hot.rest(idle_s=10.0, n_most=1) == 0
    assert rests(a, b, c) == [0, 1, 1]


def test_studies_that_had_to_go_are_named_once_and_those_that_were_forgotten_never() -> None:
    hot = hot_studies(max_studies=1)
    for uid in "abc":
        fold(hot, study_with(uid, 1), 0)
        hot.trim()
    assert hot.take_dropped() == ["a", "b"]
    hot.drop("c")
    assert hot.take_dropped() == []
    assert (len(hot), hot.n_bytes) == (0, 0)


def test_memory_is_given_back_whatever_happens_to_a_study() -> None:
    hot = hot_studies()
    study = study_with("a", 3)
    fold(hot, study, 0)
    study.events.append(b"")
    with pytest.raises(DataLossError):
        fold(hot, study, study.revision - 1)
    assert hot.n_bytes == 0
    fold(hot, study_with("b", 1), 0)
    assert hot.n_bytes > 0
    hot.clear()
    assert hot.n_bytes == 0


def test_a_longer_log_counts_for_more() -> None:
    short, long = hot_studies(), hot_studies()
    fold(short, study_with("a", 2), 0)
    study = study_with("a", 2)
    fold(long, study, 0)
    study.record(50)
    fold(long, study, 5)
    assert long.n_bytes > short.n_bytes + 50 * 100
