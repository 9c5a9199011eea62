"""``python -m tests.replay.record [NAME ...]``: record the studies of ``recorded/`` anew.

Each is run through a real server by two workers that also fail, give back, find points
infeasible, correct themselves and bring points of their own.

Recording anew is right when a strategy was *meant* to suggest something else from now on; say
so in the changelog, because studies that are under way change course too. It is also right,
and harmless, where a file is to come from a newer build of torch or numpy. It is wrong when a
test in this folder fails and nobody knows why: then a study cannot be rebuilt from its log.
"""

import asyncio
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bbopt.problem import Fidelity
from bbopt.problems import (
    KnownProblem,
    branin,
    constrained_gramacy,
    hartmann6,
    mixed_conditional,
)
from bbopt.rpc.study import study_spec_to_message
from bbopt.rpc.v1 import log_pb2
from bbopt.specs import (
    AshaSpec,
    AutoSpec,
    CmaEsSpec,
    GPSpec,
    RandomSpec,
    SobolSpec,
    StrategySpec,
    StudySpec,
)
from bbopt_client.client import Client
from bbopt_client.study import Study
from bbopt_client.trial import Trial
from bbopt_server.compute import ComputePool
from bbopt_server.storage import open_store
from bbopt_server.storage.store import EventRow, Transaction
from tests.e2e.served import ServerThread
from tests.replay.recordings import Recording, this_build
from tests.waiting import wait_until

EPOCHS = Fidelity("epochs", low=1, high=9)
STUDIES: Mapping[str, tuple[KnownProblem, StrategySpec, int]] = {
    "sobol": (mixed_conditional(), SobolSpec(), 20),
    "random": (mixed_conditional(), RandomSpec(), 20),
    "gp": (branin(), GPSpec(n_initial=4), 16),
    "gp_constrained": (constrained_gramacy(), GPSpec(n_initial=4), 14),
    "auto": (hartmann6(), AutoSpec(), 16),
    "cma_es": (hartmann6(), CmaEsSpec(), 40),
    "asha": (branin(), AshaSpec(), 24),
}
"""Problem, strategy, and how many trials to ask for."""


def record(name: str) -> Recording:
    """Run a study and return what the store has of it."""
    known, strategy, n_trials = STUDIES[name]
    problem = known.problem
    if isinstance(strategy, AshaSpec):
        problem = replace(problem, fidelity=EPOCHS)
    spec = StudySpec(problem, strategy, seed=20)
    with tempfile.TemporaryDirectory() as folder:
        db = str(Path(folder) / "studies.db")
        pool = ComputePool(device="cpu")
        server = ServerThread(db, pool)
        try:
            wait_until(lambda: pool.is_ready)
            with (
                Client(server.address, outbox=False) as one,
                Client(server.address, outbox=False) as other,
            ):
                one.create_study_from(name, spec)
                _play((one.study(name), other.study(name)), known, n_trials)
        finally:
            server.stop()
        log = asyncio.run(_read_log(db, name))
    return Recording(study_spec_to_message(spec), log, this_build())


def _play(workers: tuple[Study, Study], known: KnownProblem, n_trials: int) -> None:
    """Ask now as one worker, now as the other, and keep up to three trials unfinished."""
    held: list[Trial] = []
    n_asked = 0
    if not isinstance(workers[0].spec.strategy, AshaSpec):
        workers[1].enqueue(known.optimizer)
    while n_asked < n_trials:
        asked = workers[n_asked % 2].ask(1 + n_asked % 2, wait_s=0.0)
        n_asked += len(asked)
        held += asked
        n_due = len(held) - 3 if asked else 1  # None came: a result is waited for.
        for _ in range(n_due):
            _end(held.pop(len(held) // 2), known)
    for trial in held:
        _end(trial, known)
    last = workers[0].ask(1).trials
    assert last, "nothing was suggested after the last result"


def _end(trial: Trial, known: KnownProblem) -> None:
    """Tell a trial's result, or something else that happens to trials."""
    values = known.evaluate(trial.parameters)
    if trial.number % 7 == 3 and trial.attempt == 1:
        trial.fail("out of memory")
    elif trial.number % 9 == 4:
        trial.tell_infeasible("diverged")
    elif trial.fidelity is not None:
        _train(trial, values)
    else:
        trial.tell(values)
        if trial.number == 5:
            corrected = {metric: value + 1.0 for metric, value in values.items()}
            trial.study.amend(trial, corrected, "a typo")


def _train(trial: Trial, values: Mapping[str, float]) -> None:
    """Report what an evaluation gets better at with every epoch."""
    assert trial.fidelity is not None
    (name, best), *_ = values.items()
    for epoch in range(1, trial.fidelity + 1):
        curve = {name: best + 10.0 / epoch}
        if trial.report(epoch, curve, elapsed_s=float(epoch)):
            trial.tell_stopped(curve)
            return
    trial.tell(curve)


async def _read_log(db: str, name: str) -> list[log_pb2.LogEvent]:
    def read(tx: Transaction) -> list[EventRow]:
        study = tx.study("default", name)
        assert study is not None
        return list(tx.events(study.key, limit=100_000))

    store = open_store(db)
    try:
        rows = await store.read(read)
    finally:
        await store.close()
    return [log_pb2.LogEvent.FromString(row.payload) for row in rows]


def main(names: list[str]) -> None:
    """Record the named studies, or all of them."""
    for name in names or STUDIES:
        recording = record(name)
        recording.save(name)
        print(f"{name}: {len(recording.log)} events", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
