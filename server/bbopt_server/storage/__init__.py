"""Where everything that was acknowledged is kept; only this package knows SQL."""

from bbopt_server.storage.memory import MemoryStore
from bbopt_server.storage.sqlite import SqliteStore
from bbopt_server.storage.store import Store


def open_store(where: str) -> Store:
    """Open the store that an operator named.

    Args:
        where: Path of a SQLite file, created if there is none, or ``:memory:``.

    Raises:
        UnavailableError: Another server has the file, or it cannot be opened durably.
        PreconditionError: It belongs to another application or to a newer version.
        DataLossError: It is damaged.
    """
    return MemoryStore() if where == ":memory:" else SqliteStore.open(where)


__all__ = ["MemoryStore", "SqliteStore", "Store", "open_store"]
