"""What the demo tunes: a classifier's family, its own settings and its preprocessing."""

from bbopt import (
    Bool,
    Budget,
    Categorical,
    Float,
    Int,
    Metric,
    MetricKind,
    Noise,
    Problem,
    Space,
)
from bbopt.problem import Goal
from bbopt.space import Equals, Scale

MAX_BYTES = 150_000.0
"""Bound on the model's size. A third of random configurations keep it, and the most accurate
unconstrained ones (an SVM or nearest neighbours on all pixels, 260 to 540 kB) do not."""


def digits_problem(n_trials: int) -> Problem:
    """Maximise cross-validated accuracy subject to a bound on the model's size."""
    svm, forest, knn, logistic = (
        Equals("model", (family,)) for family in ("svm", "forest", "knn", "logistic")
    )
    space = Space(
        (
            Categorical("model", ("svm", "forest", "knn", "logistic")),
            Categorical("scaler", ("none", "standard", "minmax")),
            Bool("pca"),
            Int("pca_components", 4, 64, active_if=Equals("pca", (True,))),
            Float("svm_c", 1e-2, 1e3, scale=Scale.LOG, active_if=svm),
            Float("svm_gamma", 1e-5, 10.0, scale=Scale.LOG, active_if=svm),
            Int("forest_trees", 5, 100, scale=Scale.LOG, active_if=forest),
            Int("forest_depth", 2, 20, active_if=forest),
            Float("forest_features", 0.02, 1.0, active_if=forest),
            Int("knn_neighbours", 1, 30, active_if=knn),
            Bool("knn_weighted", active_if=knn),
            Float("logistic_c", 1e-4, 1e2, scale=Scale.LOG, active_if=logistic),
        )
    )
    metrics = (
        Metric("accuracy", goal=Goal.MAXIMIZE, noise=Noise.NONE),
        Metric("model_bytes", MetricKind.CONSTRAINT, upper=MAX_BYTES, noise=Noise.NONE),
    )
    return Problem(space, metrics, Budget(trials=n_trials))
