"""A CUDA device that is not there: tensors that say ``cuda:0`` and compute on the CPU.

What a real card refuses is refused here: an operation on tensors of both devices, ``numpy()``
of a device tensor. What a real card does silently is counted: copies to and fro, and every wait
for a number. Since each operation is the CPU's own, an engine that keeps its tensors apart gets
the same bits here as on the CPU.

Only inside ``PretendDevice``. It relies on torch taking a mode with the key of fake tensors for
a reason not to look for a driver; to torch the tensors are on the ``meta`` device, for which it
looks for none either. A Python list as an index of a device tensor is refused: torch would copy
it silently, and here it would lose its numbers.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE: Final = torch.device("cuda", 0)
CPU: Final = torch.device("cpu")
_ATEN: Final = torch.ops.aten
_READS: Final = frozenset(
    {
        _ATEN._local_scalar_dense,
        _ATEN.equal,
        _ATEN.is_nonzero,
        _ATEN.masked_select,
        _ATEN.nonzero,
    }
)
_INDEXED: Final = frozenset({_ATEN.index, _ATEN.index_put, _ATEN.index_put_})

TO_DEVICE: Final = "copy to the device"
TO_HOST: Final = "copy to the host"
READ: Final = "wait for a number"


class MixedDevicesError(RuntimeError):
    """An operation got tensors of both devices."""


class PretendTensor(torch.Tensor):
    """A tensor that claims to be on the card; ``held`` has its numbers."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls: type, held: torch.Tensor) -> "PretendTensor":
        # A view of what was made outside inference mode is no inference tensor, also inside it.
        with torch.inference_mode(held.is_inference()):
            made: PretendTensor = torch.Tensor._make_wrapper_subclass(
                cls,
                held.size(),
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                device=torch.device("meta"),
            )
        made.held = held
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Any,  # noqa: ANN401
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        raise RuntimeError(f"{func} of a pretended tensor outside its mode")

    def __repr__(self) -> str:  # type: ignore[override]
        return f"PretendTensor({tuple(self.shape)}, {self.dtype})"


class PretendDevice(TorchDispatchMode):
    """While active, ``cuda:0`` exists."""

    _mode_key = torch._C._TorchDispatchModeKey.FAKE

    def __init__(self, before: Callable[[str], None] | None = None) -> None:
        """Start with nothing counted.

        Args:
            before: Called with the name of every operation on a device tensor; may raise.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._before = before
        self.crossings: list[tuple[str, str, int]] = []
        """What, by which operation, how many numbers."""
        self.n_operations = 0
        """On device tensors."""
        self.narrow: set[str] = set()
        """Operations that made floating numbers of less than 64 bits on the device."""

    def count(self, *kinds: str) -> int:
        """Return how many crossings of some kinds there were."""
        return sum(kind in kinds for kind, _, _ in self.crossings)

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        named = dict(kwargs or {})
        tensors = [*_tensors(args), *_tensors(named.values())]
        ours = [t for t in tensors if isinstance(t, PretendTensor)]
        target = named.get("device")
        if not ours and not _is_ours(target):
            return func(*args, **named)
        if _is_composite(func):
            with self:  # Inference mode hands such operations over whole.
                return func.decompose(*args, **named)
        self.n_operations += 1
        if self._before is not None:
            self._before(str(func))
        packet = func.overloadpacket
        if packet is _ATEN._to_copy:
            return self._copy(func, args, named)
        if _is_ours(target):
            named["device"] = CPU
        if packet is _ATEN.copy_ and ours[0] is tensors[0]:
            if len(ours) < len(tensors):
                self._note(TO_DEVICE, func, tensors[1])
        elif len(ours) < len(tensors):
            self._check_mixture(func, args, tensors)
        if packet in _READS or (packet in _INDEXED and _has_mask(args[1])):
            self._note(READ, func, ours[0])
        return self._run(func, args, named, ours)

    def _run(
        self,
        func: Any,  # noqa: ANN401
        args: Sequence[Any],
        kwargs: dict[str, Any],
        ours: Sequence[PretendTensor],
    ) -> Any:  # noqa: ANN401
        result = func(
            *_mapped(_inner, args),
            **dict(zip(kwargs, _mapped(_inner, kwargs.values()), strict=True)),
        )
        known = {id(t.held): t for t in ours}  # Of operations in place.

        def wrapped(value: Any) -> Any:  # noqa: ANN401
            if not isinstance(value, torch.Tensor):
                return value
            if value.dtype.is_floating_point and value.dtype is not torch.float64:
                self.narrow.add(str(func))
            mine = known.get(id(value))
            return PretendTensor(value) if mine is None else mine

        return _mapped(wrapped, (result,))[0]

    def _copy(
        self,
        func: Any,  # noqa: ANN401
        args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> Any:  # noqa: ANN401
        source, target = args[0], kwargs.pop("device", None)
        is_ours = isinstance(source, PretendTensor)
        is_to_us = is_ours if target is None else _is_ours(target)
        if is_ours != is_to_us:
            self._note(TO_DEVICE if is_to_us else TO_HOST, func, source)
        result = func(_inner(source), **kwargs)
        return PretendTensor(result) if is_to_us else result

    def _check_mixture(
        self,
        func: Any,  # noqa: ANN401
        args: Sequence[Any],
        tensors: Sequence[torch.Tensor],
    ) -> None:
        """Refuse tensors of both devices; indices from the host are copied silently."""
        theirs = [t for t in tensors if not isinstance(t, PretendTensor)]
        is_index = func.overloadpacket in _INDEXED and isinstance(args[0], PretendTensor)
        indices = {id(t) for t in _tensors(args[1])} if is_index else set()
        if any(id(t) not in indices or t.device.type == "meta" for t in theirs):
            shapes = [f"{tuple(t.shape)} on {t.device}" for t in tensors]
            raise MixedDevicesError(f"{func}: {', '.join(shapes)}")
        for t in theirs:
            self._note(TO_DEVICE, func, t)

    def _note(self, what: str, func: object, tensor: torch.Tensor) -> None:
        self.crossings.append((what, str(func), tensor.numel()))


@functools.cache
def _is_composite(func: Any) -> bool:  # noqa: ANN401
    return bool(
        torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
    )


def _is_ours(device: Any) -> bool:  # noqa: ANN401
    return device is not None and torch.device(device).type in ("cuda", "meta")


def _inner(value: Any) -> Any:  # noqa: ANN401
    return value.held if isinstance(value, PretendTensor) else value


def _has_mask(indices: Any) -> bool:  # noqa: ANN401
    return any(t.dtype is torch.bool for t in _tensors(indices))


def _tensors(values: Any) -> Iterator[torch.Tensor]:  # noqa: ANN401
    """Return the tensors among arguments, which may be lists of tensors."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _mapped(change: Callable[[Any], Any], values: Any) -> list[Any]:  # noqa: ANN401
    return [
        type(value)(_mapped(change, value)) if type(value) in (list, tuple) else change(value)
        for value in values
    ]
