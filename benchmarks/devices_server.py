"""Asks of a server by device and number of compute processes: how many a second, how long.

Run ``python -m benchmarks.devices_server``. Every study begins with results of random points;
then all are asked at once, each by a client thread of its own that tells what it got before it
asks again. The ready queue is off: an ask is computed when it comes. The first ask of each
study, which loads and starts cold, is left out.
"""

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import numpy as np

from bbopt.numerics import stream
from bbopt.numerics.devices import n_cuda_devices
from bbopt_client import Client, Float, Study

D = 6
COLUMNS = ("device", "processes", "studies", "n", "asks a second", "median ms", "slowest ms")


@dataclass(slots=True)
class Lap:
    """What the clients saw."""

    wall_s: float = 0.0
    asks_s: list[float] = field(default_factory=list)

    def cells(self) -> list[str]:
        """Return asks a second, the median and the slowest."""
        slowest, median = max(self.asks_s), statistics.median(self.asks_s)
        return [
            f"{len(self.asks_s) / self.wall_s:.1f}",
            f"{1e3 * median:.0f}",
            f"{1e3 * slowest:.0f}",
        ]


def value_of(point: Sequence[float]) -> float:
    """Return a bowl with ripples."""
    x = np.asarray(point)
    return float(((x - 0.3) ** 2).sum() + 0.1 * np.sin(9.0 * x).sum())


def create_studies(client: Client, n_studies: int, n: int) -> list[Study]:
    """Return studies with ``n`` results each."""
    studies = []
    for seed in range(n_studies):
        space = [Float(f"x{i}", 0.0, 1.0) for i in range(D)]
        study = client.create_study(f"s{seed}", space=space, objective="-y", seed=seed)
        for x in stream(seed, "devices", n).random((n, D)):
            point = {f"x{i}": float(v) for i, v in enumerate(x)}
            study.add(point, {"y": value_of(x)})
        studies.append(study)
    return studies


def lap(studies: Sequence[Study], n_asks: int) -> Lap:
    """Ask every study so many times, all at once."""
    found = Lap()

    def work(study: Study) -> None:
        for _ in range(n_asks):
            start = time.perf_counter()
            (trial,) = study.ask(1)
            found.asks_s.append(time.perf_counter() - start)
            trial.tell({"y": value_of([float(trial[f"x{i}"]) for i in range(D)])})

    threads = [threading.Thread(target=work, args=(study,)) for study in studies]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.wall_s = time.perf_counter() - start
    return found


def measure(device: str, n_processes: int, n_studies: int, n: int, n_asks: int) -> Lap:
    """Start a server for one row of the table."""
    settings = {"BBOPT_COMPUTE_PROCESSES": str(n_processes), "BBOPT_READY_QUEUE": "off"}
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, settings),
        Client.local(Path(folder, "studies.db"), device=device) as client,
    ):
        studies = create_studies(client, n_studies, n)
        lap(studies, 1)
        return lap(studies, n_asks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; without a CUDA device only the CPU's rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", nargs="+", default=["cpu", "cuda"])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4, 12])
    parser.add_argument("--studies", type=int, default=16)
    parser.add_argument("--n", type=int, nargs="+", default=[100, 500])
    parser.add_argument("--asks", type=int, default=20, help="of each study")
    settings = parser.parse_args(arguments)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    devices = [name for name in settings.devices if name == "cpu" or n_cuda_devices()]
    for n in settings.n:
        for device in devices:
            for n_processes in settings.processes:
                row = [device, str(n_processes), str(settings.studies), str(n)]
                row += measure(device, n_processes, settings.studies, n, settings.asks).cells()
                print(f"| {' | '.join(row)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
