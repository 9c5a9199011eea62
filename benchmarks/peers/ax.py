"""Ax's ``Client`` with the strategy that it chooses, as a peer; runs in environment ``ax``."""

import logging
from collections.abc import Sequence

from ax.api.client import Client
from ax.api.configs import RangeParameterConfig

from benchmarks.peers.conversation import Bounds, Peer, Point, converse


class ClientPeer:
    """An experiment in memory."""

    def __init__(self, bounds: Sequence[Bounds], seed: int) -> None:
        for name in logging.root.manager.loggerDict:
            if name.startswith("ax"):
                logging.getLogger(name).setLevel(logging.ERROR)
        self._client = Client(random_seed=seed)
        self._client.configure_experiment(
            parameters=[
                RangeParameterConfig(
                    name=each.name, bounds=(each.low, each.high), parameter_type="float"
                )
                for each in bounds
            ]
        )
        self._client.configure_optimization(objective="-loss")
        self._asked = -1

    def attach(self, points: Sequence[Point], values: Sequence[float]) -> None:
        """Add finished trials."""
        for point, value in zip(points, values, strict=True):
            index = self._client.attach_trial(point)
            self._client.complete_trial(index, raw_data={"loss": value})

    def ask(self) -> Point:
        """Ask for one trial."""
        ((self._asked, point),) = self._client.get_next_trials(max_trials=1).items()
        return {name: float(value) for name, value in point.items()}

    def tell(self, value: float) -> None:
        """Finish the trial asked last."""
        self._client.complete_trial(self._asked, raw_data={"loss": value})


def make(bounds: Sequence[Bounds], seed: int) -> Peer:
    """Make the peer."""
    return ClientPeer(bounds, seed)


if __name__ == "__main__":
    converse(make, packages=("ax-platform", "botorch", "torch"))
