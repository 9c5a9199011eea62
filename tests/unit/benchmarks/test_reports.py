"""Reports lay out what was recorded, and judge it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    engine_report,
    large,
    latency,
    regret,
    service_report,
    studies_report,
    turbo,
)
from benchmarks.recording import Recorded
from benchmarks.service_processes import Memory

ABOUT = {"versions": {"bbopt": "7"}, "settings": {"q": 50, "n": 100}}


def laid_out(
    report: Callable[[Recorded], list[str]], found: Sequence[Any]
) -> tuple[list[str], list[str]]:
    """Return the rows of tables and the verdicts of a report."""
    lines = report(Recorded([asdict(each) for each in found], ABOUT))
    assert "Versions: bbopt 7" in lines[-1]
    rows = [line for line in lines if line.startswith("| ") and "---" not in line]
    return rows, [line for line in lines if line.startswith(("PASS", "MISS"))]


# ---------------------------------------------------------------------- regret


def test_regrets_come_in_the_order_of_the_goals_with_their_verdicts() -> None:
    rows, verdicts = laid_out(
        regret.report,
        [
            regret.Row("hartmann6", 60, [0.5, 0.2, 0.3], [1.0, 1.0, 2.0], 12.4),
            regret.Row("branin", 60, [1e-4, 3e-4, None], [1.0, 2.0, 3.0], 10.6),
        ],
    )
    assert rows[1] == "| branin | 60 | 0.0003 | 0.0001 to inf | inf | 2 | 11 |"
    assert rows[2].startswith("| hartmann6 | 60 | 0.3 |")
    assert verdicts == [
        "PASS branin: median 0.0003, wanted < 1e-3",
        "MISS hartmann6: median 0.3, wanted < 0.15",
    ]


def test_a_resumed_run_of_regrets_repeats_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = []

    def measure(name: str, n_processes: int) -> regret.Row:
        measured.append((name, n_processes))
        return regret.Row(name, 60, [0.0, 0.0], [1.0, 1.0], 1.0)

    monkeypatch.setattr(regret, "measure", measure)
    records = ["--records", str(tmp_path / "regret.jsonl")]
    assert regret.main(["--problem", "levy8", *records]) == 0
    assert regret.main(["--problem", "levy8", "--problem", "branin", *records]) == 0
    assert measured == [("levy8", 1), ("branin", 1)]
    assert "PASS branin: median 0, wanted < 1e-3" in capsys.readouterr().out


# ---------------------------------------------------------------------- latency


def timing(tool: str, n: int, ask_ms: float) -> latency.Timing:
    rounds = [
        latency.Round(100.0),
        latency.Round(ask_ms, ask_ms / 2, ask_ms / 4, has_refit=True),
        latency.Round(ask_ms / 2, None, ask_ms / 4, has_refit=False),
    ]
    return latency.Timing(tool, n, 6, rounds, {"peer": "1"} if tool != "bbopt" else {})


def test_latency_leaves_the_cold_round_out_of_the_means_and_compares_with_optuna() -> None:
    found = [
        timing("bbopt", 500, 20.0),
        timing("bbopt", 100, 10.0),
        timing(latency.OPTUNA, 100, 40.0),
        timing(latency.OPTUNA, 500, 50.0),
    ]
    rows, verdicts = laid_out(latency.report, found)
    assert rows[1] == "| 6 | 100 | bbopt | 5.0 | 2.5 | 10.0 | 7.5 | 100.0 |"
    assert [line.split(":")[0] for line in verdicts] == ["PASS d=6 n=100", "MISS d=6 n=500"]
    assert "4.0 times faster than Optuna GPSampler, wanted 3" in verdicts[0]


def test_parts_that_a_tool_does_not_tell_apart_stay_empty() -> None:
    rounds = [latency.Round(3.0), latency.Round(2.0)]
    timed = latency.Timing(latency.OPTUNA, 20, 6, rounds)
    assert timed.cells()[3:] == ["", "", "2.0", "2.0", "3.0"]


# ---------------------------------------------------------------------- engine


def compared(what: str, n: int, theirs_ms: float, loss: float = 0.0) -> engine_report.Row:
    runs = [engine_report.Comparison(10.0, theirs_ms, each) for each in (0.0, loss, loss)]
    return engine_report.Row(what, "rbf", 6, n, runs, 1e-6 if what == "fit" else None)


def test_rows_of_the_engine_are_sorted_and_losses_are_shown() -> None:
    rows, verdicts = laid_out(
        engine_report.report,
        [
            compared("search, around best", 100, 200.0),
            compared("search", 100, 140.0),
            compared("fit", 20, 300.0, loss=0.2),
            compared("fit", 100, 300.0, loss=0.001),
        ],
    )
    assert [row.split(" | ")[0] for row in rows[1:]] == [
        "| fit",
        "| fit",
        "| search",
        "| search, around best",
    ]
    assert rows[2] == "| fit | rbf | 6 | 100 | 10.0 | 300.0 | 30.0 | +0.0010 | +0.0010 |"
    assert [line[:4] for line in verdicts] == ["MISS", "PASS", "MISS", "PASS"]
    assert "14.0 times less CPU (wanted 15)" in verdicts[2]


# ---------------------------------------------------------------------- large


def test_only_the_screened_search_of_a_large_study_is_judged() -> None:
    def asks(n: int, search: str, rest_s: float) -> large.Asks:
        return large.Asks(n, search, 40.0, 3.0, [rest_s, rest_s, 9.0], 0.1, 5, 6, [0.1, 0.2])

    rows, verdicts = laid_out(
        large.report,
        [
            asks(100_000, large.SCREENED, 2.5),
            asks(10_000, large.SCREENED, 0.5),
            asks(10_000, large.ALONE, 8.0),
            large.Quality(2000, large.CHOSEN, 75.4, (0.01, -3.0), (0.2, 0.1)),
        ],
    )
    assert rows[1] == (
        "| 10000 | screened by neighbours | 40 | 3.00 | 0.500 | 9.000 | 0.10 | 5 | 6 "
        "| 1.5e-01 | 2.0e-01 |"
    )
    assert rows[-1] == "| 2000 | chosen rows | 75 | 0.0100 / -3.00 | 0.2000 / 0.10 |"
    assert [line[:12] for line in verdicts] == ["PASS n=10000", "MISS n=10000"]


# ---------------------------------------------------------------------- turbo


def test_batches_are_judged_by_the_medians_at_the_end() -> None:
    about = {"versions": {}, "settings": {"q": 250, "n": 1000}}
    rows = [
        turbo.Run("p", method, seed, [4.0, 3.0, 2.0, last], [1.0, 2.0, 1.0, 1.0])
        for method, seed, last in (("turbo", 0, 0.5), ("gp", 0, 1.0), ("gp", 1, 0.5))
    ]
    lines = turbo.report(Recorded([asdict(row) for row in rows], about))
    assert "| p | gp | 0 | 3.00e+00 | 1.00e+00 | 5 | 2.0 |" in lines
    assert "MISS p: median final regret 0.75, wanted at most TuRBO's 0.5" in lines


def test_a_resumed_run_of_batches_repeats_no_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "turbo.jsonl"
    arguments = ["--method", "gp", "--q", "4", "--n", "8", "--records", str(path)]
    assert turbo.main([*arguments, "--seeds", "0"]) == 0
    first = path.read_text()
    assert turbo.main([*arguments, "--seeds", "0", "1"]) == 0
    assert path.read_text().startswith(first)
    assert [line.count("regrets") for line in path.read_text().splitlines()] == [0, 1, 1]
    assert capsys.readouterr().out.count("| ackley10 | gp | 1 |") == 1


# ---------------------------------------------------------------------- studies


def run(ask_max: float, *, large_n: int = 0, at_rest_mib: float = 60.0) -> studies_report.Run:
    lap = studies_report.Lap(2.0, 3.0, 4.0, ask_max, 1.0, 5.0, 6.0)
    return studies_report.Run(
        studies_report.Setting(clients=1, studies=100, large=large_n),
        [lap],
        [7.0, 8.0, 9.0] if large_n else [],
        Memory(10.0, 40.0),
        Memory(11.0, 60.0),
        Memory(10.0, at_rest_mib - 10.0),
        data_kib=27.0,
    )


def test_waits_and_memory_of_many_studies_are_judged() -> None:
    rows, verdicts = laid_out(studies_report.report, [run(10.0, at_rest_mib=58.0)])
    assert rows[1] == "| 100 | 1 | 1 | 2.0 | 3.0 | 4.0 | 10.0 | 5.0 | 1.0 | 5.0 | 6.0 |"
    assert rows[4] == "| 100 | 1 | at rest | 0.0 | 8.0 | 81.9 | 27.0 | 54.9 |"
    assert [line[:4] for line in verdicts] == ["PASS", "PASS"]


def test_a_long_wait_and_a_fat_study_miss() -> None:
    _, verdicts = laid_out(studies_report.report, [run(41.0)])
    assert [line[:4] for line in verdicts] == ["MISS", "MISS"]


def test_memory_is_not_judged_beside_a_large_study() -> None:
    rows, verdicts = laid_out(studies_report.report, [run(10.0, large_n=500)])
    assert rows[-1] == "| 500 |  | 100 | 1 | 3 | 8.0 | 9.0 |"
    assert len(verdicts) == 1


# ---------------------------------------------------------------------- service


def test_a_part_of_the_service_is_a_table_and_many_clients_are_judged() -> None:
    def pairs(clients: int, n_per_s: float, of_echo: float) -> dict[str, Any]:
        about = {"part": "pairs", "strategy": "sobol", "calls": "two", "studies": 1}
        speed = {"clients": clients, "pairs/s": n_per_s, "of echo": of_echo, "tell p50": None}
        return about | speed

    rows = [
        {"part": "recovery", "seconds": "next ask", "first start": 0.0312},
        pairs(1, 190.4, 0.13),
        pairs(16, 771.6, 0.1),
    ]
    lines = service_report.report(Recorded(rows, ABOUT))
    assert "| sobol | two | 1 | 16 | 772 | 0.100 |  |" in lines
    assert [line[:48] for line in lines if line.startswith(("PASS", "MISS"))] == [
        "PASS 16 clients of one study, a pair in two: 772",
        "MISS 16 clients of one study, a pair in two: 20.",
    ]
    assert lines[lines.index("| seconds | first start |") + 2] == "| next ask | 0.0312 |"
