import numpy as np
import pytest
import torch

from bbopt.errors import InvalidError
from bbopt.numerics import resolve_device
from bbopt.numerics.devices import is_out_of_memory, to_device, to_host
from tests.unit.devices.pretend import DEVICE, TO_DEVICE, TO_HOST, PretendDevice


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


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublas`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (MemoryError("out of memory"), False),
    ],
)
def test_only_a_device_without_memory_is_out_of_memory(
    error: Exception, expected: bool
) -> None:
    assert is_out_of_memory(error) is expected


def test_several_arrays_make_the_way_there_and_back_in_one_copy_each() -> None:
    rows = np.arange(6.0).reshape(2, 3)
    arrays = [rows, rows.T, np.array(7.0), np.arange(4.0)[::2]]
    with PretendDevice() as mode:
        tensors = to_device(DEVICE, *arrays)
        assert all(tensor.device == DEVICE for tensor in tensors)
        assert [tensor.is_contiguous() for tensor in tensors] == [True, False, True, True]
        back = to_host(*tensors)
    assert mode.count(TO_DEVICE) == mode.count(TO_HOST) == 1
    for array, found in zip(arrays, back, strict=True):
        np.testing.assert_array_equal(array, found)
        assert array.shape == found.shape


def test_on_the_cpu_nothing_is_copied() -> None:
    array = np.arange(6.0)
    (tensor,) = to_device(torch.device("cpu"), array)
    (back,) = to_host(tensor)
    array[0] = 5.0
    assert back[0] == 5.0
