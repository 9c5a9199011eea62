"""``bbopt run`` against a real server: results, outages, preemption, orders."""

import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bbopt_client.client import Client
from tests.e2e.command_line import CommandLine, served
from tests.waiting import wait_until

HOLD = "echo $BBOPT_PARAM_X >> $OUT/started; touch $OUT/ready; sleep 60"


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    with served(tmp_path_factory.mktemp("run")) as line:
        yield line


@pytest.fixture
def own(tmp_path: Path) -> Iterator[CommandLine]:
    """A server of the test's own, to kill."""
    with served(tmp_path) as line:
        yield line


def test_a_worker_runs_a_study_to_its_end(line: CommandLine) -> None:
    line.create("plain", "--trials", "4")
    script = line.folder / "train.py"
    script.write_text(
        "import argparse, json, os\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--x', type=float)\n"
        "x = parser.parse_args().x\n"
        "assert json.load(open(os.environ['BBOPT_PARAMS_FILE'])) == {'x': x}\n"
        "json.dump({'loss': x * x}, open(os.environ['BBOPT_RESULT_FILE'], 'w'))\n"
    )
    done = line.type(
        "run", "plain", "-o", "json", "--", "${interpreter}", "train.py", "${args}"
    )
    assert json.loads(done.stdout) == {
        "end": "finished",
        "message": "completed",
        "n_succeeded": 4,
        "n_failed": 0,
    }
    for trial in line.json("trials", "plain"):
        assert trial["state"] == "completed"
        assert trial["metrics"]["loss"] == trial["parameters"]["x"] ** 2


def test_a_finished_study_is_left_at_once(line: CommandLine) -> None:
    line.create("done", "--trials", "1")
    line.run("run", "done", "--", "echo", "loss=1")
    assert "finished" in line.run("run", "done", "--", "echo", "loss=1").stderr


def test_templates_results_and_directories_of_its_own(line: CommandLine) -> None:
    line.create("solver", "--trials", "4")
    (line.folder / "in.tpl").write_text("x = ${param:x}; cost = $${5}; trial ${trial}\n")
    line.run(
        *("run", "solver", "--parallel", "2", "--cwd-per-trial", "cases"),
        *("--template", "in.tpl=deck/in.dat", "--result", "out.json", "--"),
        *("sh", "-c", "cp deck/in.dat copy.dat; echo '{\"loss\": 1}' > out.json"),
    )
    trials = line.json("trials", "solver")
    for trial in trials:
        case = line.folder / "cases" / f"trial-{trial['number']:06d}" / "attempt-1"
        expected = f"x = {trial['parameters']['x']!r}; cost = ${{5}}; trial {trial['number']}\n"
        assert (case / "copy.dat").read_text() == expected
    assert [trial["state"] for trial in trials] == ["completed"] * 4


def test_a_command_that_keeps_failing_is_given_up(line: CommandLine) -> None:
    line.create("flapping")
    done = line.run("run", "flapping", "--", "sh", "-c", "echo boom >&2; exit 3", code=7)
    assert "gave up: 3 failures" in done.stderr
    # Each of a trial's three attempts failed.
    (trial,) = line.json("trials", "flapping")
    assert (trial["state"], trial["attempt"]) == ("failed", 3)
    assert trial["message"] == "exit code 3\nboom"


def test_infeasible_points_are_told_as_such(line: CommandLine) -> None:
    line.create("crash", "--trials", "2")
    report = 'echo \'{"infeasible": "diverged"}\' >> $BBOPT_REPORT_FILE; exit 1'
    line.run("run", "crash", "--", "sh", "-c", report)
    assert [trial["state"] for trial in line.json("trials", "crash")] == ["infeasible"] * 2


def test_intermediate_reports_reach_the_server(line: CommandLine) -> None:
    line.create("curve", "--trials", "1")
    code = (
        "from bbopt_client import worker\nfor step in range(3): worker.report(step, loss=step)"
    )
    line.run("run", "curve", "--", sys.executable, "-c", code)
    with Client(line.address, outbox=False) as client:
        trial = client.study("curve").trial(1)
        steps = [(each.step, each.metrics["loss"].value) for each in trial.measurements]
    assert steps == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert trial.metrics == {"loss": 2.0}


