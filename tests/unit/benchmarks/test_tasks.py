"""Studies of benchmarks run apart from each other, and never twice."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.recording import Recorder, read_lines
from benchmarks.tasks import run_missing


@dataclass(frozen=True)
class Task:
    number: int

    @property
    def job(self) -> dict[str, int]:
        return {"number": self.number}


def reciprocal(task: Task) -> dict[str, object]:
    return {"job": task.job, "value": 1 / task.number}


def test_a_task_that_fails_stops_no_other_and_is_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "runs.jsonl"
    assert not run_missing([Task(0), Task(4)], reciprocal, Recorder(path), n_jobs=1)
    assert list(read_lines(path)) == [{"job": {"number": 4}, "value": 0.25}]
    assert "1/2 Task(number=0): failed: ZeroDivisionError" in capsys.readouterr().err
    assert not run_missing([Task(0), Task(4)], reciprocal, Recorder(path), n_jobs=1)
    assert len(list(read_lines(path))) == 1
    assert "1/1 Task(number=0): failed" in capsys.readouterr().err
