"""The command line against a real server, as a person types it."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from tests.e2e.command_line import BBOPT, CommandLine, served

STUDY = """\
name: digits
parameters:
  lr: {type: float, low: 1e-5, high: 1e-1, scale: log}
  optimizer: {type: categorical, choices: [adam, sgd]}
  momentum: {type: float, low: 0, high: 0.99, when: {optimizer: sgd}}
  a: float(0, 1)
  b: float(0, 1)
parameter_constraints: [a + 2*b <= 1]
objective: -loss
constraints: [latency_ms <= 20]
metrics: [grad_norm]
budget: 40
strategy: random
seed: 7
labels: {team: vision}
"""


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    with served(tmp_path_factory.mktemp("cli")) as line:
        yield line


def test_a_study_file_goes_to_the_server_and_comes_back(line: CommandLine) -> None:
    (line.folder / "study.yaml").write_text(STUDY)
    created = line.json("study", "create", "-f", "study.yaml")
    assert created["study"] == "digits"
    shown = line.run("study", "show", "digits", "--definition").stdout
    (line.folder / "shown.yaml").write_text(shown)
    line.run("study", "create", "-f", "shown.yaml", "--if-exists", "load_if_equal")
    definition = line.json("study", "show", "digits")["definition"]
    line.run(
        *("study", "create", "-f", "-", "--if-exists", "load_if_equal"),
        stdin=json.dumps(definition),
    )


def test_a_first_session_as_a_person_types_it(line: CommandLine) -> None:
    line.type(
        *("study", "create", "typed", "--space", "lr:float(1e-5,1e-1,log)"),
        *("--objective", "-loss", "--strategy", "random", "--trials", "2"),
    )
    asked = json.loads(line.type("ask", "typed").stdout)
    line.type("tell", asked[0]["trial"], "loss=-0.5")
    assert json.loads(line.type("best", "typed").stdout)["metrics"] == {"loss": -0.5}
    assert line.type("trials", "nope", code=5).stderr.startswith("error: there is no study")


def test_a_study_is_made_of_options(line: CommandLine) -> None:
    created = line.json(
        *("study", "create", "options", "--space", "lr:float(1e-5,1e-1,log)"),
        *("--space", "n:int(1,4)", "--space", "act:categorical(relu,tanh)"),
        *("--objective", "-loss", "--constraint", "latency_ms <= 20", "--metric", "grad"),
        *("--parameter-constraint", "lr + n <= 3", "--trials", "5", "--seed", "3"),
    )
    assert created == {
        "study": "options",
        "project": "default",
        "state": "active",
        "message": "",
        "set_aside_until": None,
        "objective": "-loss",
        "constraints": ["latency_ms <= 20"],
        "n_parameters": 3,
        "trials": dict.fromkeys(
            [
                *("queued", "active", "completed", "stopped"),
                *("infeasible", "failed", "abandoned"),
            ],
            0,
        ),
        "cost_spent": 0.0,
        "budget": {"trials": 5, "cost": None},
        "labels": {},
    }


def test_asking_and_telling_by_hand(line: CommandLine) -> None:
    line.create("hand", "--trials", "3", "--constraint", "size <= 5")
    asked = line.json("ask", "hand", "-n", "2")
    assert [trial["trial"] for trial in asked] == ["hand/1", "hand/2"]
    assert set(asked[0]) == {
        *("trial", "study", "number", "state", "attempt", "parameters", "metrics", "sd"),
        *("fidelity", "resume_from"),
        *("feasible", "generator", "degraded_from", "worker", "message"),
        *("create_time", "start_time", "end_time"),
    }
    told = line.json("tell", "hand/1", "loss=-0.5", "size=3±0.1")
    assert told == {
        "trial": "hand/1",
        "number": 1,
        "state": "completed",
        "was_duplicate": False,
        "was_late": False,
    }
    assert line.json("tell", "hand/1", "loss=-0.5", "size=3±0.1")["was_duplicate"]
    infeasible = line.json(
        "tell", "2", "--study", "hand", "--state", "infeasible", "-m", "mesh"
    )
    assert infeasible["state"] == "infeasible"
    best = line.json("best", "hand")
    assert (best["metrics"], best["sd"], best["feasible"]) == (
        {"loss": -0.5, "size": 3.0},
        {"size": 0.1},
        True,
    )
    line.run("ask", "hand")
    line.run("tell", "projects/default/studies/hand/trials/3", "loss=1", "size=9")
    done = line.run("ask", "hand", code=6)
    assert (done.stdout, "no more trials" in done.stderr) == ("", True)


@pytest.mark.parametrize(
    ("problem", "code"), [(KeyboardInterrupt(), 130), (OSError("No space left on device"), 1)]
)
def test_trials_that_were_not_shown_are_given_back(
    line: CommandLine, problem: BaseException, code: int
) -> None:
    name = f"unseen{code}"
    line.create(name)
    with mock.patch("bbopt_client.cli.output.write_records", side_effect=problem):
        failed = line.run("ask", name, "-n", "2", code=code)
    assert "gave back 2 trials" in failed.stderr
    assert [each["state"] for each in line.json("trials", name)] == ["queued", "queued"]
    assert line.json("ask", name)[0]["trial"] == f"{name}/1"


def test_a_result_is_corrected_by_hand(line: CommandLine) -> None:
    line.create("amended", "--trials", "2", "--constraint", "size <= 5")
    line.run("ask", "amended", "-n", "2")
    open_trial = line.run("amend", "amended/1", "loss=1", "size=1", code=1)
    assert "tell its first result" in open_trial.stderr
    line.run("tell", "amended/1", "loss=0.13", "size=9")
    line.run("tell", "amended/2", "loss=0.2", "size=3")
    assert line.json("best", "amended")["number"] == 2
    amended = line.json("amend", "amended/1", "loss=0.1±0.01", "size=2", "-r", "wrong unit")
    assert (amended["state"], amended["metrics"]) == ("completed", {"loss": 0.1, "size": 2.0})
    assert (amended["sd"], amended["feasible"]) == ({"loss": 0.01}, True)
    assert line.json("best", "amended")["number"] == 1
    assert line.json("trials", "amended")[0] == amended
    crashed = line.json(
        "amend", "1", "--study", "amended", "--state", "failed", "-m", "the disk was bad"
    )
    assert (crashed["state"], crashed["message"]) == ("failed", "the disk was bad")
    assert line.json("best", "amended")["number"] == 2


def test_a_point_of_ones_own_is_handed_out_first(line: CommandLine) -> None:
    line.run(
        *("study", "create", "own", "--space", "lr:float(1e-5,1e-1,log)"),
        *("--space", "n:int(1,9)", "--space", "act:categorical(relu,a=b)"),
        *("--space", "bias:bool", "--space", "width:ordinal(8,16,32)"),
        *("--objective", "-loss", "--strategy", "random"),
    )
    typed = ["lr=1e-3", "n=3", "act=a=b", "bias=TRUE", "width=16"]
    queued = line.json("enqueue", "own", *typed)
    assert (queued["state"], queued["generator"], queued["worker"]) == (
        "queued",
        "enqueued",
        "",
    )
    point = {"lr": 1e-3, "n": 3, "act": "a=b", "bias": True, "width": 16.0}
    assert queued["parameters"] == point
    (asked,) = line.json("ask", "own")
    assert (asked["trial"], asked["parameters"]) == (queued["trial"], point)


def test_an_ended_trial_says_who_worked_on_it(line: CommandLine) -> None:
    line.create("signed", "--trials", "2")
    line.json("enqueue", "signed", "x=0.5")
    (asked,) = line.json("ask", "signed")
    assert asked["worker"]
    line.run("tell", "signed/1", "loss=1")
    (ended,) = line.json("trials", "signed")
    assert (ended["state"], ended["worker"]) == ("completed", asked["worker"])
    (row,) = csv.DictReader(io.StringIO(line.run("export", "signed").stdout))
    assert row["worker"] == asked["worker"]
    assert asked["worker"] in line.run("trials", "signed", "-o", "table").stdout


def test_an_asked_trial_is_not_taken_back_when_the_command_ends(line: CommandLine) -> None:
    line.create("held", "--trials", "1")
    line.run("ask", "held")
    again = line.run("ask", "held", code=1)
    assert "no trial for now" in again.stderr


def test_each_format_has_the_same_trials(line: CommandLine) -> None:
    line.create("formats", "--trials", "2")
    line.run("ask", "formats", "-n", "2")
    line.run("tell", "formats/1", "loss=0.5")
    as_json = line.json("trials", "formats")
    lines = line.run("trials", "formats", "-o", "jsonl").stdout.splitlines()
    assert [json.loads(text) for text in lines] == as_json
    rows = list(csv.DictReader(io.StringIO(line.run("trials", "formats", "-o", "csv").stdout)))
    assert [float(row["x"]) for row in rows] == [trial["parameters"]["x"] for trial in as_json]
    assert [row["loss"] for row in rows] == ["0.5", ""]
    table = line.run("trials", "formats", "-o", "table").stdout
    assert "formats/1" in table
    assert "\x1b" not in table
    assert len(line.json("trials", "formats", "--state", "completed")) == 1
    exported = line.run("export", "formats", "--out", "trials.csv")
    assert exported.stdout == ""
    assert (line.folder / "trials.csv").read_text().count("\n") == 3


def test_studies_are_listed_and_deleted(line: CommandLine) -> None:
    line.create("doomed")
    assert "doomed" in [study["study"] for study in line.json("study", "list")]
    line.run("study", "delete", "doomed", code=2)
    line.run("study", "delete", "doomed", "--yes")
    assert "doomed" not in [study["study"] for study in line.json("study", "list")]
    line.run("study", "show", "doomed", code=5)


def test_the_server_may_check_a_study_without_creating_it(line: CommandLine) -> None:
    line.run(
        *("study", "create", "dry", "--dry-run", "--space", "x:float(0,1)"),
        *("--objective", "y"),
    )
    line.run("study", "show", "dry", code=5)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["trials", "nope"], 5, "no study"),
        (["trials", "formats", "--state", "done"], 2, "is none of"),
        (["trials", "a/b"], 2, "no name of a study"),
        (["tell", "errors/99", "loss=1"], 5, "no trial"),
        (["tell", "errors/1", "los=1"], 2, "no such metric"),
        (["tell", "errors/1", "loss=abc"], 2, "not a number"),
        (["tell", "errors/1", "loss=nan"], 2, "loss"),
        (["tell", "errors/1"], 2, "needs values"),
        (["tell", "errors", "loss=1"], 2, "STUDY/NUMBER"),
        (["tell", "1", "loss=1"], 2, "which study?"),
        (["amend", "errors/99", "loss=1"], 5, "no trial"),
        (["amend", "errors/1", "los=1"], 2, "no such metric"),
        (["amend", "errors/1"], 2, "needs values"),
        (["enqueue", "errors"], 2, "Missing argument"),
        (["enqueue", "nope", "x=1"], 5, "no study"),
        (["enqueue", "errors", "x"], 2, "must be NAME=VALUE"),
        (["enqueue", "errors", "y=1"], 2, "no such parameter; there are x"),
        (["enqueue", "errors", "x=1", "x=1"], 2, "given twice"),
        (["enqueue", "errors", "x=abc"], 2, "not a number"),
        (["enqueue", "errors", "x=7"], 2, "parameters[x]"),
        (["enqueue", "errors", "x=nan"], 2, "parameters[x]"),
        (["best", "errors"], 5, "nothing feasible"),
        (["ask", "errors", "-n", "0"], 2, "must be in [1, 256]"),
        (["ask", "errors", "--lease", "soon"], 2, "not a duration"),
        (["study", "create", "x"], 2, "--space and --objective"),
        (["study", "create", "--space", "x:float(0,1)", "--objective", "y"], 2, "a name"),
        (["study", "create", "e", "--space", "x:float(1,0)", "--objective", "y"], 8, "above"),
        (
            ["study", "create", "errors", "--space", "x:int(0,9)", "--objective", "y"],
            1,
            "exists",
        ),
        (["study", "create", "../x", "--space", "x:int(0,9)", "--objective", "y"], 2, "name"),
        (["run", "errors", "--", "${param:nope}"], 2, "no parameter 'nope'"),
        (["run", "errors", "--metrics", "xml", "--", "true"], 2, "--metrics"),
        (["run", "errors", "--grace", "soon", "--", "true"], 2, "not a duration"),
        (
            ["run", "errors", "--result", "r", "--parallel", "2", "--", "true"],
            2,
            "--cwd-per-trial",
        ),
        (["run", "nope", "--", "true"], 5, "no study"),
        (["frobnicate"], 2, "No such command"),
        (["trials"], 2, "Missing argument"),
    ],
)
def test_errors_are_one_message_and_an_exit_code(
    line: CommandLine, words: list[str], code: int, message: str
) -> None:
    line.create("errors", "--trials", "5", "--if-exists", "load")
    done = line.run(*words, code=code)
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_errors_can_be_read_by_machines(line: CommandLine) -> None:
    done = line.run("trials", "nope", "-o", "json", code=5)
    assert json.loads(done.stderr) == {
        "code": "NOT_FOUND",
        "message": "there is no study projects/default/studies/nope",
        "details": [],
    }


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = CommandLine(tmp_path).run("--server", "127.0.0.1:9", "study", "list", code=3)
    assert "no server at 127.0.0.1:9" in done.stderr
    assert "bbopt serve" in done.stderr


def test_the_address_behind_the_command_wins(line: CommandLine) -> None:
    line.run("--server", "127.0.0.1:9", "study", "list", "--server", line.address)


def test_the_doctor_finds_the_server(line: CommandLine) -> None:
    findings = {each["check"]: each for each in line.json("doctor")}
    assert findings["server"]["level"] == "ok"
    assert line.address in findings["server"]["message"]


def test_a_reader_that_has_seen_enough_is_no_error(line: CommandLine) -> None:
    command = " ".join([*BBOPT, "study", "list", "--server", line.address, "-o", "jsonl"])
    done = subprocess.run(  # noqa: S602
        f"set -o pipefail; {command} | true",
        shell=True,
        executable="/bin/bash",
        cwd=line.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_serve_ends_on_sigterm_and_keeps_everything(tmp_path: Path) -> None:
    with served(tmp_path) as line:
        line.create("kept")
        assert line.stop_server() == 0
        line.start_server()
        assert [study["study"] for study in line.json("study", "list")] == ["kept"]


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from bbopt_client.cli.app import run; run(['--help']);"
        "heavy = {'torch', 'sklearn', 'scipy', 'botorch', 'grpc', 'google', 'yaml'};"
        "loaded = {name.split('.')[0] for name in sys.modules} & heavy;"
        "print(sorted(loaded), file=sys.stderr)"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
    for command in ("study", "ask", "tell", "best", "trials", "export", "run", "doctor"):
        assert command in done.stdout
