"""Loads the engine into a compute process; the only module here that imports torch."""

import os

import torch

from bbopt.numerics.devices import is_out_of_memory, resolve_device
from bbopt.optimizer import Optimizer
from bbopt.specs import StudySpec
from bbopt_server.compute.hot import FoldingOptimizer
from bbopt_server.compute.process import Engine

_MODEL_BYTES = 40_000
_MATRICES = 4
"""Of n x n numbers for each metric that is modelled: two kernels, with spare capacity. Resident
memory grew by 17 MB at 1,000 rows and one metric, beside what a fit takes and gives back.
"""
_MAX_MODEL_ROWS = 1200
"""A model takes no more rows, however many results a study has."""
_EVENTS_PER_ROW = 2
"""Asked, Told."""


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
        return Optimizer(
            spec.problem, spec.strategy, spec.drawn_seed, device=name, keeps_history=False
        )

    return Engine(build, estimate_bytes, is_fatal=_has_lost_its_device)


def estimate_bytes(optimizer: FoldingOptimizer) -> int:
    """Estimate the memory of a study's models: the matrices of Gaussian processes."""
    n = min(optimizer.revision / _EVENTS_PER_ROW, _MAX_MODEL_ROWS)
    n_models = 1
    if isinstance(optimizer, Optimizer):
        n_models += len(optimizer.problem.constraints)
    return int(n_models * (_MODEL_BYTES + 8 * _MATRICES * n * n))


def _has_lost_its_device(error: Exception) -> bool:
    """Say whether CUDA failed: after such an error every later call in the process does, unless
    it was only out of memory.
    """
    is_cuda = isinstance(error, RuntimeError) and "CUDA error" in str(error)
    return is_cuda and not is_out_of_memory(error)
