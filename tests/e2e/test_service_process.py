"""The server as a process: start, address, lock file, signals, what it refuses to do."""

# ruff: noqa: S603 - the only program that is run is our own interpreter

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bbopt.errors import InvalidError, UnavailableError
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt_server.rpc.server import Address
from bbopt_server.settings import parse
from tests.e2e.served import Caller, ServerProcess
from tests.unit.server.service import quadratic
from tests.waiting import wait_until


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "studies.db")


def run(*flags: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bbopt_server", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_importing_the_front_loads_no_torch() -> None:
    heavy = ("torch", "botorch", "gpytorch", "scipy", "bbopt.optimizer", "bbopt.strategies")
    program = (
        "import sys, bbopt_server.app, bbopt_server.__main__\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert found.stdout.strip() == "[]"


def test_a_server_says_where_it_is_and_ends_in_order(db: str, tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    server = ServerProcess(db, "--port-file", str(port_file))
    assert port_file.read_text().strip() == server.address
    lock = json.loads(Path(f"{db}.lock").read_text())
    assert lock == {"pid": server.process.pid, "address": server.address}
    with Caller(server.address) as caller:
        study = caller.create("s", quadratic(strategy="random")).name
    status, errors = server.end(signal.SIGTERM)
    assert status == 0, errors
    assert not Path(f"{db}.lock").exists()
    assert not port_file.exists()
    assert not Path(f"{db}-wal").exists()
    assert all(json.loads(line)["level"] == "info" for line in errors.splitlines()), errors
    assert study == "projects/default/studies/s"


def test_an_interrupt_ends_a_server_as_a_termination_does(db: str) -> None:
    status, errors = ServerProcess(db).end(signal.SIGINT)
    assert status == 0, errors


def test_two_signals_end_a_server_with_open_streams_at_once(db: str) -> None:
    server = ServerProcess(db, "--drain-seconds", "60")
    with Caller(server.address) as caller:
        caller.create("s", quadratic(strategy="random", max_trials=1))
        caller.ask("projects/default/studies/s")
        request = pb.WatchStudyRequest(name="projects/default/studies/s")
        stream = caller.optimization.WatchStudy(request, timeout=60.0)
        next(stream)
        server.process.send_signal(signal.SIGTERM)
        status, errors = server.end(signal.SIGTERM, timeout_s=20.0)
    assert status == 0, errors


def test_another_server_serves_a_backup_of_one_that_runs(db: str, tmp_path: Path) -> None:
    server = ServerProcess(db, "--backups", str(tmp_path / "kept"), "--backup-every", "1")
    with Caller(server.address) as caller:
        study = caller.create("s", quadratic(strategy="random")).name
        copy = tmp_path / "kept" / "studies-000001.db"
        wait_until(copy.exists)
        other = ServerProcess(str(copy.rename(tmp_path / "copy.db")))
        with Caller(other.address) as second:
            request = pb.GetStudyRequest(name=study)
            assert second.call(second.optimization.GetStudy, request).name == study
    for each in (server, other):
        status, errors = each.end(signal.SIGTERM)
        assert status == 0, errors


def test_tells_finish_while_a_server_drains(db: str) -> None:
    server = ServerProcess(db)
    with Caller(server.address) as caller:
        study = caller.create("s", quadratic(strategy="random")).name
        trials = list(caller.ask(study, 20).trials)
        calls = []
        for trial in trials:
            tell = pb.Tell(trial=trial.name)
            tell.outcome.completed.metrics["loss"].value = 1.0
            request = pb.TellTrialsRequest(
                parent=study, tells=[tell], request_id=f"tell-{trial.number:08}"
            )
            calls.append(caller.optimization.TellTrials.future(request, timeout=20.0))
        acknowledged = [call.result().results[0].status.code for call in calls[:10]]
        status, errors = server.end(signal.SIGTERM)
        assert acknowledged == [0] * 10
        n_acknowledged = sum(call.exception() is None for call in calls)
    assert status == 0, errors
    again = ServerProcess(db)
    with Caller(again.address) as caller:
        request_ = pb.GetStudyRequest(name=study)
        stats = caller.call(caller.optimization.GetStudy, request_).stats
    again.end(signal.SIGTERM)
    assert n_acknowledged <= stats.completed <= 20


def test_a_private_server_leaves_after_its_last_client(db: str) -> None:
    server = ServerProcess(db, "--exit-after-last-client", "0.6")
    with Caller(server.address) as caller:
        for _ in range(6):
            time.sleep(0.25)  # Longer in all than the server would wait.
            caller.call(caller.optimization.GetServerInfo, pb.GetServerInfoRequest())
    status, errors = server.wait(timeout_s=20.0)
    assert status == 0, errors


def test_a_second_server_on_one_file_is_refused_and_names_it(db: str) -> None:
    server = ServerProcess(db)
    second = run("--db", db, "--listen", "127.0.0.1:0")
    assert second.returncode == 1
    assert second.stderr == (
        f"bbopt_server: {db} is in use by another server: "
        f"process {server.process.pid} at {server.address}\n"
    )
    with Caller(server.address) as caller:
        caller.call(caller.optimization.GetServerInfo, pb.GetServerInfoRequest())
    assert json.loads(Path(f"{db}.lock").read_text())["address"] == server.address
    server.end(signal.SIGTERM)


def test_a_stale_lock_file_is_no_obstacle(db: str) -> None:
    server = ServerProcess(db)
    server.end(signal.SIGKILL)
    assert Path(f"{db}.lock").exists()
    again = ServerProcess(db)
    assert json.loads(Path(f"{db}.lock").read_text())["pid"] == again.process.pid
    again.end(signal.SIGTERM)


def test_a_taken_port_is_refused_with_the_address(db: str, tmp_path: Path) -> None:
    server = ServerProcess(db)
    second = run("--db", str(tmp_path / "other.db"), "--listen", server.address)
    assert second.returncode == 1
    assert f"cannot listen on {server.address}: the port is taken" in second.stderr
    assert "Traceback" not in second.stderr
    server.end(signal.SIGTERM)


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:0", "[::]:0", "192.168.1.5:50151", "example.com:1", "nonsense", ":1"]
)
def test_only_loopback_addresses_are_listened_on(listen: str) -> None:
    with pytest.raises(InvalidError):
        Address.parse(listen)


def test_the_refusal_of_an_open_address_says_why() -> None:
    refused = run("--db", ":memory:", "--listen", "0.0.0.0:0")
    assert refused.returncode == 2
    assert "loopback" in refused.stderr
    assert "authentication" in refused.stderr


def test_settings_come_from_flags_before_the_environment() -> None:
    environment = {"BBOPT_DB": "a.db", "BBOPT_LISTEN": "127.0.0.1:7", "BBOPT_UNKNOWN": "x"}
    settings = parse(["--db", "b.db"], environment)
    assert (settings.db, str(settings.listen)) == ("b.db", "127.0.0.1:7")
    assert settings.exit_after_last_client_s is None
    with pytest.raises(InvalidError, match="exit-after-last-client"):
        parse(["--exit-after-last-client", "soon"], {})


def test_the_ready_queue_is_on_until_it_is_switched_off() -> None:
    assert parse([], {}).has_ready_queue
    assert not parse([], {"BBOPT_READY_QUEUE": "off"}).has_ready_queue
    assert parse(["--ready-queue", "on"], {"BBOPT_READY_QUEUE": "off"}).has_ready_queue
    with pytest.raises(InvalidError, match="ready-queue"):
        parse(["--ready-queue", "maybe"], {})


def test_a_folder_that_is_not_there_is_said_plainly(tmp_path: Path) -> None:
    refused = run("--db", str(tmp_path / "no" / "such" / "s.db"), "--listen", "127.0.0.1:0")
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr


def test_an_address_that_cannot_be_made_known_ends_the_server_plainly(
    db: str, tmp_path: Path
) -> None:
    refused = run("--db", db, "--listen", "127.0.0.1:0", "--port-file", str(tmp_path / "no/p"))
    assert refused.returncode == 1
    assert refused.stderr.endswith("no/p cannot be written: No such file or directory\n")
    assert "Traceback" not in refused.stderr
    assert not Path(f"{db}.lock").exists()


def test_without_an_engine_asks_say_what_to_install_and_tells_work(
    db: str, tmp_path: Path
) -> None:
    fake = tmp_path / "path" / "torch"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("raise ModuleNotFoundError('no torch', name='torch')")
    # Before the others, which may be what makes this package importable.
    path = os.pathsep.join([str(fake.parent), os.environ.get("PYTHONPATH", "")])
    server = ServerProcess(db, environment=[f"PYTHONPATH={path}"])
    with Caller(server.address) as caller:
        study = caller.create("s", quadratic(strategy="random")).name
        with pytest.raises(UnavailableError, match=r"bbopt\[server\]"):
            caller.ask(study)
        request = pb.CreateTrialRequest(parent=study, request_id="create-1")
        for name in ("x", "y"):
            request.parameters[name].double_value = 0.5
        trial = caller.call(caller.optimization.CreateTrial, request)
        assert caller.tell(study, trial, 1.0).status.code == 0
    server.end(signal.SIGTERM)
