"""A compute process with a pretended engine that crashes, hangs or refuses on command.

    python fake_process.py ORDERS --fd N ...

ORDERS is a folder. A file ``<order>-<seed>-<i>`` in it makes the study with this seed misbehave
once: the process removes the file and obeys.
"""

import gc
import hashlib
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bbopt.errors import PreconditionError, UnsupportedError
from bbopt.space import ParamValue
from bbopt.specs import StudySpec
from bbopt.trial import Asked, Event, Predicted, Provenance, StrategyState, Suggestion, Told
from bbopt_server.compute.process import Engine, main


@dataclass(frozen=True, slots=True)
class FakeSuggested:
    suggestions: tuple[Suggestion, ...]
    state: StrategyState
    space_exhausted: bool
    states: tuple[StrategyState, ...] = ()


@dataclass(frozen=True, slots=True)
class FakePrediction:
    metrics: Mapping[str, Predicted]
    probability_feasible: float


@dataclass(frozen=True, slots=True)
class FakeRecommended:
    number: int
    reason: str


class FakeOptimizer:
    """Suggests a hash of everything that it was told and of how often it was asked."""

    def __init__(self, seed: int, orders: Path) -> None:
        self._seed = seed
        self._orders = orders
        self._n_asked = 0
        self._told: list[str] = []
        self._numbers: list[int] = []
        self.revision = 0
        self.n_rests = 0

    def fold(self, events: Iterable[Event | None]) -> None:
        for event in events:
            self.revision += 1
            match event:
                case Asked(_, StrategyState(scalars=scalars)):
                    self._n_asked = int(scalars["n_asked"])
                case Told(number, outcome):
                    self._numbers.append(number)
                    self._told.append(repr(outcome))

    def suggest(self, n: int, *, time_left_s: float | None = None) -> FakeSuggested:
        self._obey()
        n_frozen = gc.get_freeze_count()
        reason = f"time left: {time_left_s}; frozen: {n_frozen}; pid: {os.getpid()}"
        suggestions = tuple(
            Suggestion(self._point(i), Provenance("fake", self.revision, reason=reason))
            for i in range(n)
        )
        state = StrategyState("fake", scalars={"n_asked": self._n_asked + n})
        return FakeSuggested(suggestions, state, self._n_asked > 100)

    def rest(self) -> None:
        self.n_rests += 1

    def predict(self, points: Sequence[Mapping[str, ParamValue]]) -> list[FakePrediction]:
        if not self._told:
            raise PreconditionError("no result yet, no model")
        return [FakePrediction({"loss": Predicted(float(p["x"]), 0.5)}, 0.75) for p in points]

    def recommendation(self) -> FakeRecommended | None:
        return FakeRecommended(self._numbers[-1], "the last one") if self._numbers else None

    def _point(self, i: int) -> dict[str, ParamValue]:
        text = f"{self._seed} {self._n_asked + i} {self._told}"
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return {"x": int.from_bytes(digest, "big") / 2**64, "y": 0.0}

    def _obey(self) -> None:
        for path in sorted(self._orders.glob(f"*-{self._seed}-*")):
            path.unlink()
            match path.name.partition("-")[0]:
                case "crash":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "hang":
                    time.sleep(3600)
                case "sleep":
                    time.sleep(0.5)
                case "refuse":
                    raise UnsupportedError.of("strategy", "cannot do this")
                case "break":
                    raise RuntimeError("secret details")
                case "spoil":
                    raise RuntimeError("CUDA error: gone")
                case "babble":
                    os.write(_fd(), b"\xff\xff\xff\xff nonsense")
                case order:
                    raise AssertionError(order)


def _fd() -> int:
    return int(sys.argv[sys.argv.index("--fd") + 1])


def run(orders: Path) -> int:
    def load(_: str) -> Engine:
        if (orders / "missing").exists():
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        if (orders / "stillborn").exists():
            sys.exit(3)
        return Engine(build, lambda _: 1000, is_fatal=lambda error: "CUDA" in str(error))

    def build(spec: StudySpec) -> FakeOptimizer:
        return FakeOptimizer(spec.drawn_seed, orders)

    return main(sys.argv[2:], load)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1])))
