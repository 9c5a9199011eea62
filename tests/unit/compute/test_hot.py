from pathlib import Path

import pytest

from bbopt.errors import DataLossError, SpecError
from bbopt.rpc.v1 import log_pb2, study_pb2
from bbopt_server.compute.hot import BehindError, HotStudies
from tests.unit.compute.fake_process import FakeOptimizer
from tests.unit.compute.recorded import RecordedStudy


def hot_studies(*, max_studies: int = 3, max_bytes: int = 10**6) -> HotStudies:
    return HotStudies(
        lambda spec: FakeOptimizer(spec.seed, Path("nowhere")),
        n_bytes=lambda _: 1000,
        max_studies=max_studies,
        max_bytes=max_bytes,
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
