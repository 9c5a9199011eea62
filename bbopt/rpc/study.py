"""Definitions of studies, settings of strategies and lease policies <-> messages."""

from typing import assert_never

from bbopt.errors import SpecError
from bbopt.problem import Problem
from bbopt.problem.problem import problem_violations
from bbopt.rpc.enums import known
from bbopt.rpc.paths import located_in, on_wire
from bbopt.rpc.problem import (
    budget_from_message,
    budget_to_message,
    fidelity_from_message,
    fidelity_to_message,
    metric_from_message,
    metric_to_message,
)
from bbopt.rpc.space import read_each, space_from_message, space_to_message
from bbopt.rpc.times import duration_from_message, duration_to_message
from bbopt.rpc.v1 import study_pb2
from bbopt.rpc.violations import Violations
from bbopt.specs import (
    NAMES,
    AshaSpec,
    AutoSpec,
    CmaEsSpec,
    GPSpec,
    LeasePolicy,
    Promotion,
    Quality,
    RandomSpec,
    SobolSpec,
    StrategySpec,
    StudySpec,
)

_QUALITY_TO_MESSAGE = {
    Quality.FAST: study_pb2.QUALITY_FAST,
    Quality.BALANCED: study_pb2.QUALITY_BALANCED,
    Quality.THOROUGH: study_pb2.QUALITY_THOROUGH,
}
_QUALITY_FROM_MESSAGE = {number: each for each, number in _QUALITY_TO_MESSAGE.items()} | {
    study_pb2.QUALITY_UNSPECIFIED: Quality.BALANCED
}
_PROMOTION_TO_MESSAGE = {
    Promotion.RESUME: study_pb2.AshaStrategy.PROMOTION_RESUME,
    Promotion.CONTINUE: study_pb2.AshaStrategy.PROMOTION_CONTINUE,
}
_PROMOTION_FROM_MESSAGE = {number: each for each, number in _PROMOTION_TO_MESSAGE.items()} | {
    study_pb2.AshaStrategy.PROMOTION_UNSPECIFIED: Promotion.RESUME
}
_INT32_MAX = 2**31 - 1
_UINT64_MAX = 2**64 - 1


def strategy_to_message(strategy: StrategySpec) -> study_pb2.Strategy:
    """Write the settings of a strategy."""
    message = study_pb2.Strategy()
    match strategy:
        case AutoSpec(quality):
            message.auto.quality = _QUALITY_TO_MESSAGE[quality]
        case RandomSpec():
            message.random.SetInParent()
        case SobolSpec():
            message.sobol.SetInParent()
        case GPSpec(n_initial, quality):
            message.gp.quality = _QUALITY_TO_MESSAGE[quality]
            if n_initial is not None:
                if not 0 <= n_initial <= _INT32_MAX:
                    raise SpecError.of("gp.n_initial", f"must fit 31 bits, not {n_initial}")
                message.gp.n_initial = n_initial
        case CmaEsSpec(sigma0, population, quorum):
            default = CmaEsSpec()
            message.cma_es.SetInParent()
            if sigma0 != default.sigma0:
                message.cma_es.sigma0 = sigma0
            if population is not None:
                message.cma_es.population = population
            if quorum != default.quorum:
                message.cma_es.quorum = quorum
        case AshaSpec(promotion):
            message.asha.promotion = _PROMOTION_TO_MESSAGE[promotion]
        case _:
            assert_never(strategy)
    return message


def strategy_from_message(message: study_pb2.Strategy) -> StrategySpec:
    """Read the settings of a strategy.

    Raises:
        SpecError: The strategy is unset or unknown to this version, or a setting is.
    """
    violations = Violations(SpecError)
    match message.WhichOneof("kind"):
        case "auto":
            with violations.within("auto.quality"):
                quality = known(message.auto.quality, _QUALITY_FROM_MESSAGE)
            violations.check()
            return AutoSpec(quality)
        case "random":
            return RandomSpec()
        case "sobol":
            return SobolSpec()
        case "gp":
            gp = message.gp
            with violations.within("gp.quality"):
                quality = known(gp.quality, _QUALITY_FROM_MESSAGE)
            if gp.n_initial < 0:
                violations.add("gp.n_initial", f"must not be negative, but is {gp.n_initial}")
            violations.check()
            return GPSpec(gp.n_initial if gp.HasField("n_initial") else None, quality)
        case "cma_es":
            return _cma_es_from_message(message.cma_es)
        case "asha":
            with violations.within("asha.promotion"):
                promotion = known(message.asha.promotion, _PROMOTION_FROM_MESSAGE)
            violations.check()
            return AshaSpec(promotion)
        case None:
            raise SpecError.of("", f"must be one of {', '.join(NAMES)}")


