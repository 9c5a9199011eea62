import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bbopt_client.demo.digits import evaluate
from bbopt_client.demo.problem import MAX_BYTES, digits_problem

BASE: dict[str, Any] = {"scaler": "minmax", "pca": True, "pca_components": 12}
FAMILIES: dict[str, dict[str, Any]] = {
    "svm": {"svm_c": 10.0, "svm_gamma": 0.5},
    "forest": {"forest_trees": 5, "forest_depth": 4, "forest_features": 0.1},
    "knn": {"knn_neighbours": 3, "knn_weighted": True},
    "logistic": {"logistic_c": 1.0},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_point_of_every_family_is_in_the_space_and_can_be_evaluated(family: str) -> None:
    point = BASE | {"model": family} | FAMILIES[family]
    assert digits_problem(10).space.check(point) == []
    metrics = evaluate(point)
    assert 0.5 < metrics["accuracy"] <= 1.0
    assert metrics["model_bytes"] > 1000


def test_the_same_point_measures_the_same() -> None:
    point = BASE | {"model": "forest"} | FAMILIES["forest"]
    assert evaluate(point) == evaluate(point)


def test_nearest_neighbours_remember_their_training_images() -> None:
    point = {"model": "knn", "scaler": "none", "pca": False} | FAMILIES["knn"]
    assert evaluate(point)["model_bytes"] > 1797 * 2 / 3 * 64 * 8 > MAX_BYTES


def test_the_objective_runs_as_a_program(tmp_path: Path) -> None:
    parameters, result = tmp_path / "parameters.json", tmp_path / "result.json"
    parameters.write_text(json.dumps(BASE | {"model": "logistic"} | FAMILIES["logistic"]))
    files = {"BBOPT_PARAMS_FILE": str(parameters), "BBOPT_RESULT_FILE": str(result)}
    command = [sys.executable, "-m", "bbopt_client.demo.digits"]
    subprocess.run(command, env=os.environ | files, check=True, timeout=60)  # noqa: S603
    assert json.loads(result.read_text()).keys() == {"accuracy", "model_bytes"}
