"""On which device the models of a study are computed, ask by ask.

The setting decides, and with ``auto`` a measurement; a device that ran out of memory is left
alone for a while. Bits differ between devices: what an ask was computed on is part of the state
after it, so that a log says where to compute it again. Without a CUDA device, ``auto`` is the
CPU, and a state of the CPU says nothing.
"""

from collections.abc import Mapping
from typing import Final

import torch

from bbopt.gp.posterior import capacity_for
from bbopt.numerics import resolve_device
from bbopt.strategies.gp_timing import is_faster

CPU: Final = torch.device("cpu")
MEASURED_FROM: Final = 256
"""Results below which ``auto`` stays on the CPU without a measurement. There, a core does the
arithmetic of an evaluation in the time that it takes to give it to a device (NVIDIA H100)."""
MEASURED_UNTIL: Final = 1200
"""Beyond, models stand on a choice of their results; see ``gp_rows``."""
TIME_TO_MEASURE_S: Final = 10.0
"""An ask that has less stays on the CPU unless its size was measured before."""
N_SPARED: Final = 20
"""Asks that are computed on the CPU after a device ran out of memory."""


class DevicePlan:
    """Where the asks of one study are computed."""

    def __init__(self, setting: str, scalars: Mapping[str, int | float | str]) -> None:
        """Continue from a state.

        Args:
            setting: ``auto``, ``cpu``, ``cuda`` or ``cuda:<index>``.
            scalars: With those of ``scalars()``, or none of them.

        Raises:
            InvalidError: There is no such device.
        """
        self._device = resolve_device(setting)
        self._is_measured = setting == "auto"
        self._spared_until = int(scalars.get("device_spared_until", 0))
        is_there = scalars.get("device") == str(self._device)
        self.current = self._device if is_there else CPU
        """Of the last ask that had a model."""

    def choose(
        self, n: int, d: int, *, n_asked: int, time_left_s: float | None = None
    ) -> torch.device:
        """Choose for the next ask.

        Args:
            n: Results.
            d: Columns.
            n_asked: Asks before this one.
            time_left_s: Seconds; ``None`` for no deadline.
        """
        has_time = time_left_s is None or time_left_s >= TIME_TO_MEASURE_S
        is_worth_it = self._is_worth_it(n, d, n_asked, has_time=has_time)
        self.current = self._device if is_worth_it else CPU
        return self.current

    def _is_worth_it(self, n: int, d: int, n_asked: int, *, has_time: bool) -> bool:
        if self._device.type == "cpu" or n_asked < self._spared_until:
            return False
        if not self._is_measured:
            return True
        if n < MEASURED_FROM:
            return False
        size = min(capacity_for(n), MEASURED_UNTIL)
        return is_faster(self._device, size, 1 << (d - 1).bit_length(), has_time=has_time)

    def spare(self, *, n_asked: int) -> None:
        """Stay on the CPU for a while, beginning with this ask: the memory is full."""
        self.current, self._spared_until = CPU, n_asked + 1 + N_SPARED

    def scalars(self, *, n_asked: int) -> dict[str, int | str]:
        """Return what to store; nothing for a study that knows the CPU only.

        Args:
            n_asked: Asks so far.
        """
        stored: dict[str, int | str] = {}
        if self.current.type != "cpu":
            stored["device"] = str(self.current)
        if n_asked < self._spared_until:
            stored["device_spared_until"] = self._spared_until
        return stored
