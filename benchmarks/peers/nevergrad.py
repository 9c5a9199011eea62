"""Nevergrad's NGOpt as a peer; runs in the environment ``nevergrad``."""

from collections.abc import Sequence

import nevergrad as ng

from benchmarks.peers.conversation import Bounds, Peer, Point, converse

_BUDGET = 100
"""What NGOpt chooses its algorithms for; it cannot be created without."""


class NGOptPeer:
    """One optimizer, one worker."""

    def __init__(self, bounds: Sequence[Bounds], seed: int) -> None:
        space = ng.p.Dict(
            **{each.name: ng.p.Scalar(lower=each.low, upper=each.high) for each in bounds}
        )
        space.random_state.seed(seed)
        self._optimizer = ng.optimizers.registry["NGOpt"](space, budget=_BUDGET, num_workers=1)
        self._asked: ng.p.Parameter | None = None

    def attach(self, points: Sequence[Point], values: Sequence[float]) -> None:
        """Tell what was not asked for."""
        for point, value in zip(points, values, strict=True):
            child = self._optimizer.parametrization.spawn_child(new_value=dict(point))
            self._optimizer.tell(child, value)

    def ask(self) -> Point:
        """Ask for one candidate."""
        self._asked = self._optimizer.ask()
        return {name: float(value) for name, value in self._asked.value.items()}

    def tell(self, value: float) -> None:
        """Tell the loss of the candidate asked last."""
        self._optimizer.tell(self._asked, value)


def make(bounds: Sequence[Bounds], seed: int) -> Peer:
    """Make the peer."""
    return NGOptPeer(bounds, seed)


if __name__ == "__main__":
    converse(make, packages=("nevergrad",))
