"""Every store passes the contract."""

from pathlib import Path

from bbopt_server.storage import MemoryStore, SqliteStore
from bbopt_server.storage.store import Store
from tests.contract.store_contract import StoreContract


class TestMemoryStore(StoreContract):
    def make_store(self, folder: Path) -> Store:  # noqa: ARG002 - it leaves no files.
        return MemoryStore()


class TestSqliteStore(StoreContract):
    def make_store(self, folder: Path) -> Store:
        return SqliteStore.open(str(folder / "studies.db"))
