"""Loads the engine into a compute process; the only module here that imports torch."""

import os

import torch

from bbopt.numerics.devices import is_out_of_memory, resolve_device
from bbopt.optimizer import Optimizer
from bbopt.specs import StudySpec
from bbopt_server.compute.hot import FoldingOptimizer
from bbopt_server.compute.process import Engine

_FIXED_BYTES = 200_000
_ROW_BYTES = 8_000
_MATRICES = 10
"""Of n x n numbers. Resident memory grew by 8 MB at 300 rows and by 45 to 75 MB at 1,000 rows,
20 parameters; too high a guess only costs a rebuild now and then.
"""
_MAX_MODEL_ROWS = 1200
"""A model takes no more rows, however many results a study has."""
_EVENTS_PER_ROW = 3
"""Asked, Leased, Told."""


def load_engine(device: str) -> Engine:
    """Set up torch for one thread and return a builder of optimizers.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:<index>``.
    """
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    name = "cpu"
    if resolve_device(device).type != "cpu":
        name = device
        # Or the last bits of a product would depend on what else the device does.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

    def build(spec: StudySpec) -> Optimizer:
        return Optimizer(spec.problem, spec.strategy, spec.seed, device=name)

    return Engine(build, estimate_bytes, is_fatal=_has_lost_its_device)


def estimate_bytes(optimizer: FoldingOptimizer) -> int:
    """Estimate the memory of a study: its log, and the matrices of a Gaussian process."""
    n = optimizer.revision / _EVENTS_PER_ROW
    n_in_model = min(n, _MAX_MODEL_ROWS)
    return int(_FIXED_BYTES + n * _ROW_BYTES + 8 * _MATRICES * n_in_model * n_in_model)


def _has_lost_its_device(error: Exception) -> bool:
    """Say whether CUDA failed: after such an error every later call in the process does, unless
    it was only out of memory.
    """
    is_cuda = isinstance(error, RuntimeError) and "CUDA error" in str(error)
    return is_cuda and not is_out_of_memory(error)
