"""``Client.local``: one private server for a file, however many clients come and go."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import bbopt_client.local
from bbopt.errors import UnavailableError
from bbopt_client import Client, Float
from bbopt_client.local import LocalServer
from tests.waiting import is_running, wait_until

SPACE = [Float("x", 0, 1)]


def served_by(path: Path) -> int:
    pid: int = json.loads(Path(f"{path}.lock").read_text())["pid"]
    return pid


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    database = tmp_path / "deep" / "studies.db"
    yield database
    if Path(f"{database}.lock").exists():
        os.kill(served_by(database), signal.SIGTERM)
        wait_until(lambda: not Path(f"{database}.lock").exists())


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


def test_a_second_client_of_a_file_finds_the_server_of_the_first(
    path: Path, outbox: Path
) -> None:
    with (
        Client.local(path, outbox=outbox) as first,
        Client.local(path, outbox=outbox) as second,
    ):
        first.create_study("s", space=SPACE, objective="-loss")

        assert second.study("s").id == "s"
        assert first.address == second.address
    assert not Path(f"{path}.starting").exists()


_COUNT = """
import sys
from bbopt_client import Client
with Client.local(sys.argv[1], outbox=False) as client:
    client.server_info()
    print(client.address)
"""


def test_processes_that_come_at_once_end_up_at_one_server(path: Path) -> None:
    processes = [
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", _COUNT, str(path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    addresses = {process.communicate(timeout=60)[0].strip() for process in processes}

    assert len(addresses) == 1
    assert addresses.pop().startswith("127.0.0.1:")


def test_the_server_leaves_after_its_last_client_and_comes_back_with_the_next(
    path: Path, outbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bbopt_client.local, "IDLE_EXIT_S", 1)
    monkeypatch.setattr(bbopt_client.local, "_PING_S", 0.3)
    with Client.local(path, outbox=outbox) as client:
        study = client.create_study("s", space=SPACE, objective="-loss")
        study.add({"x": 0.5}, 0.25)
        pid = served_by(path)
        time.sleep(2.0)
        assert is_running(pid)  # For as long as a client is open, though it asks nothing.
    wait_until(lambda: not is_running(pid))

    with Client.local(path, outbox=outbox) as client:
        assert client.study("s").trial(1).metrics == {"loss": 0.25}
        assert served_by(path) != pid


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_went_away_is_started_again_within_the_call(
    path: Path, outbox: Path, how: signal.Signals
) -> None:
    with Client.local(path, outbox=outbox) as client:
        study = client.create_study("s", space=SPACE, objective="-loss")
        pid = served_by(path)

        os.kill(pid, how)
        wait_until(lambda: not is_running(pid))
        study.add({"x": 0.5}, 0.25)

        assert served_by(path) != pid
        assert study.trial(1).metrics == {"loss": 0.25}


def test_calls_go_on_while_a_server_is_leaving(path: Path, outbox: Path) -> None:
    with Client.local(path, outbox=outbox) as client:
        study = client.create_study("s", space=SPACE, objective="-loss")
        pid = served_by(path)
        os.kill(pid, signal.SIGTERM)
        n_added = 0
        while is_running(pid) or n_added < 5:
            study.add({"x": 0.5}, 0.25)
            n_added += 1

        assert len(study.trials()) == n_added


def test_the_lock_file_of_a_server_that_was_killed_misleads_nobody(
    path: Path, outbox: Path
) -> None:
    with Client.local(path, outbox=outbox) as client:
        client.server_info()
        pid = served_by(path)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))

    with Client.local(path, outbox=outbox) as client:
        client.server_info()

        assert served_by(path) != pid


def test_results_wait_for_the_file_and_not_for_an_address(path: Path) -> None:
    first, again = LocalServer(path), LocalServer(str(path.parent / ".." / "deep" / path.name))

    assert first.identity == again.identity
    assert "127.0.0.1" not in first.identity


def test_a_database_in_memory_is_private_to_its_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bbopt_client.local, "IDLE_EXIT_S", 2)
    monkeypatch.setattr(bbopt_client.local, "_PING_S", 0.3)
    with (
        Client.local(":memory:", outbox=False) as first,
        Client.local(":memory:", outbox=False) as second,
    ):
        first.create_study("s", space=SPACE, objective="-loss")

        assert second.studies() == []
        assert [study.id for study in first.studies()] == ["s"]


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    path = tmp_path / "not-a-database.db"
    path.write_bytes(b"this is no database" * 100)

    with (
        Client.local(path, outbox=False) as client,
        pytest.raises(UnavailableError, match="could be started") as caught,
    ):
        client.server_info()

    assert "database" in str(caught.value)


def test_a_folder_that_cannot_be_written_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UnavailableError, match=r"db could be started: .*File exists"),
        Client.local(tmp_path / "file" / "studies.db") as client,
    ):
        client.studies()


def test_a_missing_server_package_is_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_server(*_: object) -> list[str]:
        return [sys.executable, "-c", "import no_such_module"]

    monkeypatch.setattr(LocalServer, "_command", without_server)

    with (
        Client.local(tmp_path / "s.db", outbox=False) as client,
        pytest.raises(UnavailableError, match=r"pip install 'bbopt\[server\]'"),
    ):
        client.server_info()
