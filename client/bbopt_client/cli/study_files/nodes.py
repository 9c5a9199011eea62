"""YAML (and so JSON) text as plain data that knows its lines.

The subset is small on purpose: maps, lists, strings, numbers, true, false and null, with the
rules of YAML 1.2, so that ``no`` stays a string and ``1e-3`` is a number. Anchors, tags and
duplicate keys are refused: in a file that defines an experiment they are mistakes or worse.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, assert_never

import yaml

from bbopt_client.cli.study_files.faults import Fault, FaultList, Place, StudyFileError

MAX_CHARACTERS = 4_000_000
_MAX_DEPTH = 50
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A string, number, boolean or null."""

    value: str | int | float | bool | None
    place: Place


@dataclass(frozen=True, slots=True)
class ListNode:
    """A list."""

    items: "tuple[Node, ...]"
    place: Place


@dataclass(frozen=True, slots=True)
class MapNode:
    """A map with text keys."""

    entries: "Mapping[str, Node]"
    key_places: Mapping[str, Place]
    place: Place


Node: TypeAlias = ScalarNode | ListNode | MapNode


def to_plain(node: Node) -> object:
    """Forget the places."""
    match node:
        case ScalarNode(value):
            return value
        case ListNode(items):
            return [to_plain(item) for item in items]
        case MapNode(entries):
            return {key: to_plain(value) for key, value in entries.items()}
        case _:
            assert_never(node)


def describe(node: Node) -> str:
    """Name what stands there, for a message."""
    match node:
        case ScalarNode(value):
            return "nothing" if value is None else repr(value)
        case ListNode():
            return "a list"
        case MapNode():
            return "a map"
        case _:
            assert_never(node)


class _RefusedError(yaml.YAMLError):
    """Something that is YAML, but not in the subset."""

    def __init__(self, message: str, event: yaml.Event) -> None:
        mark = event.start_mark
        self.place = None if mark is None else Place(mark.line + 1, mark.column + 1)
        super().__init__(message)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's idea of plain scalars, and without aliases."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _RefusedError("aliases are not supported: write the value out", event)
        if self.depth > _MAX_DEPTH:
            raise _RefusedError("is nested too deeply", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


PLAIN_SCALARS: tuple[tuple[str, re.Pattern[str], list[str]], ...] = tuple(
    (_TAG + tag, re.compile(rf"^(?:{pattern})$"), list(first))
    for tag, pattern, first in (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", r"[-+]?[0-9]+", "-+0123456789"),
        ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
        ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
        ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    )
)
"""What a word without quotes is, if it is no text: tag, pattern, first characters."""

for _tag, _pattern, _first in PLAIN_SCALARS:
    _Loader.add_implicit_resolver(_tag, _pattern, _first)


def read_nodes(text: str, source: str, faults: FaultList) -> Node:
    """Parse a file.

    Args:
        text: The whole file.
        source: Its name, for messages.
        faults: Takes what is refused here, such as duplicate keys.

    Raises:
        StudyFileError: It is not YAML at all.
    """
    if len(text) > MAX_CHARACTERS:
        raise StudyFileError(source, [Fault("", f"is larger than {MAX_CHARACTERS} characters")])
    try:
        composed = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise StudyFileError(source, [_yaml_fault(error)]) from error
    except _RefusedError as error:
        raise StudyFileError(source, [Fault("", str(error), error.place)]) from error
    except yaml.YAMLError as error:
        raise StudyFileError(source, [Fault("", f"is not YAML: {error}")]) from error
    if composed is None:
        raise StudyFileError(source, [Fault("", "is empty")])
    return _convert(composed, "", faults)


def _yaml_fault(error: yaml.MarkedYAMLError) -> Fault:
    mark = error.problem_mark or error.context_mark
    place = None if mark is None else Place(mark.line + 1, mark.column + 1)
    parts = [part for part in (error.context, error.problem) if part]
    return Fault("", "is not YAML: " + ", ".join(parts), place)


def _convert(node: yaml.Node, path: str, faults: FaultList) -> Node:
    place = Place(node.start_mark.line + 1, node.start_mark.column + 1)
    match node:
        case yaml.ScalarNode():
            return ScalarNode(_scalar(node, path, place, faults), place)
        case yaml.SequenceNode() if node.tag == _TAG + "seq":
            items = (
                _convert(child, f"{path}[{index}]", faults)
                for index, child in enumerate(node.value)
            )
            return ListNode(tuple(items), place)
        case yaml.MappingNode() if node.tag == _TAG + "map":
            return _convert_map(node, path, faults)
        case _:
            faults.add(path, f"the tag {node.tag} is not supported", place)
            return ScalarNode(None, place)


def _convert_map(node: yaml.MappingNode, path: str, faults: FaultList) -> Node:
    entries: dict[str, Node] = {}
    places: dict[str, Place] = {}
    for key_node, value_node in node.value:
        place = Place(key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if not isinstance(key_node, yaml.ScalarNode):
            faults.add(path, "a key must be plain text", place)
            continue
        key = str(key_node.value)
        child = f"{path}.{key}" if path else key
        if key in entries:
            faults.add(child, f"is there twice, first in line {places[key].line}", place)
            continue
        places[key] = place
        entries[key] = _convert(value_node, child, faults)
    mark = node.start_mark
    return MapNode(entries, places, Place(mark.line + 1, mark.column + 1))


def _scalar(
    node: yaml.ScalarNode, path: str, place: Place, faults: FaultList
) -> str | int | float | bool | None:
    try:
        # JSON writes a character beyond 16 bits as two escapes, which YAML leaves apart.
        text = str(node.value).encode("utf-16", "surrogatepass").decode("utf-16")
        match node.tag.removeprefix(_TAG):
            case "str":
                return text
            case "int":
                return int(text)
            case "float":
                return float(text.replace(".inf", "inf").replace(".nan", "nan").lower())
            case "bool":
                return text.lower() == "true"
            case "null":
                return None
            case _:
                faults.add(path, f"the tag {node.tag} is not supported", place)
    except ValueError:
        faults.add(path, f"{node.value[:40]!r} is not what its tag says", place)
    return None
