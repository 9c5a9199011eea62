"""Kept runs of sample efficiency come back as they were."""

import json
import math
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import efficiency, page, recording
from benchmarks.efficiency_records import Recorded, read_records, write_records
from benchmarks.efficiency_report import Run
from benchmarks.efficiency_report import read_runs as read_full_runs

# As the records of others have them: seven digits, which ten keep exactly.
values = st.floats(-1e6, 1e6).map(lambda value: float(f"{value:.7g}")) | st.just(math.inf)


@st.composite
def runs_of_one_budget(draw: st.DrawFn) -> list[Run]:
    budget = draw(st.integers(1, 12))
    return draw(
        st.lists(
            st.builds(
                Run,
                optimizer=st.sampled_from(["ours", "peer"]),
                problem=st.sampled_from(["p", "q"]),
                seed=st.integers(0, 9),
                version=st.sampled_from(["", "1.2"]),
                values=st.lists(values, min_size=budget, max_size=budget).map(tuple),
                cpu_s=st.integers(0, 10**6).map(lambda n: n / 10**6),
                optimum=st.none() | st.floats(-1e6, 1e6),
                is_noisy=st.booleans(),
            ),
            min_size=1,
            max_size=4,
        )
    )


@given(runs_of_one_budget())
def test_kept_runs_come_back_equal_and_in_order(runs: list[Run]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "kept.jsonl"
        write_records(Recorded(runs, ["ours"], {"peer": "Peer 3"}), path)
        kept = read_records(path)
    assert list(kept.runs) == runs
    assert (kept.ours, kept.labels) == (["ours"], {"peer": "Peer 3"})


def test_only_changes_are_kept_and_with_ten_digits(tmp_path: Path) -> None:
    run = Run("ours", "p", 0, "", (math.inf, 2 / 3, 2 / 3, 0.5), 0.001, 1 / 3, is_noisy=False)
    path = tmp_path / "kept.jsonl"
    write_records(Recorded([run], ["ours"]), path)
    line = json.loads(path.read_text().splitlines()[1])
    assert line["values"] == [[1, None], [2, 0.6666666667], [4, 0.5]]
    assert line["optimum"] == 1 / 3


def test_runs_of_two_budgets_are_not_kept_together() -> None:
    run = Run("ours", "p", 0, "", (1.0, 1.0), 0.001, 0.0, is_noisy=False)
    with pytest.raises(ValueError, match="one budget"):
        Recorded([run, replace(run, values=(1.0,))], ["ours"])


def test_kept_runs_give_the_report_of_the_full_ones(tmp_path: Path) -> None:
    out, report, kept = (tmp_path / name for name in ("out.jsonl", "report.md", "kept.jsonl"))
    tasks = [
        efficiency.Task(strategy, problem, seed, 6)
        for strategy in ("random", "sobol")
        for problem in ("branin2_noisy", "weldedbeam4")
        for seed in (0, 1)
    ]
    lines = [efficiency.run_task(task) for task in tasks]
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = ["--problems", "branin2_noisy", "weldedbeam4", "--strategies", "sobol", "random"]
    command += ["--budget", "6", "--label", "bbopt random=by chance", "--report-only"]
    command += ["--out", str(out), "--report", str(report), "--records", str(kept)]
    assert efficiency.main(command) == 0
    runs = read_full_runs(lines, problems=["branin2_noisy", "weldedbeam4"], budget=6)
    assert [run.seed for run in read_records(kept).runs] == [run.seed for run in runs]
    assert read_records(kept).report() == report.read_text()
    assert "by chance" in report.read_text()
    section = "\n".join(page.REPORTS["efficiency"](recording.read(kept)))
    assert section.startswith("Average rank over 2 problems")
