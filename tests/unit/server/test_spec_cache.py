"""Definitions of studies are decoded once, as long as there is room for them."""

import pytest

from bbopt.errors import DataLossError
from bbopt.rpc.study import study_spec_to_message
from bbopt.specs import RandomSpec, StudySpec
from bbopt_server.storage.store import StudyRow
from bbopt_server.studies.records import SpecCache
from tests.unit.compute.recorded import PROBLEM

SPEC = study_spec_to_message(StudySpec(PROBLEM, RandomSpec(), seed=1)).SerializeToString()


def study(uid: str, spec: bytes = SPEC) -> StudyRow:
    return StudyRow(
        key=1,
        uid=uid,
        project="default",
        study_id=uid,
        display_name="",
        spec=spec,
        state="ACTIVE",
        state_reason=b"",
        labels=b"",
        n_trials=0,
        revision=1,
        cost_spent=0.0,
        created_at=0.0,
        updated_at=0.0,
        etag="",
    )


def test_the_definition_used_longest_ago_leaves_first() -> None:
    cache = SpecCache(max_bytes=2 * len(SPEC))
    a, b = cache.spec_of(study("a")), cache.spec_of(study("b"))
    assert cache.spec_of(study("a")) is a
    cache.spec_of(study("c"))
    assert cache.spec_of(study("a")) is a
    assert cache.spec_of(study("b")) is not b


def test_a_definition_that_is_too_long_is_kept_until_the_next_one() -> None:
    cache = SpecCache(max_bytes=1)
    a = cache.spec_of(study("a"))
    assert cache.spec_of(study("a")) is a
    cache.spec_of(study("b"))
    assert cache.spec_of(study("a")) is not a


def test_a_definition_that_cannot_be_read_is_not_kept() -> None:
    cache, broken = SpecCache(), study("a", spec=b"")
    for _ in range(2):
        with pytest.raises(DataLossError):
            cache.spec_of(broken)
    assert cache.spec_of(study("a")).seed == 1
