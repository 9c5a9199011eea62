"""The demo's objective: how well, and how small, a classifier reads handwritten digits.

Runs as a program of its own, the way any training script would under ``bbopt run``: it takes
its parameters from ``BBOPT_PARAMS_FILE`` and writes its metrics to ``BBOPT_RESULT_FILE``.
Needs scikit-learn; nothing else of the client imports this module.

``accuracy`` is the mean over three fixed folds of the 1797 images that ship with
scikit-learn; ``model_bytes`` is what the fitted pipeline's arrays occupy. Both are
deterministic: the same parameters always measure the same.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

N_FOLDS = 3


def classifier(parameters: Mapping[str, Any]) -> BaseEstimator:
    """Build the untrained classifier of the chosen family."""
    match parameters["model"]:
        case "svm":
            return SVC(C=parameters["svm_c"], gamma=parameters["svm_gamma"])
        case "forest":
            return RandomForestClassifier(
                n_estimators=parameters["forest_trees"],
                max_depth=parameters["forest_depth"],
                max_features=parameters["forest_features"],
                random_state=0,
            )
        case "knn":
            return KNeighborsClassifier(
                n_neighbors=parameters["knn_neighbours"],
                weights="distance" if parameters["knn_weighted"] else "uniform",
                algorithm="brute",
            )
        case "logistic":
            return LogisticRegression(C=parameters["logistic_c"], max_iter=300)
        case other:
            raise ValueError(f"model must be svm, forest, knn or logistic, got {other!r}")


def pipeline(parameters: Mapping[str, Any]) -> BaseEstimator:
    """Build preprocessing and classifier."""
    steps: list[BaseEstimator] = []
    match parameters["scaler"]:
        case "standard":
            steps.append(StandardScaler())
        case "minmax":
            steps.append(MinMaxScaler())
    if parameters["pca"]:
        steps.append(PCA(parameters["pca_components"], random_state=0))
    return make_pipeline(*steps, classifier(parameters))


def arrays(fitted: object, seen: set[int]) -> Iterator[np.ndarray]:
    """Yield every array that a fitted estimator holds, each once."""
    if id(fitted) in seen:
        return
    seen.add(id(fitted))
    if isinstance(fitted, np.ndarray) and fitted.dtype != object:
        yield fitted
    elif isinstance(fitted, np.ndarray | list | tuple):
        for item in fitted:
            yield from arrays(item, seen)
    elif hasattr(fitted, "tree_"):
        state = fitted.tree_.__getstate__()
        yield from (state["nodes"], state["values"])
    elif isinstance(fitted, BaseEstimator):
        for value in vars(fitted).values():
            yield from arrays(value, seen)


def evaluate(parameters: Mapping[str, Any]) -> dict[str, float]:
    """Train and measure one configuration: accuracy in [0, 1] and size in bytes."""
    images, labels = load_digits(return_X_y=True)
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=0)
    scores = cross_validate(
        pipeline(parameters), images, labels, cv=folds, return_estimator=True
    )
    sizes = [sum(a.nbytes for a in arrays(e, set())) for e in scores["estimator"]]
    return {
        "accuracy": float(np.mean(scores["test_score"])),
        "model_bytes": float(np.max(sizes)),
    }


def main() -> int:
    """Read the parameters, evaluate them, write the metrics."""
    parameters = json.loads(Path(os.environ["BBOPT_PARAMS_FILE"]).read_text("utf-8"))
    result = json.dumps(evaluate(parameters))
    Path(os.environ["BBOPT_RESULT_FILE"]).write_text(result, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
