"""A real server whose compute process is killed again and again: no client may notice more
than a delay, and what is recorded must replay.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from bbopt import Float, Metric, MetricKind, Problem, Space
from bbopt.errors import UnavailableError
from bbopt.problem import Goal
from bbopt.replay import replay
from bbopt.rpc.study import study_spec_to_message
from bbopt.rpc.v1 import study_pb2, trial_pb2
from bbopt.specs import GPSpec, StudySpec
from tests.e2e.served import Caller, ServerProcess, new_id
from tests.kept import read_file
from tests.waiting import is_running, wait_until

SPEC = StudySpec(
    Problem(
        Space((Float("x", 0.0, 1.0), Float("y", 0.0, 1.0), Float("z", 0.0, 1.0))),
        (Metric("loss", MetricKind.OBJECTIVE, Goal.MINIMIZE),),
    ),
    GPSpec(n_initial=4),
    seed=11,
)


def kill_compute(server: ServerProcess) -> int:
    """Kill what there is of compute; return how many processes that were."""
    n_killed = 0
    for each in server.compute_processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
            n_killed += 1
    return n_killed


def loss_at(parameters: Mapping[str, study_pb2.ParamValue]) -> float:
    # A map has no order, and a sum in another order has other last bits.
    return sum((parameters[name].double_value - 0.3) ** 2 for name in sorted(parameters))


def run_study(
    caller: Caller, study_id: str, n_rounds: int, disturb: Callable[[int], None]
) -> list[trial_pb2.Trial]:
    """Create a study and play its first rounds."""
    study = caller.create(study_id, study_spec_to_message(SPEC)).name
    return play(caller, study, range(n_rounds), disturb)


def play(
    caller: Caller,
    study: str,
    rounds: range,
    disturb: Callable[[int], None] = lambda _: None,
) -> list[trial_pb2.Trial]:
    """Ask for one to three trials in turn, and tell them; ``disturb`` acts beside each ask."""
    trials: list[trial_pb2.Trial] = []
    with ThreadPoolExecutor(1) as beside:
        for i in rounds:
            disturbing = beside.submit(disturb, i)
            asked = list(caller.ask(study, 1 + i % 3, timeout_s=90.0).trials)
            disturbing.result()
            assert len(asked) == 1 + i % 3
            for trial in asked:
                caller.tell(study, trial, loss_at(trial.parameters))
            trials += asked
    return trials


def essence(trial: trial_pb2.Trial) -> tuple[object, ...]:
    return trial.number, dict(trial.parameters), trial.provenance


def assert_replays(db: Path, study_id: str) -> None:
    kept = read_file(db, study_id)
    kept.check()
    assert kept.mismatches() == []
    # Of the first asks alone: those of a model take their time.
    assert replay(SPEC.problem, SPEC.strategy, SPEC.drawn_seed + 1, kept.events[:8]) != []


def test_a_study_whose_compute_is_killed_gets_what_its_twin_gets(tmp_path: Path) -> None:
    db = tmp_path / "studies.db"
    server = ServerProcess(str(db))
    n_killed = 0

    def kill(i: int) -> None:
        nonlocal n_killed
        if i in (4, 8):  # A third time would set the study aside.
            time.sleep(0.002 * i)  # Before, during or after the computation: any will do.
            n_killed += kill_compute(server)

    with Caller(server.address) as caller:
        calm = run_study(caller, "calm", 10, lambda _: None)
        shaken = run_study(caller, "shaken", 10, kill)
    status, errors = server.end(signal.SIGTERM)
    assert status == 0, errors
    assert n_killed == 2
    assert [essence(each) for each in shaken] == [essence(each) for each in calm]
    assert {each.provenance.generator for each in calm} == {"center", "sobol", "gp"}
    assert_replays(db, "shaken")


def test_a_study_whose_server_is_killed_gets_what_its_twin_gets(tmp_path: Path) -> None:
    db = tmp_path / "studies.db"
    server = ServerProcess(str(db))
    with Caller(server.address) as caller:
        calm = run_study(caller, "calm", 10, lambda _: None)
        shaken = run_study(caller, "shaken", 5, lambda _: None)
    name = shaken[0].name.rpartition("/trials/")[0]
    for rounds in (range(5, 8), range(8, 10)):
        server.end(signal.SIGKILL)
        server = ServerProcess(str(db))
        with Caller(server.address) as caller:
            shaken += play(caller, name, rounds)
    status, errors = server.end(signal.SIGTERM)
    assert status == 0, errors
    assert [essence(each) for each in shaken] == [essence(each) for each in calm]
    assert {each.provenance.generator for each in calm} == {"center", "sobol", "gp"}
    assert_replays(db, "shaken")


def test_the_log_of_many_clients_replays_after_both_processes_were_killed(
    tmp_path: Path,
) -> None:
    db = tmp_path / "studies.db"
    server = ServerProcess(str(db))
    with Caller(server.address) as caller:
        study = caller.create("shared", study_spec_to_message(SPEC)).name
        caller.ask(study)
    has_ended = threading.Event()

    def work(address: str) -> None:
        with Caller(address, worker=new_id()) as client:
            while not has_ended.is_set():
                try:
                    for trial in client.ask(study, timeout_s=30.0).trials:
                        client.tell(study, trial, loss_at(trial.parameters))
                except UnavailableError:
                    return  # The server was killed.

    def disturb(end: Callable[[], object]) -> None:
        """Let three clients work, kill compute under them, let them go on, then ``end``."""
        with Caller(server.address) as caller, ThreadPoolExecutor(3) as clients:
            working = [clients.submit(work, server.address) for _ in range(3)]
            n_wanted = len(caller.trials(study)) + 8
            wait_until(lambda: len(caller.trials(study)) >= n_wanted)
            kill_compute(server)
            wait_until(lambda: len(caller.trials(study)) >= n_wanted + 8)
            end()
            for each in working:
                each.result(60.0)

    disturb(lambda: server.end(signal.SIGKILL))
    server = ServerProcess(str(db))
    disturb(has_ended.set)
    with Caller(server.address) as caller:
        trials = caller.trials(study)
    status, errors = server.end(signal.SIGTERM)
    assert status == 0, errors
    assert [trial.number for trial in trials] == list(range(1, len(trials) + 1))
    assert sum(trial.provenance.generator == "gp" for trial in trials) >= 10
    assert_replays(db, "shared")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_no_compute_process_outlives_its_server(tmp_path: Path, end: int) -> None:
    server = ServerProcess(str(tmp_path / "studies.db"))
    with Caller(server.address) as caller:
        study = caller.create("study", study_spec_to_message(SPEC)).name
        caller.ask(study)
        (process,) = server.compute_processes
        assert process.environ()["OMP_NUM_THREADS"] == "1"
        assert os.getsid(process.pid) != os.getsid(server.process.pid)
    server.end(end)
    wait_until(lambda: not is_running(process.pid), limit_s=5.0)
