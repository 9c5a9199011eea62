"""A study's definition in the form of a study file: what ``study show --definition`` prints."""

import re
from collections.abc import Mapping
from typing import assert_never

import yaml

from bbopt.errors import SpecError
from bbopt.problem import Fidelity, Metric, MetricKind, Noise
from bbopt.space import (
    AllOf,
    Between,
    Bool,
    Categorical,
    Condition,
    Constraint,
    Equals,
    Exclude,
    Fixed,
    Float,
    Int,
    Linear,
    Ordinal,
    Parameter,
    Scale,
    Simplex,
)
from bbopt.specs import (
    NAMES,
    AshaSpec,
    AutoSpec,
    CmaEsSpec,
    GPSpec,
    Promotion,
    Quality,
    RandomSpec,
    SobolSpec,
    StrategySpec,
    StudySpec,
)
from bbopt_client.cli.study_files.nodes import PLAIN_SCALARS

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


class UnwritableError(ValueError):
    """The definition has something that study files cannot say."""


def to_yaml(definition: Mapping[str, object]) -> str:
    """Write a definition as YAML that reads back as the same definition."""
    return yaml.dump(
        dict(definition), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=96
    )


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or our reader would take for something else."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {  # noqa: RUF012
        first: list(resolvers)
        for first, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


for _tag, _pattern, _first in PLAIN_SCALARS:
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)


def to_definition(
    spec: StudySpec, *, name: str | None = None, labels: Mapping[str, str] | None = None
) -> dict[str, object]:
    """Put a definition into the keys of a study file; defaults are left out.

    Raises:
        UnwritableError: It has something that study files cannot say.
    """
    problem = spec.problem
    given: dict[str, object] = {
        "name": name,
        "parameters": {
            parameter.name: _parameter(parameter) for parameter in problem.space.parameters
        },
        "parameter_constraints": [_constraint(each) for each in problem.space.constraints],
        **_metrics(problem.metrics),
        "budget": _without_none(trials=problem.budget.trials, cost=problem.budget.cost),
        "fidelity": None if problem.fidelity is None else _fidelity(problem.fidelity),
        "strategy": _strategy(spec.strategy),
        "seed": spec.seed,
        "lease": {
            "duration": spec.lease.duration_s,
            "max_attempts": spec.lease.max_attempts,
        },
        "labels": dict(labels or {}),
    }
    return {key: value for key, value in given.items() if value not in (None, [], {})}


def _without_none(**entries: object) -> dict[str, object]:
    return {key: value for key, value in entries.items() if value is not None}


def _scale(scale: Scale) -> str | None:
    return None if scale is Scale.LINEAR else scale.value


def _parameter(parameter: Parameter) -> dict[str, object]:
    match parameter:
        case Float(low=low, high=high):
            return _without_none(
                type="float",
                low=low,
                high=high,
                scale=_scale(parameter.scale),
                step=parameter.step,
                periodic=parameter.periodic or None,
                default=parameter.default,
                when=_when(parameter.active_if),
            )
        case Int(low=low, high=high):
            return _without_none(
                type="int",
                low=low,
                high=high,
                scale=_scale(parameter.scale),
                step=None if parameter.step == 1 else parameter.step,
                default=parameter.default,
                when=_when(parameter.active_if),
            )
        case Ordinal(values=values):
            return _without_none(
                type="ordinal",
                values=list(values),
                default=parameter.default,
                when=_when(parameter.active_if),
            )
        case Categorical(choices=choices):
            return _without_none(
                type="categorical",
                choices=list(choices),
                default=parameter.default,
                when=_when(parameter.active_if),
            )
        case Bool():
            return _without_none(
                type="bool", default=parameter.default, when=_when(parameter.active_if)
            )
        case Fixed(value=value):
            return {"type": "fixed", "value": value}
        case _:
            assert_never(parameter)


def _when(condition: Condition | None) -> dict[str, object] | None:
    return None if condition is None else _conditions((condition,))