def test_an_order_to_stop_ends_the_program_and_keeps_what_it_measured(
    line: CommandLine,
) -> None:
    # The constraint is only measured at the end, which never comes.
    line.create("early", "--trials", "1", "--constraint", "size <= 5")
    code = (
        "import pathlib, os, time\n"
        "from bbopt_client import worker\n"
        "for step in range(3000):\n"
        "    if worker.report(step, loss=0.5): break\n"
        "    pathlib.Path(os.environ['OUT'], 'reporting').touch()\n"
        "    time.sleep(0.02)\n"
    )
    worker = line.worker("early", "--", sys.executable, "-c", code)
    wait_until((line.folder / "reporting").exists)
    with Client(line.address, outbox=False) as client:
        client.study("early").stop(1, "not promising")
    _, said = worker.communicate(timeout=60)
    assert (worker.returncode, "stopped early: loss=0.5" in said) == (0, True)
    (trial,) = line.json("trials", "early")
    assert (trial["state"], trial["metrics"]) == ("stopped", {"loss": 0.5})


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_preempted_worker_gives_the_same_parameters_to_the_next(
    tmp_path: Path, line: CommandLine, number: signal.Signals, code: int
) -> None:
    study = f"preempted-{number.name}"
    line.create(study, "--trials", "1")
    here = CommandLine(tmp_path, {"OUT": str(tmp_path)}, line.address)
    worker = here.worker(study, "--grace", "1s", "--", "sh", "-c", HOLD)
    wait_until((tmp_path / "ready").exists)
    worker.send_signal(number)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == code, said
    (trial,) = line.json("trials", study)
    assert trial["state"] == "queued"
    here.run("run", study, "--", "sh", "-c", "echo $BBOPT_PARAM_X >> $OUT/started; echo loss=1")
    first, second = (tmp_path / "started").read_text().split()
    assert first == second
    (trial,) = line.json("trials", study)
    assert (trial["state"], trial["attempt"]) == ("completed", trial["attempt"])


def test_a_killed_server_that_comes_back_loses_nothing(own: CommandLine) -> None:
    own.create("outage", "--trials", "16")
    script = "echo $BBOPT_TRIAL >> $OUT/runs; sleep 0.05; echo loss=$BBOPT_PARAM_X"
    worker = own.worker("outage", "--parallel", "2", "--", "sh", "-c", script)
    runs = own.folder / "runs"
    wait_until(lambda: runs.exists() and len(runs.read_text().split()) >= 6)
    own.stop_server(signal.SIGKILL)
    own.start_server(own.address)
    _, said = worker.communicate(timeout=90)
    assert worker.returncode == 0, said
    trials = own.json("trials", "outage")
    assert [trial["number"] for trial in trials] == list(range(1, len(trials) + 1))
    completed = [trial for trial in trials if trial["state"] == "completed"]
    assert len(completed) == 16
    assert all(each["metrics"]["loss"] == each["parameters"]["x"] for each in completed)
    # Nothing was evaluated twice: every result that was measured was also told.
    assert max(Counter(runs.read_text().split()).values()) == 1


def test_a_killed_workers_trial_runs_again_elsewhere(own: CommandLine) -> None:
    (own.folder / "study.yaml").write_text(
        "name: killed\nparameters: {x: 'float(0,1)'}\nobjective: -loss\nbudget: 1\n"
        "strategy: random\nlease: {duration: 1s}\n"
    )
    own.run("study", "create", "-f", "study.yaml")
    worker = own.worker("killed", "--", "sh", "-c", "echo $$ > $OUT/pid; " + HOLD)
    wait_until((own.folder / "ready").exists)
    worker.kill()
    worker.communicate(timeout=60)
    own.run(
        "run", "killed", "--", "sh", "-c", "echo $BBOPT_ATTEMPT > $OUT/attempt; echo loss=1"
    )
    assert (own.folder / "attempt").read_text() == "2\n"


