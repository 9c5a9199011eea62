"""The measured quantities of a study file: objective, constraints, metrics, cost."""

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from bbopt.errors import SpecError
from bbopt.problem import Goal, Metric, MetricKind, Noise
from bbopt_client.cli.study_files.fields import Fields
from bbopt_client.cli.study_files.nodes import MapNode, Node, ScalarNode, describe

E = TypeVar("E", bound=Enum)

_KEYS: Mapping[MetricKind, tuple[str, ...]] = {
    MetricKind.OBJECTIVE: ("name", "goal", "noise"),
    MetricKind.CONSTRAINT: ("name", "lower", "upper", "noise"),
    MetricKind.COST: ("name",),
    MetricKind.TRACKED: ("name",),
}


def read_metrics(fields: Fields) -> list[Metric]:
    """Read every metric that can be read, and note what is wrong with the others.

    Args:
        fields: The whole file.
    """
    metrics: list[Metric | None] = []
    if (node := fields.require("objective")) is not None:
        metrics.append(_read(node, "objective", MetricKind.OBJECTIVE, fields))
    for key, kind in (
        ("constraints", MetricKind.CONSTRAINT),
        ("metrics", MetricKind.TRACKED),
        ("cost", MetricKind.COST),
    ):
        for index, node in enumerate(fields.items(key)):
            metrics.append(_read(node, f"{key}[{index}]", kind, fields))
    return [metric for metric in metrics if metric is not None]


def _read(node: Node, path: str, kind: MetricKind, fields: Fields) -> Metric | None:
    match node:
        case ScalarNode(str() as text):
            metric = _parse(text, path, kind, fields)
        case MapNode():
            metric = _build(Fields(node, path, fields.faults), kind)
        case _:
            fields.faults.add(path, f"must be text or a map, got {describe(node)}", node.place)
            return None
    if metric is not None:
        fields.faults.mark(f"metrics[{metric.name}]", node.place)
    return metric


def _parse(text: str, path: str, kind: MetricKind, fields: Fields) -> Metric | None:
    if kind in (MetricKind.TRACKED, MetricKind.COST):
        return Metric(text, kind)
    try:
        metric = Metric.parse(text)
    except SpecError as error:
        fields.faults.add(path, "; ".join(each.message for each in error.violations))
        return None
    if metric.kind is not kind:
        example = "-loss or accuracy" if kind is MetricKind.OBJECTIVE else "latency_ms <= 20"
        fields.faults.add(path, f"{text!r} is no {kind.value}; write it like {example}")
        return None
    return metric


def _build(fields: Fields, kind: MetricKind) -> Metric | None:
    fields.mark_places()
    fields.refuse_unknown(_KEYS[kind])
    name = fields.text("name")
    if name is None:
        if fields.get("name") is None:
            fields.require("name")
        return None
    lower, upper = fields.number("lower"), fields.number("upper")
    return Metric(
        name,
        kind,
        goal=_member(fields, "goal", Goal),
        lower=None if lower is None else float(lower),
        upper=None if upper is None else float(upper),
        noise=_member(fields, "noise", Noise) or Noise.LEARNED,
    )


def _member(fields: Fields, key: str, kind: type[E]) -> E | None:
    text = fields.text(key)
    if text is None:
        return None
    try:
        return kind(text)
    except ValueError:
        known = ", ".join(str(member.value) for member in kind)
        fields.faults.add(fields.path_of(key), f"{text!r} is none of {known}")
        return None
