"""The figures of sample efficiency show every optimizer, and come out the same again."""

import math
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import pytest

pytest.importorskip("matplotlib", reason="figures need the bench extra")

from benchmarks import page
from benchmarks.efficiency_plot import draw_ranks, draw_regret, style
from benchmarks.efficiency_records import Recorded, write_records
from benchmarks.efficiency_report import Run

OPTIMIZERS = ("bbopt gp", "bbopt random", "sobol", "peer")


def run(optimizer: str, problem: str, values: tuple[float, ...], seed: int = 0) -> Run:
    return Run(optimizer, problem, seed, "", values, 0.001, 0.0, is_noisy=False)


@pytest.fixture
def recorded() -> Recorded:
    runs = [run(each, "p", (2.0, 1.0 + n, 0.5)) for n, each in enumerate(OPTIMIZERS)]
    runs += [run("bbopt gp", "q", (math.inf, math.inf, 0.1), seed) for seed in (0, 1)]
    runs += [run(each, "q", (math.inf, 4.0, 2.0)) for each in OPTIMIZERS[1:3]]
    return Recorded(runs, ["bbopt gp"], {"peer": "Peer 3"})


def ids(path: Path) -> list[str]:
    root: Element = fromstring(path.read_text())  # noqa: S314 - drawn by this test
    return [each.attrib["id"] for each in root.iter() if "id" in each.attrib]


def test_a_panel_has_a_line_for_each_optimizer_that_ran_its_problem(
    recorded: Recorded, tmp_path: Path
) -> None:
    path = tmp_path / "regret.svg"
    draw_regret(recorded, path)
    lines = [each for each in ids(path) if each.startswith(("p-", "q-"))]
    assert sorted(lines) == [
        "p-bbopt-gp",
        "p-bbopt-random",
        "p-peer",
        "p-sobol",
        "q-bbopt-gp",
        "q-bbopt-random",
        "q-sobol",
    ]


def test_ranks_are_drawn_of_who_ran_all_problems(recorded: Recorded, tmp_path: Path) -> None:
    path = tmp_path / "ranks.svg"
    draw_ranks(recorded, path)
    lines = [each for each in ids(path) if each.startswith("ranks-")]
    assert sorted(lines) == ["ranks-bbopt-gp", "ranks-bbopt-random", "ranks-sobol"]


def test_a_figure_comes_out_the_same_again(recorded: Recorded, tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw_regret(recorded, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert "<dc:date>" not in (tmp_path / "a").read_text()


def test_no_two_optimizers_look_the_same() -> None:
    names = ["bbopt gp", "bbopt random", "random", "sobol", *(f"peer {n}" for n in range(9))]
    looks = style(names, "bbopt gp")
    assert len({(each["color"], each.get("linestyle")) for each in looks.values()}) == 13
    assert max(looks, key=lambda name: looks[name]["linewidth"]) == "bbopt gp"


def test_the_page_shows_what_is_drawn(recorded: Recorded, tmp_path: Path) -> None:
    write_records(recorded, tmp_path / "efficiency.jsonl")
    images = tmp_path / "images"
    assert page.draw(tmp_path, images)
    for drawn in images.iterdir():
        assert f"](images/{drawn.name})" in page.PAGE.read_text()
        assert (page.IMAGES / drawn.name).stat().st_size < 300_000
