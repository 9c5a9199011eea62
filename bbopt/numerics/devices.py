"""Which devices there are, and how numbers get there and back without many small copies."""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbopt.errors import InvalidError

Array = NDArray[np.float64]


@functools.cache
def n_cuda_devices() -> int:
    """Count the CUDA devices; the driver is asked once per process."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def resolve_device(name: str) -> torch.device:
    """Turn a setting into a device.

    Args:
        name: ``"auto"`` (CUDA when there is one, else the CPU), ``"cpu"``, ``"cuda"`` (the
            first) or ``"cuda:<index>"``.

    Returns:
        The device.

    Raises:
        InvalidError: The name is none of these, or asks for a CUDA device that is not there.
    """
    if name == "cpu" or (name == "auto" and not n_cuda_devices()):
        return torch.device("cpu")
    if name == "auto":
        name = "cuda"
    kind, _, index = name.partition(":")
    if kind != "cuda" or (":" in name and not index.isdecimal()):
        raise InvalidError.of("device", f"{name!r} is not auto, cpu, cuda or cuda:<index>")
    count = n_cuda_devices()
    if int(index or 0) >= count:
        raise InvalidError.of("device", f"{name!r} is not available: {count} CUDA devices here")
    return torch.device("cuda", int(index or 0))


def is_out_of_memory(error: Exception) -> bool:
    """Say whether a device had no memory left for a computation; the CPU may have it."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    # The driver and its libraries, when they ask for memory without torch.
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "CUDA error: out of memory" in text or "STATUS_ALLOC_FAILED" in text
    )


def to_device(device: torch.device, *arrays: Array) -> Sequence[Tensor]:
    """Return float64 arrays as tensors on a device, sent in one copy.

    Args:
        device: Where to.
        *arrays: Of any shapes, at least one; on the CPU their memory is shared.
    """
    if device.type == "cpu":
        return [torch.from_numpy(array) for array in arrays]
    # In the order of their memory, which a matrix product's last bits may depend on.
    rows = [array.T if _is_by_columns(array) else array for array in arrays]
    sent = torch.from_numpy(np.concatenate([row.ravel() for row in rows])).to(device)
    parts = sent.split([row.size for row in rows])
    tensors = [part.view(row.shape) for part, row in zip(parts, rows, strict=True)]
    return [t.mT if _is_by_columns(a) else t for t, a in zip(tensors, arrays, strict=True)]


def _is_by_columns(array: Array) -> bool:
    return array.ndim == 2 and array.flags.f_contiguous and not array.flags.c_contiguous


def to_host(*tensors: Tensor) -> Sequence[NDArray[np.float64]]:
    """Return tensors of one device as arrays, fetched in one copy.

    Each copy from a device waits for all that it has been given to do.

    Args:
        *tensors: Of any shapes, at least one; numbers that float64 holds exactly.

    Returns:
        Arrays of the same shapes, float64 if they come from a device; from the CPU they share
        the tensors' memory.
    """
    if tensors[0].device.type == "cpu":
        return [tensor.numpy() for tensor in tensors]
    flat = torch.cat([tensor.reshape(-1).to(torch.float64) for tensor in tensors]).cpu().numpy()
    ends = np.cumsum([tensor.numel() for tensor in tensors])
    parts = np.split(flat, ends[:-1])
    return [part.reshape(t.shape) for part, t in zip(parts, tensors, strict=True)]
