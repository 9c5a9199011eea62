"""``bbopt demo`` as a person runs it: to its end, interrupted, its server killed, in chaos."""

import asyncio
import csv
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil
import pytest

from bbopt.replay import Mismatch, replay
from bbopt.rpc.log import event_from_message
from bbopt.rpc.study import study_spec_from_message
from bbopt.rpc.v1 import study_pb2
from bbopt.rpc.v1.log_pb2 import LogEvent
from bbopt.trial import Asked
from bbopt_server.storage import open_store
from tests.e2e.command_line import wait_until

DEMO = [sys.executable, "-m", "bbopt_client.cli", "demo"]
CHEAP = """
import sys
from pathlib import Path
from bbopt_client.demo.main import DemoOptions, run
command = ("sh", "-c", "sleep 0.4; echo accuracy=0.$BBOPT_TRIAL model_bytes=100")
sys.exit(run(DemoOptions({options}, with_random=False, out=Path(sys.argv[2]), command=command)))
"""
"""The demo with an objective that costs nothing, where it is not about the objective."""


def demo(out: Path, *arguments: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """Start a demo as a person types it."""
    return started([*DEMO, "--out", str(out), *arguments])


def cheap_demo(out: Path, options: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """Start a demo with a cheap objective."""
    program = CHEAP.format(options=options)
    return started([sys.executable, "-c", program, "--out", str(out)])


@contextmanager
def started(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a command; whatever it leaves behind is ended with it."""
    process = subprocess.Popen(  # noqa: S603 - the command under test
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {"NO_COLOR": "1"},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def processes_of(out: Path) -> list[psutil.Process]:
    """Find every process whose command line or trial's files name the demo's directory."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ", "status"]):
        words = list(process.info["cmdline"] or [])
        words.append((process.info["environ"] or {}).get("BBOPT_PARAMS_FILE", ""))
        is_ours = any(str(out) in word for word in words) and "--out" not in words
        if is_ours and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def n_objectives(out: Path) -> int:
    """Count the programs that evaluate a trial."""
    words = [process.cmdline() for process in processes_of(out)]
    return sum("bbopt_client.demo.digits" in each and "run" not in each for each in words)


def wait_until_finished_trials(process: subprocess.Popen[str], n_trials: int) -> None:
    assert process.stdout is not None
    seen = 0
    for line in process.stdout:
        seen += bool(re.match(r"\s+\d+ (completed|infeasible)", line))
        if seen >= n_trials:
            return
    pytest.fail("the demo ended too early")


def test_a_small_demo_reports_what_it_found(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    with demo(out, "--trials", "2", "--workers", "2", "--seed", "3") as process:
        text, _ = process.communicate(timeout=100)
    assert process.returncode == 0, text
    assert re.search(r"feasible \d of 2 trials", text)
    assert "random   search with the same budget" in text
    rows = table(out)
    assert [(row["study"], row["number"]) for row in rows] == [
        (study, str(number)) for study in ("tuned", "random") for number in (1, 2)
    ]
    assert all(float(row["model_bytes"]) > 0 for row in rows)
    assert (out / "history.html").read_text("utf-8").count("<circle") == 4
    assert processes_of(out) == []


def test_an_interrupted_demo_leaves_nothing_running(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    with demo(out, "--trials", "30", "--workers", "2") as process:
        wait_until(lambda: n_objectives(out) == 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    wait_until(lambda: processes_of(out) == [])


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)]
)
def test_a_demo_that_is_told_to_end_leaves_nothing_running(
    tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "demo"
    with cheap_demo(out, "n_trials=90, n_workers=2") as process:
        wait_until_finished_trials(process, 1)
        assert processes_of(out)
        process.send_signal(number)
        assert process.wait(60) == 130
    wait_until(lambda: processes_of(out) == [])


def test_a_killed_server_comes_back_and_its_workers_carry_on(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    with cheap_demo(out, "n_trials=20, n_workers=2") as process:
        wait_until_finished_trials(process, 3)
        (server,) = (p for p in processes_of(out) if "bbopt_server" in p.cmdline())
        before = acknowledged(out)
        os.kill(server.pid, signal.SIGKILL)
        text, _ = process.communicate(timeout=110)
    assert process.returncode == 0, text
    rows = {int(row["number"]): row for row in table(out)}
    assert sorted(rows) == list(range(1, 21))
    assert all(row["state"] == "completed" for row in rows.values())
    after = acknowledged(out)
    assert before.items() <= after.items()
    assert after.keys() == rows.keys()
    for number, accuracy in after.items():
        assert f"{float(rows[number]['accuracy']):.6g}" == accuracy
    n_by_model, mismatches = asyncio.run(replay_from(out / "studies.db"))
    assert n_by_model >= 2
    assert mismatches == []


def test_chaos_loses_nothing_and_proves_it(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    with cheap_demo(out, "n_trials=12, n_workers=3, has_chaos=True") as process:
        text, _ = process.communicate(timeout=110)
    assert process.returncode == 0, text
    assert_nothing_was_lost(text, out, n_trials=12)


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_chaos_with_a_real_objective_as_a_person_types_it(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    with demo(out, "--chaos", "--trials", "20", "--workers", "3") as process:
        text, _ = process.communicate(timeout=600)
    assert process.returncode == 0, text
    assert "random" not in text
    assert_nothing_was_lost(text, out, n_trials=20)


def assert_nothing_was_lost(text: str, out: Path, *, n_trials: int) -> None:
    """Look into the demo's claims with what it left behind."""
    killed = re.search(r"(worker-\d) was killed while it was evaluating trial (\d+)", text)
    assert killed is not None, text
    finished = re.search(r"trial (\d+) was requeued and finished by (worker-\d)", text)
    assert finished is not None, text
    assert finished[1] == killed[2]
    assert finished[2] != killed[1]
    assert "was away for " in text
    assert f"{n_trials} acknowledged" in text
    assert "0 duplicates\nverdict  nothing was lost" in text
    rows = {int(row["number"]): row for row in table(out)}
    told = acknowledged(out)
    assert sorted(rows) == sorted(told) == list(range(1, n_trials + 1))
    for number, accuracy in told.items():
        assert f"{float(rows[number]['accuracy']):.6g}" == accuracy
    assert int(rows[int(killed[2])]["attempt"]) == 2
    assert processes_of(out) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("moment", ["killed worker", "killed the server", "is back"])
def test_an_interrupted_chaos_leaves_nothing_running(tmp_path: Path, moment: str) -> None:
    out = tmp_path / "demo"
    with demo(out, "--chaos", "--trials", "20", "--workers", "3") as process:
        assert process.stdout is not None
        assert any(moment in line for line in process.stdout)
        assert processes_of(out)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    wait_until(lambda: processes_of(out) == [])


def test_chaos_needs_somebody_to_take_over(tmp_path: Path) -> None:
    with demo(tmp_path / "demo", "--chaos", "--workers", "1") as process:
        text, _ = process.communicate(timeout=60)
    assert (process.returncode, "2 workers" in text) == (2, True)


def table(out: Path) -> list[dict[str, str]]:
    with (out / "trials.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def acknowledged(out: Path) -> dict[int, str]:
    """Read what workers logged once the server had it: a trial's number and its accuracy."""
    logs = "".join(path.read_text("utf-8") for path in out.glob("tuned-worker-*.log"))
    lines = re.findall(r"^trial (\d+) completed: accuracy=([^,]+),", logs, re.MULTILINE)
    return {int(number): accuracy for number, accuracy in lines}


async def replay_from(db: Path) -> tuple[int, list[Mismatch]]:
    """Compute the stored study's suggestions again from its log alone."""
    store = open_store(str(db))
    try:
        (row,) = await store.read(lambda tx: tx.studies("default"))
        stored = await store.read(lambda tx: tx.events(row.key, limit=10_000))
    finally:
        await store.close()
    spec = study_spec_from_message(study_pb2.StudySpec.FromString(row.spec))
    events = [event_from_message(LogEvent.FromString(event.payload)) for event in stored]
    n_by_model = sum(
        trial.provenance.generator == "gp"
        for event in events
        if isinstance(event, Asked)
        for trial in event.trials
    )
    return n_by_model, replay(spec.problem, spec.strategy, spec.drawn_seed, events)
