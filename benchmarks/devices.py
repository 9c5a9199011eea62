"""The parts of an ask on the CPU and on a CUDA device, side by side; what ``auto`` goes by.

Run ``python -m benchmarks.devices``. Wall milliseconds, the best of three, one CPU thread. A
part is one evaluation, numbers on the host at its end: of the hyperparameters' log posterior
and its gradient for both kernels (fit), of log expected improvement at 512 rows (screen), of
the same and its gradient at 10 rows (climb). ``ask`` adds them up as an ask with a warm refit
has them; ``auto`` takes the device where its ask is ``MARGIN`` times faster, from 256 results.

``--together 32`` prints another table: milliseconds for each of so many studies' evaluations of
a fit, were they one tensor program, as 32 settings of one study's hyperparameters are.
"""

import argparse
import os
import sys
from collections.abc import Sequence

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import numpy as np
import torch

from bbopt.numerics import resolve_device
from bbopt.strategies.gp_devices import MEASURED_FROM
from bbopt.strategies.gp_timing import MARGIN, Timing, best_s, made_up, time_parts


def cells(timing: Timing) -> str:
    """Return the columns of one device."""
    seconds = (timing.fit_s, timing.screen_s, timing.climb_s, timing.ask_s)
    return " | ".join(f"{1e3 * s:.2f}" for s in seconds)


def each_together_s(device: torch.device, n: int, d: int, n_studies: int) -> float:
    """Return the seconds of one study's evaluation, of so many in one program."""
    model, objective = made_up(device, n, d)
    thetas = np.tile(model.hyperparameters.theta, (n_studies, 1))
    members = np.tile(np.arange(len(model.hyperparameters.theta)), n_studies)
    return best_s(lambda: objective.evaluate(thetas, members)) / n_studies


def print_parts(devices: Sequence[torch.device], sizes: Sequence[tuple[int, int]]) -> None:
    """Print the parts of an ask, and what ``auto`` makes of them."""
    names = ["n", "d", "CPU fit", "screen", "climb", "ask"]
    has_card = len(devices) > 1
    names += ["CUDA fit", "screen", "climb", "ask", "times faster", "auto"] * has_card
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for n, d in sizes:
        timings = [time_parts(device, n, d) for device in devices]
        line = f"| {n} | {d} | {' | '.join(map(cells, timings))} |"
        if has_card:
            ratio = timings[0].ask_s / timings[1].ask_s
            choice = "CUDA" if n >= MEASURED_FROM and ratio > MARGIN else "CPU"
            line += f" {ratio:.2f} | {choice} |"
        print(line, flush=True)


def print_together(
    devices: Sequence[torch.device], sizes: Sequence[tuple[int, int]], n_studies: int
) -> None:
    """Print what an evaluation costs a study alone, and as one of many."""
    names = ["n", "d"]
    for device in devices:
        names += [f"{device.type.upper()}, alone", f"one of {n_studies}"]
    print(f"\n| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for n, d in sizes:
        values = [
            f"{1e3 * each_together_s(device, n, d, together):.2f}"
            for device in devices
            for together in (1, n_studies)
        ]
        print(f"| {n} | {d} | {' | '.join(values)} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; without a CUDA device only the CPU's columns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<index>")
    parser.add_argument("--n", type=int, nargs="+", default=[50, 100, 256, 512, 1000])
    parser.add_argument("--d", type=int, nargs="+", default=[6, 20])
    parser.add_argument("--together", type=int, default=0, help="studies; 0 for no such table")
    settings = parser.parse_args(arguments)
    torch.set_num_threads(1)
    device, cpu = resolve_device(settings.device), torch.device("cpu")
    devices = [cpu] if device == cpu else [cpu, device]
    card = "no CUDA device" if device == cpu else torch.cuda.get_device_name(device)
    print(
        f"device: {card}\ntorch {torch.__version__}, CPU threads: {torch.get_num_threads()}\n"
    )
    sizes = [(n, d) for d in settings.d for n in settings.n]
    print_parts(devices, sizes)
    if settings.together:
        print_together(devices, sizes, settings.together)
    return 0


if __name__ == "__main__":
    sys.exit(main())
