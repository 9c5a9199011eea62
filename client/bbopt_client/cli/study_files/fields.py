"""Takes the entries of a map one by one: wrong kinds and unknown keys become faults."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bbopt.space import ParamValue
from bbopt_client.cli.durations import parse_duration
from bbopt_client.cli.study_files.faults import FaultList
from bbopt_client.cli.study_files.nodes import ListNode, MapNode, Node, ScalarNode, describe


@dataclass(frozen=True, slots=True)
class Fields:
    """The entries of one map, and where their faults go."""

    node: MapNode
    path: str
    faults: FaultList

    def path_of(self, key: str) -> str:
        """Name an entry as messages do."""
        return f"{self.path}.{key}" if self.path else key

    def mark_places(self) -> None:
        """Remember where each entry stands, for faults that domain classes find."""
        for key, place in self.node.key_places.items():
            self.faults.mark(self.path_of(key), place)

    def refuse_unknown(
        self,
        known: Iterable[str],
        *,
        what: str = "key",
        instead: Mapping[str, str] | None = None,
    ) -> None:
        """Note every key that means nothing here, with the nearest that does.

        Args:
            known: The keys that mean something.
            what: What a key is called here.
            instead: What is meant by keys that do not look like it.
        """
        names = sorted(known)
        for key, place in self.node.key_places.items():
            if key not in names:
                meant = (instead or {}).get(key)
                near = [meant] if meant else difflib.get_close_matches(key, names, n=1)
                hint = (
                    f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"
                )
                self.faults.add(self.path_of(key), f"unknown {what}{hint}", place)

    def get(self, key: str) -> Node | None:
        """Return an entry, or ``None`` when it is absent or null."""
        node = self.node.entries.get(key)
        return None if isinstance(node, ScalarNode) and node.value is None else node

    def require(self, key: str) -> Node | None:
        """Return an entry whose absence is a fault."""
        node = self.get(key)
        if node is None:
            self.faults.add(self.path_of(key), "is missing", self.node.place)
        return node

    def text(self, key: str) -> str | None:
        """Return an entry that is text."""
        match self.get(key):
            case None:
                return None
            case ScalarNode(str() as value):
                return value
            case node:
                self.wrong(key, node, "text")
                return None

    def number(self, key: str, *, is_integer: bool = False) -> int | float | None:
        """Return an entry that is a number; a boolean is none."""
        match self.get(key):
            case None:
                return None
            case ScalarNode(bool()) as node:
                pass
            case ScalarNode(int() as value):
                return value
            case ScalarNode(float() as value) if not is_integer:
                return value
            case node:
                pass
        self.wrong(key, node, "an integer" if is_integer else "a number")
        return None

    def duration(self, key: str) -> float | None:
        """Return an entry that is a duration, in seconds."""
        match self.get(key):
            case None:
                return None
            case ScalarNode(str() as text) as node:
                try:
                    return parse_duration(text)
                except ValueError as error:
                    self.faults.add(self.path_of(key), str(error), node.place)
                    return None
            case _:
                seconds = self.number(key)
                return None if seconds is None else float(seconds)

    def map(self, key: str) -> "Fields | None":
        """Return an entry that is a map."""
        match self.get(key):
            case None:
                return None
            case MapNode() as node:
                return Fields(node, self.path_of(key), self.faults)
            case node:
                self.wrong(key, node, "a map")
                return None

    def items(self, key: str) -> Sequence[Node]:
        """Return the items of an entry that is a list; one item may stand for itself."""
        match self.get(key):
            case None:
                return ()
            case ListNode(items):
                for index, item in enumerate(items):
                    self.faults.mark(f"{self.path_of(key)}[{index}]", item.place)
                return items
            case node:
                self.faults.mark(f"{self.path_of(key)}[0]", node.place)
                return (node,)

    def wrong(self, key: str, node: Node, expected: str) -> None:
        """Note an entry of the wrong kind."""
        self.faults.add(
            self.path_of(key), f"must be {expected}, got {describe(node)}", node.place
        )


def scalar_values(node: Node, path: str, faults: FaultList) -> tuple[ParamValue, ...] | None:
    """Read one value or a list of values; ``None`` and a fault for anything else."""
    items = node.items if isinstance(node, ListNode) else (node,)
    values: list[ParamValue] = []
    for item in items:
        if not isinstance(item, ScalarNode) or item.value is None:
            faults.add(path, f"must be a value or a list of values, got {describe(item)}")
            return None
        values.append(item.value)
    return tuple(values)