def _conditions(conditions: tuple[Condition, ...]) -> dict[str, object]:
    entries: dict[str, object] = {}
    for condition in conditions:
        match condition:
            case Equals(parent, values):
                found: dict[str, object] = {
                    parent: values[0] if len(values) == 1 else list(values)
                }
            case Between(parent, low, high):
                found = {parent: {"low": low, "high": high}}
            case AllOf(children):
                found = _conditions(children)
            case _:
                assert_never(condition)
        if found.keys() & entries.keys():
            raise UnwritableError("a study file has one condition per parent")
        entries |= found
    return entries


def _constraint(constraint: Constraint) -> object:
    match constraint:
        case Linear():
            return linear_text(constraint)
        case Simplex(names, total):
            return {"simplex": {"names": list(names), "total": total}}
        case Exclude(all_of):
            return {"exclude": _conditions(all_of)}
        case _:
            assert_never(constraint)


def linear_text(constraint: Linear) -> str:
    """Write a linear constraint so that it reads back bit for bit."""
    terms = " + ".join(
        f"{coefficient!r}*{name if _PLAIN_NAME.fullmatch(name) else f'`{name}`'}"
        for name, coefficient in constraint.coefficients.items()
    )
    lower, upper = constraint.lower, constraint.upper
    if lower == upper:
        return f"{terms} == {lower!r}"
    if lower == float("-inf"):
        return f"{terms} <= {upper!r}"
    if upper == float("inf"):
        return f"{terms} >= {lower!r}"
    return f"{lower!r} <= {terms} <= {upper!r}"


def _metrics(metrics: tuple[Metric, ...]) -> dict[str, object]:
    by_kind: dict[MetricKind, list[object]] = {kind: [] for kind in MetricKind}
    for metric in metrics:
        by_kind[metric.kind].append(_metric(metric))
    return {
        "objective": next(iter(by_kind[MetricKind.OBJECTIVE]), None),
        "constraints": by_kind[MetricKind.CONSTRAINT],
        "metrics": by_kind[MetricKind.TRACKED],
        "cost": next(iter(by_kind[MetricKind.COST]), None),
    }


def _metric(metric: Metric) -> object:
    if metric.kind in (MetricKind.TRACKED, MetricKind.COST):
        return metric.name
    text = _metric_text(metric)
    try:
        if Metric.parse(text) == metric:
            return text
    except SpecError:
        pass  # A name that the short form cannot say.
    return _without_none(
        name=metric.name,
        goal=None if metric.goal is None else metric.goal.value,
        lower=metric.lower,
        upper=metric.upper,
        noise=None if metric.noise is Noise.LEARNED else metric.noise.value,
    )


def _metric_text(metric: Metric) -> str:
    if metric.kind is MetricKind.OBJECTIVE:
        return metric.name if metric.is_maximized else f"-{metric.name}"
    lower = "" if metric.lower is None else f"{metric.lower!r} <= "
    upper = "" if metric.upper is None else f" <= {metric.upper!r}"
    return (
        f"{lower}{metric.name}{upper}"
        if not (lower and not upper)
        else (f"{metric.name} >= {metric.lower!r}")
    )


def _fidelity(fidelity: Fidelity) -> object:
    return {
        "name": fidelity.name,
        "low": fidelity.low,
        "high": fidelity.high,
        "eta": fidelity.eta,
    }


def _strategy(spec: StrategySpec) -> object:
    name = next(name for name, kind in NAMES.items() if kind is type(spec))
    match spec:
        case RandomSpec() | SobolSpec():
            return name
        case AutoSpec(quality):
            settings = _without_none(quality=_quality(quality))
        case GPSpec(n_initial, quality):
            settings = _without_none(n_initial=n_initial, quality=_quality(quality))
        case CmaEsSpec(sigma0, population, quorum):
            default = CmaEsSpec()
            settings = _without_none(
                sigma0=None if sigma0 == default.sigma0 else sigma0,
                population=population,
                quorum=None if quorum == default.quorum else quorum,
            )
        case AshaSpec(promotion):
            is_default = promotion is Promotion.RESUME
            settings = _without_none(promotion=None if is_default else promotion.value)
        case _:
            assert_never(spec)
    return {"name": name, **settings} if settings else name


def _quality(quality: Quality) -> str | None:
    return None if quality is Quality.BALANCED else quality.value
