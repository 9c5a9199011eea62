"""The power fails under a working service: what was acknowledged is there afterwards."""

import asyncio
import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from bbopt.errors import DataLossError, UnavailableError
from bbopt.rpc.v1 import trial_pb2
from bbopt_server.storage.schema import load_migrations
from bbopt_server.storage.sqlite import SqliteStore
from bbopt_server.storage.sqlite_connection import connect
from tests.faults.power_loss import Disk, DiskVfs, Keep, open_on
from tests.kept import Kept, read_study
from tests.unit.server.service import Service, completed, quadratic

PATH = "studies.db"
N_SLOW, N_FAST = 200, 6
N_WORKERS = 4
LATEST = 1200
"""Changes of the disk before the power fails, at most: some 150 commits."""
CHECKPOINT_WRITES = 20
"""Often enough for the power to fail in a checkpoint, too."""


@dataclass
class Acknowledged:
    """What callers were told."""

    is_founded: bool = False
    asked: dict[int, str] = field(default_factory=dict)
    """Lease token of each trial that was handed out."""
    told: dict[int, float] = field(default_factory=dict)
    """Loss of each trial that was completed."""

    def __len__(self) -> int:
        return self.is_founded + len(self.asked) + len(self.told)


@dataclass(frozen=True)
class Found:
    """What is there when the power is back."""

    kept: Kept | None
    damage: str = ""

    def n_lost(self, acknowledged: Acknowledged) -> int:
        """Count what was acknowledged and is gone."""
        if self.kept is None:
            return len(acknowledged)
        numbers = {row.number for row in self.kept.trials}
        losses = self.kept.losses
        n_asked = sum(number not in numbers for number in acknowledged.asked)
        n_told = sum(losses.get(number) != [loss] for number, loss in acknowledged.told.items())
        return n_asked + n_told


@dataclass(frozen=True)
class Result:
    """How a power loss ended."""

    n_acknowledged: int
    n_lost: int
    damage: str


@contextmanager
def connected(disk: Disk) -> Iterator[sqlite3.Connection]:
    """Open the studies on a disk as a server does."""
    vfs = DiskVfs(disk)
    try:
        connection = connect(PATH, load_migrations("sqlite"), open_file=open_on(vfs))
        try:
            yield connection
        finally:
            connection.close()
    finally:
        vfs.close()


async def work(store: SqliteStore, seed: int, acknowledged: Acknowledged) -> None:
    """Ask and tell until the store fails, and note what was acknowledged."""
    service = Service(store=store)
    rng = random.Random(seed)  # noqa: S311

    async def drive() -> None:
        while True:
            (trial,) = (await service.ask(1)).trials
            acknowledged.asked[trial.number] = trial.lease.token
            loss = rng.random()
            result = await service.tell(trial, completed(loss))
            assert result.state == trial_pb2.Trial.STATE_COMPLETED
            acknowledged.told[trial.number] = loss

    try:
        await service.create(quadratic(strategy="random"))
    except UnavailableError:
        return
    acknowledged.is_founded = True
    drivers = [asyncio.create_task(drive()) for _ in range(N_WORKERS)]
    for failure in await asyncio.gather(*drivers, return_exceptions=True):
        assert isinstance(failure, UnavailableError), failure
    await service.studies.stop()


async def until_the_power_fails(
    disk: Disk, seed: int, synchronous: str, checkpoint_writes: int
) -> Acknowledged:
    """Run a service on a disk; return what was acknowledged before the power failed."""
    acknowledged = Acknowledged()
    try:
        with connected(disk) as connection:
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            store = store_of(connection, checkpoint_writes)
            await work(store, seed, acknowledged)
            await store.close()
    except (UnavailableError, sqlite3.Error):  # It failed before there was a store.
        assert len(acknowledged) == 0
    assert disk.has_failed
    return acknowledged


async def after_the_power_is_back(disk: Disk) -> Found:
    """Open what the disk kept, as a server would, and look at all of it."""
    try:
        with connected(disk) as connection:
            (damage,) = connection.execute("PRAGMA integrity_check").fetchone()
            if damage != "ok":
                return Found(None, damage)
            store = store_of(connection)
            try:
                kept = await read_study(store)
            finally:
                await store.close()
            if kept is not None:
                kept.check()
            return Found(kept)
    except (DataLossError, AssertionError) as error:
        return Found(None, f"{type(error).__name__}: {error}")


def store_of(
    connection: sqlite3.Connection, checkpoint_writes: int = CHECKPOINT_WRITES
) -> SqliteStore:
    return SqliteStore(
        connection, path=PATH, on_point=lambda _: None, checkpoint_writes=checkpoint_writes
    )


def lose_power(
    seed: int,
    keep: Keep,
    *,
    synchronous: str = "FULL",
    checkpoint_writes: int = CHECKPOINT_WRITES,
) -> Result:
    """Run a service until the power fails, and see what is left of its work."""
    rng = random.Random(f"{seed} {keep.value}")  # noqa: S311
    disk = Disk(fails_at=rng.randint(1, LATEST))
    acknowledged = asyncio.run(
        until_the_power_fails(disk, seed, synchronous, checkpoint_writes)
    )
    found = asyncio.run(after_the_power_is_back(disk.after_power_loss(keep, rng)))
    return Result(len(acknowledged), found.n_lost(acknowledged), found.damage)


def check_nothing_is_lost(keep: Keep, n_seeds: int) -> None:
    results = [lose_power(seed, keep) for seed in range(n_seeds)]
    assert [result.damage for result in results] == [""] * n_seeds
    assert [result.n_lost for result in results] == [0] * n_seeds
    # The power fails after 600 changes on average, of which a commit needs some ten.
    assert sum(result.n_acknowledged for result in results) > 20 * n_seeds


@pytest.mark.parametrize("keep", Keep)
def test_a_power_loss_takes_nothing_that_was_acknowledged(keep: Keep) -> None:
    check_nothing_is_lost(keep, N_FAST)


def test_without_a_sync_at_each_commit_a_power_loss_takes_what_was_acknowledged() -> None:
    # A checkpoint syncs what was committed before it, so there must not be one all the time.
    results = [
        lose_power(seed, Keep.NOTHING, synchronous="NORMAL", checkpoint_writes=100)
        for seed in range(N_FAST)
    ]
    assert sum(result.n_lost for result in results) > 0
    assert [result.damage for result in results] == [""] * N_FAST


def test_without_any_sync_a_power_loss_damages_files() -> None:
    seeds = range(2 * N_FAST)
    assert any(lose_power(seed, Keep.SOME, synchronous="OFF").damage for seed in seeds)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("keep", Keep)
def test_hundreds_of_power_losses_take_nothing_that_was_acknowledged(keep: Keep) -> None:
    check_nothing_is_lost(keep, N_SLOW)
