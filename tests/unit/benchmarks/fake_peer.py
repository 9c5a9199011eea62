"""A peer's program without a peer: suggests how many observations it has."""

import os
import sys
from collections.abc import Sequence

from benchmarks.peers.conversation import Bounds, Peer, Point, converse


class CountingPeer:
    """Knows how much it was told, and prints what it should not."""

    def __init__(self, bounds: Sequence[Bounds], seed: int) -> None:
        self.names = [each.name for each in bounds]
        self.n = seed

    def attach(self, points: Sequence[Point], values: Sequence[float]) -> None:
        assert len(points) == len(values)
        self.n += len(values)

    def ask(self) -> Point:
        print("chatter")
        return {name: float(self.n) for name in self.names}

    def tell(self, value: float) -> None:
        if value < 0.0:
            os._exit(3)
        self.n += 1


def make(bounds: Sequence[Bounds], seed: int) -> Peer:
    return CountingPeer(bounds, seed)


if __name__ == "__main__":
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the end
    converse(make, packages=("pytest",))
