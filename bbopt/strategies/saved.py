"""Reading a stored strategy state with its kind and layout checked."""

from collections.abc import Mapping

from bbopt.errors import DataLossError
from bbopt.trial import StrategyState


def read_scalars(
    state: StrategyState | None, kind: str, *, schema: int = 1
) -> Mapping[str, int | float | str]:
    """Return the scalars of a state; nothing for a strategy that starts.

    Args:
        state: As stored, or ``None``.
        kind: Name of the strategy that reads it.
        schema: Newest layout that it understands.

    Raises:
        DataLossError: Another strategy, or a newer version, wrote the state.
    """
    if state is None:
        return {}
    if state.kind != kind or not 1 <= state.schema <= schema:
        raise DataLossError(
            f"a state of {state.kind!r} in layout {state.schema} cannot continue "
            f"{kind!r}, which reads layouts up to {schema}"
        )
    return state.scalars
