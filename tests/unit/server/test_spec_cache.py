"""Definitions of studies are decoded once, as long as there is room for them."""

import pytest

from bbopt.errors import DataLossError
from bbopt.rpc.study import study_spec_to_message
from bbopt.specs import RandomSpec, StudySpec
from bbopt_server.storage.store import StudyRow
from bbopt_server.studies.records import SpecCache
from tests.contract.store_contract import study_row
from tests.unit.compute.recorded import PROBLEM

SPEC = study_spec_to_message(StudySpec(PROBLEM, RandomSpec(), seed=1)).SerializeToString()


def study(uid: str, spec: bytes = SPEC) -> StudyRow:
    return study_row(uid, key=1, uid=uid, spec=spec)


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
