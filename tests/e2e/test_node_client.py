"""A client that has nothing of ours but the .proto files: Node.js with gRPC's own packages."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import study_pb2, trial_pb2
from tests.e2e.served import Caller, ServerProcess

ROOT = Path(__file__).resolve().parents[2]

needs_node = pytest.mark.skipif(
    shutil.which("node") is None or shutil.which("npm") is None,
    reason="node or npm is missing",
)


def run(command: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - node and npm, with our own arguments
        [shutil.which(command[0]) or command[0], *command[1:]],
        cwd=cwd,
        env=os.environ | {"NO_COLOR": "1", "npm_config_update_notifier": "false"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example and the .proto files, copied to where there is nothing else, installed."""
    root = tmp_path_factory.mktemp("node")
    shutil.copytree(ROOT / "proto", root / "proto")
    ignored = shutil.ignore_patterns("node_modules", "package-lock.json")
    folder = shutil.copytree(ROOT / "examples/node", root / "examples/node", ignore=ignored)
    flags = ("--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock")
    done = run(["npm", "install", "--prefer-offline", *flags], folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    server = ServerProcess(str(tmp_path_factory.mktemp("served") / "s.db"))
    try:
        with Caller(server.address) as caller:
            yield caller
    finally:
        server.end(signal.SIGKILL)


@needs_node
def test_a_stranger_optimizes_with_nothing_but_the_proto_files(
    example: Path, caller: Caller
) -> None:
    done = run(["node", "optimize.js", caller.address, "from-node", "8"], example)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    summary = json.loads(line)
    name = "projects/default/studies/from-node"
    study = caller.call(caller.optimization.GetStudy, pb.GetStudyRequest(name=name))
    trials = caller.trials(name)
    completed = trial_pb2.Trial.STATE_COMPLETED
    assert [trial.state for trial in trials] == [completed] * 8
    assert study.state == study_pb2.Study.STATE_COMPLETED
    best = min(trials, key=loss)
    assert summary["study"] == name
    assert summary["n_told"] == 8
    assert 0 < summary["resumed_after"] < summary["revision"] == study.revision
    assert summary["best"]["number"] == best.number
    assert summary["best"]["loss"] == loss(best)
    assert summary["best"]["parameters"] == {
        "rate": best.parameters["rate"].double_value,
        "depth": best.parameters["depth"].int_value,
        "kind": best.parameters["kind"].string_value,
    }


def loss(trial: trial_pb2.Trial) -> float:
    return trial.final_measurement.metrics["loss"].value


@needs_node
def test_a_stranger_sees_why_the_server_refuses(example: Path, caller: Caller) -> None:
    run(["node", "optimize.js", caller.address, "twice", "1"], example)
    again = run(["node", "optimize.js", caller.address, "twice", "2"], example)
    assert again.returncode == 1
    assert again.stderr.startswith("ALREADY_EXISTS: ")
    assert again.stdout == ""
