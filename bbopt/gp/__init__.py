"""The exact Gaussian-process engine: features, kernels, fits, posteriors, the default model."""

from bbopt.gp.features import FeatureColumn, FeatureMap
from bbopt.gp.fit import FitResult, FitSettings, RefitSchedule, fit_map
from bbopt.gp.kernels import Kernel
from bbopt.gp.model import GPModel, GPSettings, Hyperparameters, Prediction, WarpKind
from bbopt.gp.objective import MapObjective
from bbopt.gp.posterior import Members, Posterior, Query
from bbopt.gp.priors import FixedNoise, HyperPriors, LearnedNoise, LogNormalPrior
from bbopt.gp.warp import fit_bilog, fit_half_rank, fit_standardise

__all__ = [
    "FeatureColumn",
    "FeatureMap",
    "FitResult",
    "FitSettings",
    "FixedNoise",
    "GPModel",
    "GPSettings",
    "HyperPriors",
    "Hyperparameters",
    "Kernel",
    "LearnedNoise",
    "LogNormalPrior",
    "MapObjective",
    "Members",
    "Posterior",
    "Prediction",
    "Query",
    "RefitSchedule",
    "WarpKind",
    "fit_bilog",
    "fit_half_rank",
    "fit_map",
    "fit_standardise",
]