STUBBORN = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: None)
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]]) if len(sys.argv) > 1 else None
with open(os.environ["OUT"] + "/pids", "a") as file:
    file.write(f"{os.getpid()}\\n")
time.sleep(600)
"""


def test_a_killed_worker_leaves_no_program_behind(line: CommandLine, tmp_path: Path) -> None:
    line.create("orphans")
    here = CommandLine(tmp_path, {"OUT": str(tmp_path)}, line.address)
    script = '"$0" -c "$1" "$1" & wait; exit 0'  # A shell, its child and its grandchild.
    worker = here.worker(
        *("orphans", "--parallel", "2", "--grace", "1s", "--"),
        *("sh", "-c", script, sys.executable, STUBBORN),
    )
    pids = tmp_path / "pids"
    wait_until(lambda: pids.exists() and pids.read_text().count("\n") == 4)
    running = [psutil.Process(int(pid)) for pid in pids.read_text().split()]
    helpers = psutil.Process(worker.pid).children(recursive=True)
    assert len(helpers) >= 7  # Two trials of three processes each, and the watchdog.
    worker.kill()
    worker.communicate(timeout=60)
    _, alive = psutil.wait_procs([*running, *helpers], timeout=30)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


FULL_DISK = """
import os, pathlib, sys
with open(os.environ["OUT"] + "/fill", "wb", buffering=0) as file:
    try:
        while file.write(b"x" * 65536):
            pass
    except OSError as error:
        print(error, file=sys.stderr)
print("x" * 100_000)
print("loss=0.5")
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "bbopt-test", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode != 0:  # noqa: S603
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S603, S607


def test_a_full_disk_loses_no_result_and_ends_the_worker(
    line: CommandLine, small_disk: Path
) -> None:
    line.create("full-disk", "--trials", "3")
    here = CommandLine(small_disk, {"OUT": str(small_disk)}, line.address)
    worker = here.worker("full-disk", "--", sys.executable, "-c", FULL_DISK)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 1, said
    assert "a result is sent without being spooled" in said
    assert "trial 1: its logs are incomplete" in said
    assert "trial 1 completed: loss=0.5" in said
    assert "cannot run the command: trial 2: " in said
    assert "No space left" in said
    # The second went back unharmed: another machine may have room.
    states = [(trial["state"], trial["attempt"]) for trial in line.json("trials", "full-disk")]
    assert states == [("completed", 1), ("queued", 1)]


def test_a_program_out_of_memory_is_run_again_and_then_given_up(line: CommandLine) -> None:
    line.create("oom")
    line.run(
        *("run", "oom", "--ignore-failures", "--count", "4", "--"),
        *("sh", "-c", "test $BBOPT_TRIAL = 1 && exit 137; echo loss=1"),
    )
    first, second = line.json("trials", "oom")
    assert (first["state"], first["attempt"]) == ("failed", 3)
    assert first["message"] == "exit code 137 (SIGKILL, perhaps out of memory)"
    assert second["state"] == "completed"


GARBAGE = r"""
import os, sys
def say(*texts):
    os.write(1, b"".join(text.encode() + b"\n" for text in texts))
junk = bytes(range(256)) * 8000
for stream in (sys.stdout.buffer, sys.stderr.buffer):
    stream.write(junk + b"\n")
    stream.flush()
os.write(2, b"\x1b[31mboom \xff\x00\x1b[0m\n")
say('::bbopt::{"step": 5, "loss": 5}', '::bbopt::{"step": 2, "loss": 2}')
say('::bbopt::{"step": 2, "loss": NaN}')
match os.environ["BBOPT_TRIAL"]:
    case "1": say('\x1b[32m::bbopt::{"loss": 1}\x1b[0m')
    case "2": say('::bbopt::{"infeasible": "\\ud800\\u0000\\u001b[1mno"}')
    case "3": sys.exit(1)
    case _: say('::bbopt::{"loss": 2}')
"""


