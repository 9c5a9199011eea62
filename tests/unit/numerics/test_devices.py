import pytest
import torch

from bbopt.errors import InvalidError
from bbopt.numerics import resolve_device


def test_auto_is_cuda_only_where_there_is_one() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == expected


def test_cpu_is_the_cpu() -> None:
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    "name", ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "CUDA", "cuda:99"]
)
def test_a_device_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidError, match="device"):
        resolve_device(name)
