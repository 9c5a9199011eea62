"""The ablation benchmark runs what is missing and compares runs of equal seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bbopt.space import Codec
from benchmarks import heldout
from benchmarks.ablation import ABLATIONS, Records, Task, main, report, run_task
from benchmarks.recording import Recorded, read


def record(ablation: str, values: Sequence[float | None], seed: int = 0) -> dict[str, Any]:
    job = {"ablation": ablation, "problem": "zakharov 5", "seed": seed, "budget": len(values)}
    return {"job": job, "ask_ms": 1.0, "values": list(values)}


def lines_of_report(lines: Sequence[dict[str, Any]], budget: int) -> str:
    return "\n".join(report(Recorded(lines, {"settings": {"budget": budget}})))


def test_a_difference_pairs_runs_of_one_seed_and_speaks_for_the_choice() -> None:
    lines = [
        record("default", [1.0, 0.1]),
        record("center", [1.0, 1.0]),
        record("center", [9.0, 9.0], seed=1),
    ]
    assert Records(lines, 2).differences("center", "zakharov 5", 2) == pytest.approx([1.0])


def test_what_is_recommended_at_last_is_compared_where_it_was_recorded() -> None:
    old = [record("default", [1.0], 7), record("center", [1.0], 7)]
    new = [
        {**record("default", [1.0]), "recommended": 0.1},
        {**record("center", [1.0]), "recommended": 10.0},
    ]
    assert Records([*old, *new], 1).differences_of_recommended(
        "center", "zakharov 5"
    ) == pytest.approx([2.0])
    assert "| +2.000 ± nan |" in lines_of_report([*old, *new], 1)


def test_the_report_counts_wins_and_losses() -> None:
    lines = [
        *(record("default", [1.0, 0.1], seed) for seed in range(3)),
        *(record("center", [1.0, value], seed) for seed, value in enumerate([1.0, 1.0, 0.01])),
    ]
    text = lines_of_report(lines, 2)
    assert "| 2 / 1 |" in text
    assert "| zakharov 5 | -1.00 | +0.33 (2 / 1) |" in text


def test_nothing_feasible_is_worse_than_anything() -> None:
    lines = [record("default", [None, 5.0]), record("center", [None, None])]
    records = Records(lines, 2)
    assert records.differences("center", "zakharov 5", 1) == [0.0]
    assert records.differences("center", "zakharov 5", 2)[0] > 3.0


def test_a_choice_taken_back_changes_what_is_suggested() -> None:
    with_it, without = (
        run_task(Task(name, "zakharov 5", 0, 1))["values"] for name in ("default", "center")
    )
    assert with_it != without


def test_a_second_run_adds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "ablation.jsonl"
    arguments = ["--ablations", "center", "--problems", "zakharov 5", "--seeds", "1"]
    arguments += ["--budget", "2", "--records", str(out)]
    assert main(arguments) == 0
    before = out.read_text()
    assert [row["job"]["ablation"] for row in read(out).rows] == ["default", "center"]
    assert main(arguments) == 0
    assert out.read_text() == before
    assert "starts at a Sobol point" in capsys.readouterr().out


@pytest.mark.parametrize("name", heldout.MAKERS)
def test_a_heldout_function_moves_with_the_seed_and_stays_above_its_optimum(name: str) -> None:
    first, second = (heldout.MAKERS[name](seed) for seed in (0, 1))
    assert first.optimum == 0.0
    codec = Codec(first.problem.space)
    points = [codec.decode(row) for row in codec.sample(np.random.default_rng(0), 50)]
    values = [[p.evaluate(point)["value"] for point in points] for p in (first, second)]
    assert values[0] != values[1]
    if "constrained" not in name:
        assert min(map(min, values)) >= 0.0


@pytest.mark.parametrize(
    ("function", "d"),
    [
        (heldout.styblinski_tang, 5),
        (heldout.dixon_price, 6),
        (heldout.zakharov, 5),
        (heldout.griewank, 6),
        (heldout.salomon, 5),
        (heldout.shekel, 4),
    ],
)
def test_the_optimum_of_a_function_is_zero_at_zero(function: heldout.Function, d: int) -> None:
    assert function(np.zeros(d)) == pytest.approx(0.0, abs=1e-6)
    assert function(np.full(d, 1e-3)) > 0.0


def test_every_ablation_differs_from_the_default() -> None:
    default = ABLATIONS["default"]
    for name, ablation in ABLATIONS.items():
        is_same = (ablation.choices, ablation.n_initial) == (default.choices, None)
        assert is_same == (name == "default")
