"""Exit codes, messages on standard error, and small readers of what people type."""

import json
import sys
from collections.abc import Sequence
from types import ModuleType

import pytest

from bbopt.errors import (
    BboptError,
    DeadlineError,
    EmptyFeasibleSetError,
    InvalidError,
    NotFoundError,
    SpecError,
    StudyExistsError,
    StudyNotActiveError,
    TrialFinishedError,
    UnavailableError,
    UnsupportedError,
    Violation,
)
from bbopt.trial import Value
from bbopt_client.cli.app import run
from bbopt_client.cli.connecting import split_study, split_trial
from bbopt_client.cli.doctor import Finding, Level, worst_exit_code
from bbopt_client.cli.durations import parse_duration
from bbopt_client.cli.failures import CommandError, ExitCode, report_failure, wants_json
from bbopt_client.cli.main import main
from bbopt_client.cli.planning import work_exit_code
from bbopt_client.cli.tell_values import parse_metrics
from bbopt_client.worker.loop import WorkEnd


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnavailableError("no server"), 3),
        (DeadlineError("too slow"), 3),
        (NotFoundError("no study"), 5),
        (StudyNotActiveError("completed"), 6),
        (SpecError.of("a", "wrong"), 8),
        (UnsupportedError.of("a", "wrong"), 8),
        (EmptyFeasibleSetError("empty"), 8),
        (InvalidError.of("a", "wrong"), 2),
        (StudyExistsError("taken"), 1),
        (TrialFinishedError("finished"), 1),
        (BboptError("other"), 1),
        (CommandError("gone", ExitCode.NOT_FOUND), 5),
    ],
)
def test_each_error_has_its_exit_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report_failure(error, as_json=False) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: {error}\n"


def test_several_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    error = SpecError([Violation("a", "is wrong"), Violation("b", "is too")])
    report_failure(error, as_json=False)
    assert capsys.readouterr().err == "error: 2 faults\n  a: is wrong\n  b: is too\n"


def test_errors_can_be_json(capsys: pytest.CaptureFixture[str]) -> None:
    error = SpecError([Violation("a", "is wrong"), Violation("b", "is too")])
    report_failure(error, as_json=True)
    assert json.loads(capsys.readouterr().err) == {
        "code": "BAD_SPEC",
        "message": "2 faults",
        "details": [
            {"field": "a", "message": "is wrong"},
            {"field": "b", "message": "is too"},
        ],
    }


def test_a_bug_says_how_to_see_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BBOPT_DEBUG", raising=False)
    assert report_failure(RuntimeError("oops"), as_json=False) == 1
    assert "BBOPT_DEBUG=1" in capsys.readouterr().err
    monkeypatch.setenv("BBOPT_DEBUG", "1")
    report_failure(RuntimeError("oops"), as_json=False)
    assert "RuntimeError: oops" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trials", "s", "-o", "json"], True),
        (["trials", "s", "-ojson"], True),
        (["--output=jsonl", "trials"], True),
        (["--output", "json"], True),
        (["trials", "s", "-o", "csv"], False),
        (["run", "s", "--", "prog", "-o", "json"], False),
        ([], False),
    ],
)
def test_a_command_line_may_ask_for_json_errors(words: Sequence[str], expected: bool) -> None:
    assert wants_json(words) is expected


def test_an_interrupt_while_the_commands_load_is_quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Loading(ModuleType):
        @property
        def run(self) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "bbopt_client.cli.app", Loading("app"))
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 130


def test_usage_errors_exit_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trials", "--bogus"]) == 2
    expected = "error: No such option: --bogus (see bbopt trials --help)\n"
    assert capsys.readouterr().err == expected
    assert run(["trials", "-o", "json"]) == 2
    assert json.loads(capsys.readouterr().err)["code"] == "USAGE"


def test_a_study_file_is_checked_without_a_server(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BBOPT_SERVER", "127.0.0.1:1")
    assert run(["study", "validate", "-f", "/no/such/file.yaml"]) == 8
    assert "cannot be read: No such file" in capsys.readouterr().err


def test_the_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version"]) == 0
    assert capsys.readouterr().out.startswith("bbopt ")
    assert run(["version", "-o", "json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"bbopt", "grpcio", "protobuf", "python"}


def test_every_end_of_a_worker_has_an_exit_code() -> None:
    assert {end: int(work_exit_code(end)) for end in WorkEnd} == {
        WorkEnd.FINISHED: 0,
        WorkEnd.COUNT_REACHED: 0,
        WorkEnd.PREEMPTED: 0,
        WorkEnd.INTERRUPTED: 130,
        WorkEnd.FLAPPING: 7,
        WorkEnd.UNREACHABLE: 3,
        WorkEnd.GONE: 5,
        WorkEnd.BROKEN: 1,
    }


@pytest.mark.parametrize(
    ("levels", "code"),
    [
        ({"server": Level.OK, "disk": Level.WARNING}, 0),
        ({"server": Level.ERROR, "disk": Level.OK}, 3),
        ({"server": Level.ERROR, "engine": Level.ERROR}, 1),
    ],
)
def test_the_doctors_exit_code(levels: dict[str, Level], code: int) -> None:
    findings = [Finding(check, level, "") for check, level in levels.items()]
    assert worst_exit_code(findings) == code


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("30s", 30), ("1.5m", 90), ("2h", 7200), ("1d", 86400), ("5 min", 300),
     ("250ms", 0.25), ("0", 0), (".5", 0.5)],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "1y", "1 2", "inf", "nan", "1e3", "9" * 400])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_metrics_as_people_type_them() -> None:
    words = ["loss=-0.3", "acc=0.9±0.01", "qps=1e3+-5", "t=2+/-1", "e=1e+3"]
    assert parse_metrics(words) == {
        "loss": Value(-0.3),
        "acc": Value(0.9, 0.01),
        "qps": Value(1000.0, 5.0),
        "t": Value(2.0, 1.0),
        "e": Value(1000.0),
    }


def test_all_wrong_metrics_are_listed() -> None:
    with pytest.raises(InvalidError) as refused:
        parse_metrics(["loss", "=3", "a=x", "b=1±", "c=1", "c=2"])
    assert len(refused.value.violations) == 5


@pytest.mark.parametrize(
    ("text", "study", "expected"),
    [
        ("digits/12", None, ("digits", 12)),
        ("12", "digits", ("digits", 12)),
        ("projects/p/studies/s/trials/3", None, ("projects/p/studies/s", 3)),
    ],
)
def test_trials_as_people_name_them(
    text: str, study: str | None, expected: tuple[str, int]
) -> None:
    assert split_trial(text, study) == expected


def test_the_study_of_a_trial_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BBOPT_STUDY", "digits")
    assert split_trial("3", None) == ("digits", 3)


@pytest.mark.parametrize("text", ["", "digits", "digits/0", "digits/x", "digits/-1", "/"])
def test_what_names_no_trial(text: str) -> None:
    with pytest.raises(InvalidError):
        split_trial(text, "s")


def test_studies_as_people_name_them() -> None:
    assert split_study("digits") == ("default", "digits")
    assert split_study("projects/p/studies/s") == ("p", "s")
    with pytest.raises(InvalidError):
        split_study("p/s")
