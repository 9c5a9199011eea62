"""Which device the tensors of a study live on, decided once and by name."""

import torch

from bbopt.errors import InvalidError


def resolve_device(name: str) -> torch.device:
    """Turn a setting into a device.

    Args:
        name: ``"auto"`` (CUDA when there is one, else the CPU), ``"cpu"``, ``"cuda"`` or
            ``"cuda:<index>"``.

    Returns:
        The device.

    Raises:
        InvalidError: The name is none of these, or asks for a CUDA device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "cuda" or (":" in name and not index.isdecimal()):
        raise InvalidError.of("device", f"{name!r} is not auto, cpu, cuda or cuda:<index>")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(index or 0) >= count:
        raise InvalidError.of("device", f"{name!r} is not available: {count} CUDA devices here")
    return torch.device(name)
