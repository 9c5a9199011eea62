"""The part that strategies share whose learning happens at the ask, from the shared columns."""

from collections.abc import Mapping
from typing import ClassVar

from bbopt.errors import UnsupportedError
from bbopt.strategies.strategy import Array, Predictions, Status


class RowCounter:
    """Remembers how many rows it has been told and what its last ask could do."""

    name: ClassVar[str]
    """Of a strategy that leaves ``predict`` as it is."""

    def __init__(self, scalars: Mapping[str, int | float | str]) -> None:
        """Continue from a state's scalars; without any, from nothing told."""
        self._n_told = int(scalars.get("n_told", 0))
        self._status = Status.RUNNING

    @property
    def n_told(self) -> int:
        """Rows of the columns that have been told."""
        return self._n_told

    def tell(self, rows: range) -> None:
        """Count the rows; the next ask reads them."""
        self._n_told = rows.stop

    def inject(self, rows: range) -> None:
        """Count the rows of somebody else's points; the next ask reads them like any other."""
        self._n_told = rows.stop

    def status(self) -> Status:
        """Say what the last ask could do."""
        return self._status

    def predict(self, X: Array) -> Predictions:
        """Refuse: there is no model.

        Raises:
            UnsupportedError: Always.
        """
        del X
        raise UnsupportedError.of("strategy", f"{self.name} has no model; use gp or auto")
