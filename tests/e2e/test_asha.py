"""Successive halving through a real server: ``bbopt run``, a Python client, and a replay."""

import contextlib
import sqlite3
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bbopt.problem import Fidelity
from bbopt.replay import replay
from bbopt.rpc.log import event_from_message
from bbopt.rpc.v1 import log_pb2
from bbopt.space import Float
from bbopt.specs import AshaSpec, Promotion
from bbopt.trial import Asked, TrialState
from bbopt_client.client import Client
from bbopt_client.trial import Trial
from tests.e2e.command_line import CommandLine, served

STUDY = """\
name: {name}
parameters: {{x: 'float(0,1)'}}
objective: -loss
fidelity: {{name: epochs, low: 1, high: 9}}
strategy: {{name: asha, promotion: {promotion}}}
seed: 3
budget: {budget}
"""

TRAIN = """\
import argparse, os, pathlib, time
from bbopt_client import worker

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
parser.add_argument("--checkpoints", type=pathlib.Path)
parser.add_argument("--resume", default="")
options = parser.parse_args()
assert options.epochs == worker.budget()
assert options.checkpoints == worker.checkpoint_dir()
assert options.resume == os.environ.get("BBOPT_RESUME_FROM", "")
x = worker.parameters()["x"]
checkpoint = options.checkpoints / "epoch"
epoch = int(checkpoint.read_text()) if checkpoint.exists() else 0
assert (epoch > 0) == bool(options.resume)
while epoch < options.epochs:
    epoch += 1
    with open(options.checkpoints / "trained", "a") as log:
        log.write(f"{epoch}\\n")
    checkpoint.write_text(str(epoch))
    if worker.report(epoch, loss=(x - 0.3) ** 2 + 1 / epoch):
        break
    # Orders come at rungs; in between there is time for one that is late.
    wait_s = float(os.environ["WAIT"]) * (1.0 if epoch in (1, 3) else 0.4)
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline and not worker.should_stop():
        time.sleep(0.01)
    if worker.should_stop():
        break
"""
COMMAND = ("--epochs", "${budget}", "--checkpoints", "${checkpoint_dir}")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A server for tests that do not stop it."""
    with served(tmp_path_factory.mktemp("asha")) as line:
        yield line


@pytest.fixture
def line(tmp_path: Path) -> Iterator[CommandLine]:
    (tmp_path / "train.py").write_text(TRAIN)
    with served(tmp_path) as line:
        yield line


def run_study(
    line: CommandLine, name: str, promotion: Promotion, *, budget: int, wait_s: float
) -> list[dict[str, Any]]:
    text = STUDY.format(name=name, promotion=promotion.value, budget=budget)
    (line.folder / f"{name}.yaml").write_text(text)
    line.run("study", "create", "-f", f"{name}.yaml")
    here = CommandLine(line.folder, {"WAIT": str(wait_s)}, line.address)
    words = ("--parallel", "3", "--work-dir", name, "--", sys.executable, "train.py", *COMMAND)
    worker = here.worker(name, *words, "--resume=${resume_from}")
    _, said = worker.communicate(timeout=100)
    assert worker.returncode == 0, said
    trials: list[dict[str, Any]] = line.json("trials", name)
    return trials


def trained(folder: Path, configuration: int) -> list[int]:
    """The epochs that all trials of a configuration have trained, in order."""
    path = folder / "checkpoints" / f"configuration-{configuration:06d}" / "trained"
    return [int(each) for each in path.read_text().split()]


def configuration_of(trial: Mapping[str, Any], trials: list[dict[str, Any]]) -> int:
    while trial["resume_from"] is not None:
        trial = trials[trial["resume_from"] - 1]
    number: int = trial["number"]
    return number


def mismatches(line: CommandLine, name: str) -> list[Any]:
    """Stop the server, and compute every suggestion of the stored log again."""
    with Client(line.address, outbox=False) as client:
        spec = client.study(name).spec
    line.stop_server()
    with contextlib.closing(sqlite3.connect(line.folder / "studies.db")) as database:
        rows = database.execute("SELECT payload FROM event ORDER BY revision").fetchall()
    events = [event_from_message(log_pb2.LogEvent.FromString(data)) for (data,) in rows]
    assert sum(isinstance(event, Asked) for event in events) > 3
    return list(replay(spec.problem, spec.strategy, spec.drawn_seed, events))


def test_programs_that_end_at_their_budget_are_resumed(line: CommandLine) -> None:
    trials = run_study(line, "resumed", Promotion.RESUME, budget=24, wait_s=0.0)
    finished = [trial for trial in trials if trial["state"] == "completed"]
    assert len(finished) == 24
    promoted = [trial for trial in finished if trial["resume_from"] is not None]
    assert {trial["fidelity"] for trial in finished} == {1, 3, 9}
    assert len(promoted) >= 6
    for trial in finished:
        x, epochs = trial["parameters"]["x"], trial["fidelity"]
        assert trial["metrics"]["loss"] == (x - 0.3) ** 2 + 1 / epochs
    for trial in promoted:
        before = trials[trial["resume_from"] - 1]
        assert before["parameters"] == trial["parameters"]
        assert trial["fidelity"] == 3 * before["fidelity"]
        # Nothing was trained twice: each trial went on where the one before had stopped.
        epochs = trained(line.folder / "resumed", configuration_of(trial, trials))
        assert epochs == list(range(1, len(epochs) + 1))
        assert len(epochs) >= trial["fidelity"]
    assert mismatches(line, "resumed") == []


def test_programs_that_run_on_are_stopped_at_a_rung(line: CommandLine) -> None:
    trials = run_study(line, "stopped", Promotion.CONTINUE, budget=12, wait_s=1.0)
    stopped = [trial for trial in trials if trial["state"] == "stopped"]
    assert len(stopped) >= 6
    assert {trial["fidelity"] for trial in trials} == {9}
    # What each had measured by then is its result; few outrun the order.
    parts = [
        trial["metrics"]["loss"] - (trial["parameters"]["x"] - 0.3) ** 2 for trial in stopped
    ]
    epochs = [round(1 / part) for part in parts]
    assert max(epochs) < 9
    assert sum(epoch in (1, 3) for epoch in epochs) >= len(epochs) // 2
    assert mismatches(line, "stopped") == []


def test_an_objective_in_python_is_answered_and_resumed(shared: CommandLine) -> None:
    reached: dict[int, int] = {}
    lock = threading.Lock()

    def objective(trial: Trial) -> dict[str, float]:
        with lock:
            epoch = reached.get(trial.configuration, 0)
        loss = float("nan")
        while epoch < (trial.fidelity or 0):
            epoch += 1
            loss = (float(trial["x"]) - 0.3) ** 2 + 1 / epoch
            if trial.report(epoch, {"loss": loss}):
                trial.tell_stopped({"loss": loss})
                break
        with lock:
            reached[trial.configuration] = epoch
        return {"loss": loss}

    with Client(shared.address, outbox=False) as client:
        study = client.create_study(
            "python",
            space=[Float("x", 0.0, 1.0)],
            objective="-loss",
            fidelity=Fidelity("epochs", 1, 9),
            strategy=AshaSpec(Promotion.CONTINUE),
            seed=11,  # The first trial is the best: it stops before that can be known.
            trials=20,
        )
        study.optimize(objective, workers=4)
        trials = study.trials()
        records = study.to_records()
    states = [trial.state for trial in trials]
    assert states.count(TrialState.STOPPED) >= 8
    assert any(trial.resume_from for trial in trials)
    assert max(reached.values()) == 9
    assert {record["fidelity"] for record in records} == {9}


def test_a_fidelity_on_the_command_line(shared: CommandLine) -> None:
    words = ("--space", "x:float(0,1)", "--objective", "-loss", "--strategy", "asha")
    shared.run("study", "create", "cli", *words, "--fidelity", "epochs(1,27)")
    shown = shared.run("study", "show", "cli", "--definition").stdout
    assert "high: 27" in shown
    (trial,) = shared.json("ask", "cli")
    assert (trial["fidelity"], trial["resume_from"]) == (1, None)
    said = shared.run("study", "create", "no", *words, code=8).stderr
    assert "a problem without a fidelity" in said
    shared.create("plain")
    said = shared.run("run", "plain", "--", "echo", "${budget}", code=2).stderr
    assert "the study has no fidelity" in said
