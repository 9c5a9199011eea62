"""The benchmark of sample efficiency runs what is missing and reports what was recorded."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.efficiency import Task, main, run_task
from benchmarks.efficiency_report import Scores, read_runs, write_report


def record(
    peer: str,
    problem: str,
    best: Sequence[float | None],
    *,
    seed: int = 0,
    optimum: float | None = 0.0,
    noise_sd: float = 0.0,
    inc: Sequence[float | None] | None = None,
) -> dict[str, Any]:
    return {
        "job": {"peer": peer, "problem": problem, "seed": seed, "budget": len(best)},
        "status": "ok",
        "start": {"f_opt": optimum, "noise_sd": noise_sd},
        "its": [
            {"n": n, "cpu_s": 0.001, "best": b, "inc": i}
            for n, (b, i) in enumerate(zip(best, inc or best, strict=True), 1)
        ],
    }


def scores_of(*lines: dict[str, Any]) -> Scores:
    problems = [line["job"]["problem"] for line in lines]
    return Scores(read_runs(lines, problems=problems, budget=2))


def test_the_least_median_has_the_first_rank_and_equals_share_theirs() -> None:
    scores = scores_of(
        record("a", "p", [1.0, 0.1]), record("b", "p", [1.0, 0.5]), record("c", "p", [2.0, 0.5])
    )
    assert scores.ranks(["a", "b", "c"], 2).ravel().tolist() == [1.0, 2.5, 2.5]
    assert scores.ranks(["a", "b", "c"], 1).ravel().tolist() == [1.5, 1.5, 3.0]


def test_a_run_without_a_feasible_point_is_the_worst() -> None:
    scores = scores_of(record("a", "p", [None, None]), record("b", "p", [None, 1e9]))
    assert scores.median("a", "p") == math.inf
    assert scores.ranks(["a", "b"], 2).ravel().tolist() == [2.0, 1.0]


def test_a_noisy_problem_scores_the_point_that_measured_best() -> None:
    scores = scores_of(
        record("a", "p", [1.0, 0.01], inc=[1.0, 1.0], noise_sd=0.5),
        # Records of others need not say that the problem is noisy.
        record("b", "p", [1.0, 0.01], inc=[1.0, 10.0]),
    )
    assert scores.median("a", "p") == pytest.approx(0.0)
    assert scores.median("b", "p") == pytest.approx(1.0)


def test_an_unknown_optimum_is_the_best_value_of_all() -> None:
    scores = scores_of(
        record("a", "p", [9.0, 5.0], optimum=None), record("b", "p", [9.0, 6.0], optimum=None)
    )
    assert scores.median("b", "p") == pytest.approx(0.0)
    assert scores.median("a", "p") < -5.0


def test_runs_of_another_budget_and_unfinished_ones_are_left_out() -> None:
    lines = [
        record("a", "p", [1.0, 1.0, 1.0]),
        {**record("b", "p", [1.0, 1.0]), "status": "cpu_limit"},
        record("c", "q", [1.0, 1.0]),
    ]
    assert read_runs(lines, problems=["p"], budget=2) == []


def test_the_report_names_losses_and_who_is_not_ranked() -> None:
    lines = [
        record("ours", "easy", [1.0, 0.1]),
        record("ours", "hard", [1.0, 1.0]),
        record("peer", "easy", [1.0, 0.5]),
        record("peer", "hard", [1.0, 0.1]),
        record("slow", "easy", [1.0, 0.2]),
    ]
    runs = read_runs(lines, problems=["easy", "hard"], budget=2)
    report = write_report(runs, ours=["ours"], labels={"slow": "Slow 1.2"})
    rows = [line.split(" | ") for line in report.splitlines()]
    (against_peer,) = [row for row in rows if row[0] == "| peer" and " / " in row[1]]
    assert against_peer[1:3] == ["1 / 0 / 1", "50%"]
    assert against_peer[-1] == "hard |"
    assert "Not ranked, because not all problems were run: Slow 1.2 (1 problems)." in report
    assert "| easy | **-1.00** | -0.30 | -0.70 |" in report
    assert "| hard | 0.00 | **-1.00** |  |" in report


def test_the_report_counts_the_runs_that_were_feasible() -> None:
    lines = [
        record("ours", "p", [None, 1.0], seed=0),
        record("ours", "p", [1.0, 1.0], seed=1),
        record("peer", "p", [None, None]),
    ]
    report = write_report(read_runs(lines, problems=["p"], budget=2), ours=["ours"])
    assert "| ours | 2 of 2, first after 1.5 |" in report
    assert "| peer | 0 of 1 |" in report


def test_a_study_gives_the_same_scores_again() -> None:
    task = Task("random", "weldedbeam4", seed=3, budget=40)
    first, second = run_task(task), run_task(task)
    assert [each["best"] for each in first["its"]] == [each["best"] for each in second["its"]]
    assert len(first["its"]) == 40


def test_noise_is_told_but_not_scored() -> None:
    exact = run_task(Task("random", "branin2", seed=0, budget=20))["its"]
    noisy = run_task(Task("random", "branin2_noisy", seed=0, budget=20))["its"]
    assert [each["best"] for each in exact] == [each["best"] for each in noisy]
    assert [each["best"] for each in exact] == [each["inc"] for each in exact]
    assert [each["best"] for each in noisy] != [each["inc"] for each in noisy]


def test_a_run_goes_on_with_a_file_that_was_cut_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "records.jsonl"
    text = json.dumps(run_task(Task("random", "branin2", seed=0, budget=3))) + '\n{"job": {"p'
    path.write_text(text)
    command = ["--problems", "branin2", "--strategies", "random", "--seeds", "1"]
    assert main([*command, "--budget", "3", "--out", str(path)]) == 0
    assert path.read_text() == text
    assert "| bbopt random" in capsys.readouterr().out


@pytest.mark.slow
def test_one_command_runs_and_reports(tmp_path: Path) -> None:
    out, report = tmp_path / "records.jsonl", tmp_path / "report.md"
    command = ["--problems", "branin2", "gramacy2", "--strategies", "random", "sobol"]
    command += ["--seeds", "2", "--budget", "6", "--out", str(out), "--report", str(report)]
    assert main(command) == 0
    assert len(out.read_text().splitlines()) == 8
    assert "bbopt sobol" in report.read_text()
    assert main([*command, "--report-only"]) == 0
