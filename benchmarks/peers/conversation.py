"""What a peer's program and a benchmark say to each other: one JSON object a line.

Runs in the peer's environment, beside the peer and nothing of ours. The first request creates
the study; each request gets one reply. An ask is timed here, around the peer's own call, so
that neither JSON nor the way through a pipe counts against the peer::

    {"create": {"parameters": [{"name": "x", "low": 0, "high": 1}], "seed": 0}}
    {"attach": [{"parameters": {"x": 0.5}, "value": 1.0}]}
    {"ask": null}     answered by {"parameters": {"x": 0.3}, "wall_s": 0.1, "cpu_s": 0.1}
    {"tell": 0.7}     of the point asked last
"""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol, TextIO

Point = dict[str, float]


@dataclass(frozen=True, slots=True)
class Bounds:
    """A real parameter."""

    name: str
    low: float
    high: float


class Peer(Protocol):
    """An optimizer that minimises."""

    def attach(self, points: Sequence[Point], values: Sequence[float]) -> None:
        """Take over observations that it did not ask for."""
        ...

    def ask(self) -> Point:
        """Suggest a point that has seen everything told."""
        ...

    def tell(self, value: float) -> None:
        """Take the value of the point asked last."""
        ...


Maker = Callable[[Sequence[Bounds], int], Peer]
"""Makes a peer of parameters and a seed."""


def converse(make: Maker, *, packages: Sequence[str]) -> None:
    """Answer requests on standard input until it ends.

    Args:
        make: Makes the peer.
        packages: Those whose versions are told.
    """
    warnings.simplefilter("ignore")
    # Whatever the peer prints goes to standard error: replies have this output for themselves.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    answer_all(sys.stdin, replies, make, packages=packages)


def answer_all(
    requests: TextIO, replies: TextIO, make: Maker, *, packages: Sequence[str] = ()
) -> None:
    """Answer each line of ``requests`` by one of ``replies``."""
    peer: Peer | None = None
    for line in requests:
        request: Mapping[str, Any] = json.loads(line)
        if "create" in request:
            given = request["create"]
            bounds = [Bounds(**each) for each in given["parameters"]]
            peer = make(bounds, given["seed"])
            reply: Mapping[str, Any] = {"versions": {each: version(each) for each in packages}}
        elif peer is None:
            raise ValueError(f"the first request must be a create, not {line}")
        else:
            reply = _answer(peer, request)
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _answer(peer: Peer, request: Mapping[str, Any]) -> Mapping[str, Any]:
    match request:
        case {"attach": observations}:
            peer.attach(
                [each["parameters"] for each in observations],
                [each["value"] for each in observations],
            )
            return {}
        case {"ask": None}:
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            point = peer.ask()
            cpu_s = time.process_time() - cpu_s
            wall_s = time.perf_counter() - wall_s
            return {"parameters": point, "wall_s": wall_s, "cpu_s": cpu_s}
        case {"tell": value}:
            peer.tell(value)
            return {}
        case _:
            raise ValueError(f"unknown request {request}")
