"""The script's helpers, under a worker and by hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bbopt_client import worker


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.json").write_text('{"lr": 0.1, "n": 3}')
    monkeypatch.setenv("BBOPT_PARAMS_FILE", str(tmp_path / "params.json"))
    monkeypatch.setenv("BBOPT_REPORT_FILE", str(tmp_path / "report.jsonl"))
    monkeypatch.setenv("BBOPT_STOP_FILE", str(tmp_path / "stop"))
    return tmp_path


def reported(folder: Path) -> list[object]:
    return [json.loads(line) for line in (folder / "report.jsonl").read_text().splitlines()]


def test_parameters_come_from_the_worker(environment: Path) -> None:
    assert environment.exists()
    assert worker.parameters({"lr": 9}) == {"lr": 0.1, "n": 3}


def test_defaults_serve_outside_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BBOPT_PARAMS_FILE", raising=False)
    assert worker.parameters({"lr": 9}) == {"lr": 9}
    with pytest.raises(RuntimeError, match="bbopt run"):
        worker.parameters()


def test_reports_are_lines_of_json(environment: Path) -> None:
    assert not worker.report(0, loss=1.0, acc=(0.5, 0.1))
    assert not worker.report(step=3, loss=2.0)
    assert not worker.report(loss=0.5)
    worker.infeasible("diverged")
    assert reported(environment) == [
        {"step": 0, "loss": 1.0, "acc": [0.5, 0.1]},
        {"step": 3, "loss": 2.0},
        {"loss": 0.5},
        {"infeasible": "diverged"},
    ]


def test_the_stop_file_says_when_to_stop(environment: Path) -> None:
    assert not worker.should_stop()
    (environment / "stop").touch()
    assert worker.should_stop()
    assert worker.report(1, loss=1.0)


def test_nothing_happens_outside_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BBOPT_REPORT_FILE", raising=False)
    monkeypatch.delenv("BBOPT_STOP_FILE", raising=False)
    assert not worker.report(1, loss=1.0)


def test_importing_the_helpers_loads_nothing_heavy() -> None:
    code = (
        "import sys; import bbopt_client.worker;"
        "print(sorted({name.split('.')[0] for name in sys.modules} "
        "& {'grpc', 'google', 'numpy', 'yaml', 'rich', 'typer', 'torch', 'bbopt'}))"
    )
    answer = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
