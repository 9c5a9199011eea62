"""Durable works per second of the SQLite store: ask- and tell-sized transactions.

One work is what the service does for one ask or one tell: look for a stored answer, read the
study, write a trial and an event, update the study, store the answer. Run::

    python benchmarks/store.py --folder /where/the/database/would/be
"""

import argparse
import asyncio
import tempfile
import time
from functools import partial
from pathlib import Path

from bbopt_server.storage.sqlite import SqliteStore
from bbopt_server.storage.store import EventRow, ResponseRow, StudyRow, Transaction, TrialRow

_PAYLOAD = bytes(900)


def _study() -> StudyRow:
    return StudyRow(
        key=0,
        uid="u",
        project="default",
        study_id="s",
        display_name="",
        spec=_PAYLOAD,
        state="ACTIVE",
        state_reason=b"",
        labels=b"",
        n_trials=0,
        revision=0,
        cost_spent=0.0,
        created_at=0.0,
        updated_at=0.0,
        etag="e",
    )


def _ask(transaction: Transaction, request_id: str) -> int:
    """Create a trial, as an ask does: two reads and four writes."""
    assert transaction.response("default", "AskTrials", request_id) is None
    study = transaction.study("default", "s")
    assert study is not None
    number, revision, now = study.n_trials + 1, study.revision + 1, time.time()
    transaction.insert_trial(
        TrialRow(
            study_key=study.key,
            number=number,
            state="ACTIVE",
            state_message="",
            point=_PAYLOAD,
            outcome=None,
            labels=b"",
            attempt=1,
            worker="w",
            lease_token=request_id,
            lease_duration_s=60.0,
            late=False,
            feasible=None,
            amendments=0,
            revision=revision,
            created_at=now,
            started_at=now,
            ended_at=None,
        )
    )
    transaction.append_event(EventRow(study.key, revision, "asked", number, _PAYLOAD, now))
    transaction.update_study(study._replace(n_trials=number, revision=revision, updated_at=now))
    transaction.put_response(
        ResponseRow("default", "AskTrials", request_id, bytes(16), _PAYLOAD, now)
    )
    return number


def _tell(transaction: Transaction, request_id: str, number: int) -> None:
    """Finish a trial, as a tell does: three reads and four writes."""
    assert transaction.response("default", "TellTrials", request_id) is None
    study = transaction.study("default", "s")
    assert study is not None
    trial = transaction.trial(study.key, number)
    assert trial is not None
    revision, now = study.revision + 1, time.time()
    done = trial._replace(state="COMPLETED", outcome=bytes(60), revision=revision, ended_at=now)
    transaction.update_trial(done)
    transaction.append_event(EventRow(study.key, revision, "told", number, bytes(60), now))
    transaction.update_study(study._replace(revision=revision, updated_at=now))
    transaction.put_response(
        ResponseRow("default", "TellTrials", request_id, bytes(16), bytes(60), now)
    )


async def _client(store: SqliteStore, name: int, n_pairs: int, waits_s: list[float]) -> None:
    for pair in range(n_pairs):
        begin = time.perf_counter()
        number = await store.transact(partial(_ask, request_id=f"a-{name}-{pair}"))
        middle = time.perf_counter()
        await store.transact(partial(_tell, request_id=f"t-{name}-{pair}", number=number))
        waits_s += [middle - begin, time.perf_counter() - middle]


async def _measure(folder: Path, n_clients: int, n_pairs: int) -> str:
    store = SqliteStore.open(str(folder / f"{n_clients}.db"))
    await store.transact(lambda t: t.insert_study(_study()))
    waits_s: list[float] = []
    begin, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(
        *(_client(store, each, n_pairs // n_clients, waits_s) for each in range(n_clients))
    )
    wall_s, cpu_s = time.perf_counter() - begin, time.process_time() - cpu
    await store.close()
    waits_s.sort()
    n = len(waits_s)
    return (
        f"{n_clients:7d}  {n / wall_s:10.0f}  {1e3 * waits_s[n // 2]:7.2f}  "
        f"{1e3 * waits_s[n * 99 // 100]:7.2f}  {1e6 * cpu_s / n:11.0f}"
    )


def main() -> None:
    """Print a line for each number of concurrent callers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="where to put the databases (default: temporary)")
    parser.add_argument("--pairs", type=int, default=4000, help="asks, each with its tell")
    options = parser.parse_args()
    print("callers     works/s  p50 ms   p99 ms  CPU us/work")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for n_clients in (1, 8, 64, 256):
            print(asyncio.run(_measure(Path(folder), n_clients, options.pairs)))


if __name__ == "__main__":
    main()
