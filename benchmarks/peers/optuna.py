"""Optuna's GPSampler as a peer; runs in the environment ``optuna``."""

from collections.abc import Sequence

import optuna

from benchmarks.peers.conversation import Bounds, Peer, Point, converse


class GPSamplerPeer:
    """A study in memory with the sampler's default settings."""

    def __init__(self, bounds: Sequence[Bounds], seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = {
            each.name: optuna.distributions.FloatDistribution(each.low, each.high)
            for each in bounds
        }
        self._study = optuna.create_study(sampler=optuna.samplers.GPSampler(seed=seed))
        self._asked: optuna.trial.Trial | None = None

    def attach(self, points: Sequence[Point], values: Sequence[float]) -> None:
        """Add finished trials."""
        self._study.add_trials(
            [
                optuna.trial.create_trial(params=point, distributions=self._space, value=value)
                for point, value in zip(points, values, strict=True)
            ]
        )

    def ask(self) -> Point:
        """Ask with the whole space at once."""
        self._asked = self._study.ask(self._space)
        return dict(self._asked.params)

    def tell(self, value: float) -> None:
        """Finish the trial asked last."""
        self._study.tell(self._asked, value)


def make(bounds: Sequence[Bounds], seed: int) -> Peer:
    """Make the peer."""
    return GPSamplerPeer(bounds, seed)


if __name__ == "__main__":
    converse(make, packages=("optuna", "torch", "greenlet"))