def _cma_es_from_message(message: study_pb2.CmaEsStrategy) -> CmaEsSpec:
    violations = Violations(SpecError)
    default = spec = CmaEsSpec()
    with violations.within("cma_es"):
        spec = CmaEsSpec(
            message.sigma0 if message.HasField("sigma0") else default.sigma0,
            message.population if message.HasField("population") else default.population,
            message.quorum if message.HasField("quorum") else default.quorum,
        )
    violations.check()
    return spec


def lease_policy_to_message(policy: LeasePolicy) -> study_pb2.LeasePolicy:
    """Write a lease policy."""
    return study_pb2.LeasePolicy(
        duration=duration_to_message(policy.duration_s), max_attempts=policy.max_attempts
    )


def lease_policy_from_message(
    message: study_pb2.LeasePolicy, *, is_new: bool = False
) -> LeasePolicy:
    """Read a lease policy; what is unset takes its default.

    Args:
        message: What to read.
        is_new: Whether the limits of new studies apply.

    Raises:
        SpecError: The duration or the number of attempts is out of range.
    """
    default, violations = LeasePolicy(), Violations(SpecError)
    policy, duration_s = default, default.duration_s
    make = LeasePolicy.of_new_study if is_new else LeasePolicy
    if message.HasField("duration"):
        with violations.within("duration"):
            duration_s = duration_from_message(message.duration)
    with violations.within(""), located_in(message):
        policy = make(duration_s, message.max_attempts or default.max_attempts)
    violations.check()
    return policy


def study_spec_to_message(spec: StudySpec) -> study_pb2.StudySpec:
    """Write the definition of a study.

    Raises:
        SpecError: A number does not fit its field.
    """
    if spec.seed is not None and not 0 <= spec.seed <= _UINT64_MAX:
        raise SpecError.of("seed", f"must be in [0, 2**64), not {spec.seed}")
    parameters, constraints = space_to_message(spec.problem.space)
    fidelity = spec.problem.fidelity
    return study_pb2.StudySpec(
        parameters=parameters,
        parameter_constraints=constraints,
        metrics=[metric_to_message(each) for each in spec.problem.metrics],
        strategy=strategy_to_message(spec.strategy),
        fidelity=None if fidelity is None else fidelity_to_message(fidelity),
        budget=budget_to_message(spec.problem.budget),
        lease=lease_policy_to_message(spec.lease),
        seed=spec.seed,
    )


def study_spec_from_message(message: study_pb2.StudySpec, *, is_new: bool = False) -> StudySpec:
    """Read the definition of a study; what is unset takes its default.

    Every fault is reported at once, with the paths of the message; a part that could not be
    read is not blamed for more than that.

    Args:
        message: What to read.
        is_new: Whether it comes with a request for a new study. The limits of such requests
            are not applied to what is stored, which may be older than they are.

    Raises:
        SpecError: Anything is wrong.
    """
    violations = Violations(SpecError)
    with violations.within(""):
        space = space_from_message(message.parameters, message.parameter_constraints)
    metrics = read_each(violations, "metrics", metric_from_message, message.metrics)
    strategy: StrategySpec = AutoSpec()
    if message.HasField("strategy"):
        with violations.within("strategy"):
            strategy = strategy_from_message(message.strategy)
    lease = LeasePolicy()
    with violations.within("lease"):
        lease = lease_policy_from_message(message.lease, is_new=is_new)
    budget, fidelity = budget_from_message(message.budget), None
    if message.HasField("fidelity"):
        fidelity = fidelity_from_message(message.fidelity)
    if violations:
        names = [each.id for each in message.parameters]
        faults = problem_violations(metrics, budget, fidelity, parameter_names=names)
        violations.extend(on_wire(message, faults))
        raise violations.as_error()
    with located_in(message):
        problem = Problem(space, tuple(metrics), budget, fidelity)  # type: ignore[arg-type]
    seed = message.seed if message.HasField("seed") else None
    return StudySpec(problem, strategy, seed, lease)


def study_spec_to_bytes(spec: StudySpec) -> bytes:
    """Serialise a definition so that equal definitions have equal bytes."""
    return study_spec_to_message(spec).SerializeToString(deterministic=True)
