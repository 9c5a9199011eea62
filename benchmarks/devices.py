"""The parts of an ask on the CPU and on a CUDA device, side by side; what ``auto`` goes by.

Run ``python -m benchmarks.devices``. Wall milliseconds, the best of three, one CPU thread. A
part is one evaluation, numbers on the host at its end: of the hyperparameters' log posterior
and its gradient for both kernels (fit), of log expected improvement at 512 rows (screen), of
the same and its gradient at 10 rows (climb). ``ask`` adds them up as an ask with a warm refit
has them; ``auto`` takes the device where its ask is ``MARGIN`` times faster, from 256 results.
"""

import argparse
import os
import sys
from collections.abc import Sequence

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch

from bbopt.numerics import resolve_device
from bbopt.strategies.gp_devices import MEASURED_FROM
from bbopt.strategies.gp_timing import MARGIN, Timing, time_parts


def cells(timing: Timing) -> str:
    """Return the columns of one device."""
    seconds = (timing.fit_s, timing.screen_s, timing.climb_s, timing.ask_s)
    return " | ".join(f"{1e3 * s:.2f}" for s in seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; without a CUDA device only the CPU's columns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<index>")
    parser.add_argument("--n", type=int, nargs="+", default=[50, 100, 256, 512, 1000])
    parser.add_argument("--d", type=int, nargs="+", default=[6, 20])
    settings = parser.parse_args(arguments)
    torch.set_num_threads(1)
    device, cpu = resolve_device(settings.device), torch.device("cpu")
    has_card = device.type == "cuda"
    print(f"device: {torch.cuda.get_device_name(device) if has_card else 'no CUDA device'}")
    print(f"torch {torch.__version__}, CPU threads: {torch.get_num_threads()}\n")
    names = ["n", "d", "CPU fit", "screen", "climb", "ask"]
    names += ["CUDA fit", "screen", "climb", "ask", "times faster", "auto"] * has_card
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for d in settings.d:
        for n in settings.n:
            ours = time_parts(cpu, n, d)
            line = f"| {n} | {d} | {cells(ours)} |"
            if has_card:
                theirs = time_parts(device, n, d)
                ratio = ours.ask_s / theirs.ask_s
                choice = "CUDA" if n >= MEASURED_FROM and ratio > MARGIN else "CPU"
                line += f" {cells(theirs)} | {ratio:.2f} | {choice} |"
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
