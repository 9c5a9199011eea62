"""The ``parameters`` of a study file, and the conditions under which they are active."""

from collections.abc import Callable, Mapping
from typing import Any

from bbopt.space import (
    AllOf,
    Between,
    Bool,
    Categorical,
    Condition,
    Equals,
    Fixed,
    Float,
    Int,
    Ordinal,
    Parameter,
)
from bbopt.space.validation import Unread
from bbopt_client.cli.study_files.faults import FaultList
from bbopt_client.cli.study_files.fields import Fields, scalar_values
from bbopt_client.cli.study_files.nodes import ListNode, MapNode, Node, ScalarNode, to_plain
from bbopt_client.cli.study_files.space_text import SpaceTextError, parse_parameter_text

_KINDS: Mapping[str, tuple[Callable[..., Parameter], tuple[str, ...], tuple[str, ...]]] = {
    "float": (Float, ("low", "high"), ("scale", "step", "periodic", "default")),
    "int": (Int, ("low", "high"), ("scale", "step", "default")),
    "ordinal": (Ordinal, ("values",), ("default",)),
    "categorical": (Categorical, ("choices",), ("default",)),
    "bool": (Bool, (), ("default",)),
    "fixed": (Fixed, ("value",), ()),
}
"""Per type: its class, the keys it needs, the keys it may have. ``when`` goes with all but
``fixed``. The classes check the values themselves.
"""


def read_parameters(fields: Fields) -> list[Parameter | Unread]:
    """Read every parameter that can be read, and note what is wrong with the others.

    Args:
        fields: The map from names to parameters.
    """
    parameters: list[Parameter | Unread] = []
    for name, node in fields.node.entries.items():
        path = f"parameters[{name}]"
        fields.faults.mark(path, fields.node.key_places[name])
        match node:
            case MapNode():
                parameter = _read(name, Fields(node, path, fields.faults))
            case ScalarNode(str() as text):
                parameter = _read_text(name, text, path, fields.faults)
            case _:
                expected = "a map such as {type: float, low: 0, high: 1}"
                fields.faults.add(path, f"must be {expected}, got {to_plain(node)!r}")
                parameter = None
        parameters.append(parameter or Unread(name))
    return parameters


def _read_text(name: str, text: str, path: str, faults: FaultList) -> Parameter | None:
    try:
        return parse_parameter_text(name, text)
    except SpaceTextError as error:
        faults.add(path, str(error))
        return None


def _read(name: str, fields: Fields) -> Parameter | None:
    fields.mark_places()
    kind = fields.text("type")
    if kind is None:
        if "type" not in fields.node.entries:
            fields.require("type")
        return None
    if kind not in _KINDS:
        fields.faults.add(fields.path_of("type"), f"{kind!r} is none of {', '.join(_KINDS)}")
        return None
    build, needed, optional = _KINDS[kind]
    condition_keys = () if kind == "fixed" else ("when",)
    fields.refuse_unknown(("type", *needed, *optional, *condition_keys))
    arguments: dict[str, Any] = {}
    for key in needed:
        if (node := fields.require(key)) is not None:
            arguments[key] = _plain(node)
    for key in optional:
        if (node := fields.get(key)) is not None:
            arguments[key] = _plain(node)
    condition = read_conditions(fields, "when")
    if condition:
        arguments["active_if"] = condition[0] if len(condition) == 1 else AllOf(condition)
        fields.faults.mark(fields.path_of("active_if"), fields.node.key_places["when"])
    if not set(needed) <= arguments.keys():
        return None
    return build(name, **arguments)


def read_conditions(fields: Fields, key: str) -> tuple[Condition, ...]:
    """Read ``{parent: value | [values] | {low:, high:}, ...}``; all of them must hold."""
    entries = fields.map(key)
    if entries is None:
        return ()
    conditions = (_condition(entries, parent) for parent in entries.node.entries)
    return tuple(condition for condition in conditions if condition is not None)


def _condition(fields: Fields, parent: str) -> Condition | None:
    node = fields.node.entries[parent]
    path = fields.path_of(parent)
    if not isinstance(node, MapNode):
        values = scalar_values(node, path, fields.faults)
        return None if values is None else Equals(parent, values)
    bounds = Fields(node, path, fields.faults)
    bounds.refuse_unknown(("low", "high"))
    bounds.mark_places()
    low, high = bounds.number("low"), bounds.number("high")
    for key in ("low", "high"):
        if bounds.get(key) is None:
            bounds.require(key)
    return None if low is None or high is None else Between(parent, float(low), float(high))


def _plain(node: Node) -> object:
    value = to_plain(node)
    return tuple(value) if isinstance(node, ListNode) and isinstance(value, list) else value
