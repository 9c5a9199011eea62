"""The benchmark's end of a peer that runs in an interpreter of its own."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bbopt.problem import Problem
from bbopt.space import Float, ParamValue
from benchmarks.peers.environments import PINS, Environment, environment_of

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """A point that a peer suggests, and what it took: no more than the peer's own call."""

    parameters: Mapping[str, ParamValue]
    wall_s: float
    cpu_s: float


class PeerLostError(Exception):
    """The peer's program ended instead of answering; its standard error says why."""


class PeerProcess:
    """A peer that minimises one problem of real parameters, on one thread."""

    def __init__(self, process: "subprocess.Popen[str]", name: str) -> None:
        """Take over a process that has just been started; use ``running``."""
        self._process = process
        self._name = name
        self.versions: Mapping[str, str] = {}

    def create(self, problem: Problem, *, seed: int) -> None:
        """Begin a study."""
        parameters = [
            {"name": each.name, "low": each.low, "high": each.high}
            for each in problem.space.parameters
            if isinstance(each, Float)
        ]
        if len(parameters) != len(problem.space.parameters):
            raise ValueError("peers are driven with real parameters only")
        reply = self._call({"create": {"parameters": parameters, "seed": seed}})
        self.versions = reply["versions"]

    def attach(
        self, points: Sequence[Mapping[str, ParamValue]], values: Sequence[float]
    ) -> None:
        """Hand over observations; ``values`` are minimised."""
        observations = [
            {"parameters": dict(point), "value": value}
            for point, value in zip(points, values, strict=True)
        ]
        self._call({"attach": observations})

    def ask(self) -> PeerAnswer:
        """Ask for one point."""
        return PeerAnswer(**self._call({"ask": None}))

    def tell(self, value: float) -> None:
        """Tell the value of the point asked last; it is minimised."""
        self._call({"tell": value})

    def _call(self, request: Mapping[str, object]) -> Mapping[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # The missing answer tells.
        line = self._process.stdout.readline()
        if not line:
            raise PeerLostError(f"{self._name} ended with status {self._process.wait()}")
        reply: Mapping[str, Any] = json.loads(line)
        return reply


@contextmanager
def running(name: str, *, environment: Environment | None = None) -> Iterator[PeerProcess]:
    """Run the program of a peer in its environment, on one thread, until the block ends.

    Raises:
        FileNotFoundError: It is not installed.
    """
    environment = environment or environment_of(name)
    if not environment.is_installed:
        raise FileNotFoundError(f"{name} is missing: run benchmarks/peers/install {name}")
    outside = {key: value for key, value in os.environ.items() if key not in _OURS}
    process = subprocess.Popen(  # noqa: S603 - our own program
        [str(environment.python), "-m", f"benchmarks.peers.{name}"],
        cwd=PINS.parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=outside | dict.fromkeys(_THREADS, "1"),
    )
    with process:  # Waits for it; its input has been closed by then.
        try:
            yield PeerProcess(process, name)
        finally:
            process.kill()