def test_garbage_of_every_kind_on_its_way_to_the_server(line: CommandLine) -> None:
    line.create("garbage", "--trials", "3")
    line.run("run", "garbage", "--ignore-failures", "--", sys.executable, "-c", GARBAGE)
    first, second, third, *_ = line.json("trials", "garbage")
    assert (first["state"], first["metrics"]) == ("completed", {"loss": 1.0})
    assert (second["state"], second["message"]) == ("infeasible", "no")
    assert (third["state"], third["attempt"]) == ("failed", 3)
    assert third["message"].startswith("exit code 1\n")
    assert third["message"].endswith("\nboom \ufffd")
    with Client(line.address, outbox=False) as client:
        steps = [each.step for each in client.study("garbage").trial(1).measurements]
    assert steps == [2, 5]


def test_a_worker_that_hung_comes_back_late_and_its_result_is_kept(own: CommandLine) -> None:
    (own.folder / "study.yaml").write_text(
        "name: hung\nparameters: {x: 'float(0,1)'}\nobjective: -loss\nbudget: 1\n"
        "strategy: random\nlease: {duration: 3s, max_attempts: 10}\n"
    )
    own.run("study", "create", "-f", "study.yaml")
    script = (
        "touch $OUT/has-$0; for i in $(seq 1200); do [ -e $OUT/go-$0 ] && break; sleep 0.05; "
        "done; echo '{\"loss\": '$1'}' > $BBOPT_RESULT_FILE; touch $OUT/did-$0"
    )
    first = own.worker("hung", "--", "sh", "-c", script, "first", "1.0")
    workers = [first]
    try:
        wait_until((own.folder / "has-first").exists)
        first.send_signal(signal.SIGSTOP)
        # Its program goes on, but nobody hears of it: the trial goes to another worker.
        second = own.worker("hung", "--", "sh", "-c", script, "second", "2.0")
        workers.append(second)
        wait_until((own.folder / "has-second").exists)
        (own.folder / "go-first").touch()
        wait_until((own.folder / "did-first").exists)
        first.send_signal(signal.SIGCONT)
        said = [each.communicate(timeout=60)[1] for each in workers]
    finally:
        for each in workers:
            each.kill()
    assert [each.returncode for each in workers] == [0, 0], said
    assert "trial 1 completed: loss=1" in said[0]
    assert "trial 1 dropped" in said[1]
    assert not (own.folder / "did-second").exists()
    with Client(own.address, outbox=False) as client:
        (trial,) = client.study("hung").trials()
    assert (trial.state.value, trial.metrics) == ("completed", {"loss": 1.0})
    assert trial.late
    assert trial.attempt >= 2


def test_the_example_runs_as_documented(line: CommandLine) -> None:
    examples = Path(__file__).parents[2] / "examples"
    line.run("study", "create", "-f", str(examples / "study.yaml"), "--trials", "3")
    line.run("run", "tune-lr", "--", "${interpreter}", str(examples / "train.py"), "${args}")
    for trial in line.json("trials", "tune-lr"):
        assert trial["metrics"]["latency_ms"] == 2.5 * trial["parameters"]["depth"]


def test_more_workers_than_a_generation_has_points_wait_for_each_other(
    line: CommandLine,
) -> None:
    line.run(
        *("study", "create", "generations", "--space", "x:float(0,1)", "--objective", "-loss"),
        *("--strategy", "cma_es", "--seed", "1", "--trials", "12"),
    )
    line.run(
        "run", "generations", "--parallel", "6", "--", "sh", "-c", "echo loss=$BBOPT_PARAM_X"
    )
    with Client(line.address, outbox=False) as client:
        trials = list(client.study("generations").trials())
    assert [trial.state.value for trial in trials] == ["completed"] * 12
    # Generations of four: who came too early got nothing instead of a fifth point.
    reasons = [trial.provenance.reason for trial in trials]
    assert reasons == [f"generation {g}, slot {s}" for g in (1, 2, 3) for s in (1, 2, 3, 4)]
