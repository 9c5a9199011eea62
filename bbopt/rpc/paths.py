"""The library's paths into a definition -> the wire's: ``parameters[lr].low`` is
``parameters[0].double_domain.min`` to those who wrote a message.

The library names what it refuses as a Python program wrote it. Whoever reads a message calls
``on_wire`` on that, and nobody else translates: clients check definitions before they send
them, so a Python program never sees the wire's paths, and a program in another language sees
no others.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from bbopt.errors import InvalidError, Violation
from bbopt.rpc.v1 import study_pb2
from bbopt.rpc.violations import join

_RENAMED: Mapping[tuple[str, str], str] = {
    ("StudySpec", "constraints"): "parameter_constraints",
    ("ParameterSpec", "name"): "id",
    ("ParameterSpec", "default"): "default_value",
    ("DoubleDomain", "low"): "min",
    ("DoubleDomain", "high"): "max",
    ("IntegerDomain", "low"): "min",
    ("IntegerDomain", "high"): "max",
    ("CategoricalDomain", "choices"): "values",
    ("Simplex", "names"): "ids",
    ("Metric", "name"): "id",
    ("Fidelity", "name"): "id",
    ("Budget", "trials"): "max_trials",
    ("Budget", "cost"): "max_cost",
    ("LeasePolicy", "duration_s"): "duration",
}
"""What a field of a message is called in Python, where it is called otherwise."""

_STEP = re.compile(r"\.?([A-Za-z_]\w*)|\[([^\]]*)\]")


@contextmanager
def located_in(message: Message) -> Iterator[None]:
    """Give an ``InvalidError`` of the library that passes the paths of the wire."""
    try:
        yield
    except InvalidError as error:
        raise type(error)(on_wire(message, error.violations)) from error


def on_wire(message: Message, violations: Iterable[Violation]) -> list[Violation]:
    """Give violations of the library the paths of the message that was read."""
    return [Violation(wire_path(message, each.field), each.message) for each in violations]


def wire_path(message: Message, field: str) -> str:
    """Say which field of a message the library means; what it cannot follow stays as it is.

    Args:
        message: Where the path begins.
        field: The path in Python: items are named by their name or their position.
    """
    path, node, end = "", message, 0
    while end < len(field):
        step = _STEP.match(field, end)
        if step is None or node is None:
            return join(path, field[end:].lstrip("."))
        name, key = step.groups()
        end = step.end()
        if name is None:
            # A name that is there twice is blamed on its last bearer, the rest on the first.
            found, node = _item(node, key, last=field.endswith(".name"))
        else:
            found, node = _member(node, name)
        path = join(path, found)
    return path


def on_point(violations: Iterable[Violation]) -> list[Violation]:
    """Give what a space says of a point the paths of a message that holds only the point: a
    constraint of the study that the point violates is no field of it.
    """
    return [
        Violation("parameters", f"violates parameter_{each.field}: {each.message}")
        if each.field.startswith("constraints[")
        else each
        for each in violations
    ]


def _member(node: Any, name: str) -> tuple[str, Any]:  # noqa: ANN401 - message, list or map
    """Find a field, inside the member of a ``oneof`` that is set if need be."""
    within = ""
    while isinstance(node, Message):
        own = _RENAMED.get((node.DESCRIPTOR.name, name), name)
        if own in node.DESCRIPTOR.fields_by_name:
            return join(within, own), getattr(node, own)
        chosen = [node.WhichOneof(each.name) for each in node.DESCRIPTOR.oneofs]
        fields = [node.DESCRIPTOR.fields_by_name[each] for each in chosen if each]
        messages = [each.name for each in fields if each.type == FieldDescriptor.TYPE_MESSAGE]
        if not messages:
            break
        within, node = join(within, messages[0]), getattr(node, messages[0])
    return join(within, name), None


def _item(node: Any, key: str, *, last: bool) -> tuple[str, Any]:  # noqa: ANN401 - as above
    """Find an item of a list by its name or position; an entry of a map keeps its key."""
    if isinstance(node, Mapping) or not hasattr(node, "__len__"):
        return f"[{key}]", None
    ids = [each.id for each in node if isinstance(each, _NAMED)]
    if key in ids:
        position = len(ids) - 1 - ids[::-1].index(key) if last else ids.index(key)
    elif key.isascii() and key.isdigit() and int(key) < len(node):
        position = int(key)
    else:
        return f"[{key}]", None
    return f"[{position}]", node[position]


_NAMED = (study_pb2.ParameterSpec, study_pb2.Metric)
