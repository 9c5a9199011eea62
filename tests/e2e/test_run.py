"""``bbopt run`` against a real server: results, outages, preemption, orders."""

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bbopt_client.client import Client
from tests.e2e.command_line import CommandLine, served, wait_until

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
    # Nobody was left to end the first program.
    os.killpg(int((own.folder / "pid").read_text()), signal.SIGKILL)


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
