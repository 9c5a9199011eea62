from collections.abc import Callable

import pytest
from google.protobuf.duration_pb2 import Duration

from bbopt.errors import SpecError
from bbopt.problem import Goal, Metric, Problem
from bbopt.rpc import study
from bbopt.rpc.v1 import study_pb2
from bbopt.space import Float, Space
from bbopt.specs import AutoSpec, GPSpec, LeasePolicy, StudySpec

PROBLEM = Problem(Space((Float("x", 0.0, 1.0),)), (Metric("y", goal=Goal.MAXIMIZE),))


def message() -> study_pb2.StudySpec:
    return study.study_spec_to_message(StudySpec(PROBLEM))


def fields_refused(spec: study_pb2.StudySpec, *, is_new: bool = False) -> list[str]:
    with pytest.raises(SpecError) as caught:
        study.study_spec_from_message(spec, is_new=is_new)
    return [each.field for each in caught.value.violations]


def test_what_is_unset_takes_its_default() -> None:
    spec = message()
    for field in ("strategy", "lease", "budget", "seed"):
        spec.ClearField(field)
    expected = StudySpec(PROBLEM, AutoSpec(), seed=None, lease=LeasePolicy())
    assert study.study_spec_from_message(spec) == expected


def test_faults_of_every_part_are_listed_at_once() -> None:
    spec = message()
    spec.parameters[0].ClearField("double_domain")
    spec.metrics[0].kind = 0  # type: ignore[assignment]
    spec.metrics[0].goal = 7  # type: ignore[assignment]
    spec.strategy.Clear()
    spec.lease.duration.nanos = -1
    spec.lease.max_attempts = -1
    assert fields_refused(spec) == [
        "parameters[0].domain",
        "metrics[0].kind",
        "metrics[0].goal",
        "strategy",
        "lease.duration",
        "lease.max_attempts",
    ]


def test_a_strategy_of_a_newer_client_is_refused_not_replaced_by_auto() -> None:
    spec = message()
    # Field 99 of Strategy, length-delimited and empty: a kind this version does not know.
    spec.strategy.CopyFrom(study_pb2.Strategy.FromString(b"\x9a\x06\x00"))
    assert fields_refused(spec) == ["strategy"]


def test_settings_of_a_strategy_are_checked() -> None:
    spec = message()
    spec.strategy.gp.n_initial = -1
    spec.strategy.gp.quality = 9  # type: ignore[assignment]
    assert fields_refused(spec) == ["strategy.gp.quality", "strategy.gp.n_initial"]


def test_what_can_be_read_is_checked_although_other_parts_cannot() -> None:
    spec = message()
    spec.parameters[0].double_domain.min = 2.0
    spec.parameters.add(id="unset")
    spec.parameters[1].active_if.between.parent = "x"
    hanging = spec.parameters.add(id="z", bool_domain=study_pb2.BoolDomain())
    hanging.active_if.equals.parent = "unset"  # Not blamed for what its parent lacks.
    hanging.active_if.equals.values.add(bool_value=True)
    spec.parameter_constraints.add()
    spec.parameter_constraints.add().linear.coefficients["nobody"] = 1.0
    spec.metrics.add(id="m", kind=99)
    spec.budget.max_cost = 3.0  # Perhaps m is the cost.
    spec.fidelity.high = 1
    assert fields_refused(spec) == [
        "parameters[1].domain",
        "parameter_constraints[0]",
        "parameters[0].double_domain.min",
        "parameter_constraints[1].linear.coefficients[nobody]",
        "parameter_constraints[1].linear.lower",
        "metrics[1].kind",
        "fidelity.id",
        "fidelity.low",
    ]


def test_a_lease_of_a_new_study_lasts_thirty_days_at_most() -> None:
    spec = message()
    spec.lease.duration.seconds = 30 * 24 * 3600
    new = study.study_spec_from_message(spec, is_new=True)
    assert new.lease.duration_s == 30 * 24 * 3600
    spec.lease.duration.nanos = 1
    spec.strategy.Clear()
    assert fields_refused(spec, is_new=True) == ["strategy", "lease.duration"]


def test_a_stored_lease_may_be_older_than_the_limit_of_new_ones() -> None:
    spec = message()
    spec.lease.duration.seconds = 400 * 24 * 3600
    stored = study.study_spec_from_message(spec)
    assert stored.lease.duration_s == 400 * 24 * 3600
    assert study.study_spec_to_message(stored) == spec


@pytest.mark.parametrize("make", [LeasePolicy, LeasePolicy.of_new_study])
@pytest.mark.parametrize("duration_s", [float("nan"), float("inf"), -1.0])
def test_every_fault_of_a_lease_is_listed(
    make: Callable[[float, int], LeasePolicy], duration_s: float
) -> None:
    with pytest.raises(SpecError) as caught:
        make(duration_s, 0)
    fields = [each.field for each in caught.value.violations]
    assert fields == ["duration_s", "max_attempts"]


def test_zero_seconds_is_a_lease_for_ever_and_unset_is_the_default() -> None:
    for_ever = study_pb2.LeasePolicy(duration=Duration())
    assert study.lease_policy_from_message(for_ever).duration_s == 0.0
    assert study.lease_policy_from_message(study_pb2.LeasePolicy()) == LeasePolicy()


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_must_fit_its_field(seed: int) -> None:
    with pytest.raises(SpecError, match="seed"):
        study.study_spec_to_message(StudySpec(PROBLEM, seed=seed))


@pytest.mark.parametrize("seed", [None, 0, 2**63, 2**64 - 1])
def test_every_seed_and_none_survive(seed: int | None) -> None:
    spec = StudySpec(PROBLEM, GPSpec(), seed)
    assert study.study_spec_from_message(study.study_spec_to_message(spec)).seed == seed
