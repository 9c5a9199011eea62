import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bbopt_client.demo.processes import ProcessGroup
from tests.waiting import is_running, wait_until

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(600)
"""


def written_pid(path: Path) -> int:
    wait_until(lambda: path.exists() and path.read_text() != "")
    return int(path.read_text())


def test_leaving_the_block_ends_children_and_grandchildren(tmp_path: Path) -> None:
    with ProcessGroup(grace_s=0.5) as group:
        child = group.start(
            [sys.executable, "-c", STUBBORN, str(tmp_path / "pid")], log=tmp_path / "log"
        )
        grandchild = written_pid(tmp_path / "pid")
    assert child.returncode == -signal.SIGKILL
    wait_until(lambda: not is_running(grandchild))


def test_a_polite_child_is_not_killed(tmp_path: Path) -> None:
    with ProcessGroup() as group:
        child = group.start(
            [sys.executable, "-c", "import time; time.sleep(600)"], log=tmp_path / "log"
        )
    assert child.returncode == -signal.SIGTERM


def test_children_are_ended_when_the_block_raises(tmp_path: Path) -> None:
    group = ProcessGroup()
    child = None

    def interrupted() -> None:
        nonlocal child
        with group:
            command = [sys.executable, "-c", "import time; time.sleep(600)"]
            child = group.start(command, log=tmp_path / "log")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert child is not None
    assert child.poll() is not None


ABANDONED = """
import sys, time
from pathlib import Path
from bbopt_client.demo.processes import ProcessGroup
folder = Path(sys.argv[1])
with ProcessGroup(grace_s=0.5) as group:
    child = group.start([sys.executable, "-c", sys.argv[2], str(folder / "pid")],
                        log=folder / "log")
    time.sleep(600)
"""


def test_nothing_outlives_a_process_that_is_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", ABANDONED, str(tmp_path), STUBBORN])  # noqa: S603
    grandchild = written_pid(tmp_path / "pid")
    child = psutil.Process(grandchild).ppid()
    owner.kill()
    owner.wait()
    wait_until(lambda: not is_running(child))
    wait_until(lambda: not is_running(grandchild))


def test_a_child_has_a_session_of_its_own(tmp_path: Path) -> None:
    with ProcessGroup() as group:
        child = group.start(
            [sys.executable, "-c", "import time; time.sleep(600)"], log=tmp_path / "log"
        )
        assert os.getsid(child.pid) == child.pid
