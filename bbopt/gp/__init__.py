"""The exact Gaussian-process engine: features, kernels, fits, posteriors, the default model."""

from bbopt.gp.features import FeatureColumn, FeatureMap
from bbopt.gp.fit import FitResult, FitSettings, RefitSchedule, fit_map
from bbopt.gp.host import HostPosterior, HostQuery
from bbopt.gp.kernels import Kernel
from bbopt.gp.model import (
    LARGEST_VALUE,
    GPModel,
    GPSettings,
    Hyperparameters,
)
from bbopt.gp.moments import Prediction, mixture_moments
from bbopt.gp.objective import MapObjective
from bbopt.gp.posterior import Members, Posterior, Query
from bbopt.gp.priors import FixedNoise, HyperPriors, LearnedNoise, LogNormalPrior
from bbopt.gp.warp import (
    OutputWarp,
    WarpKind,
    fit_bilog,
    fit_half_rank,
    fit_standardise,
    fit_warp,
)

__all__ = [
    "LARGEST_VALUE",
    "FeatureColumn",
    "FeatureMap",
    "FitResult",
    "FitSettings",
    "FixedNoise",
    "GPModel",
    "GPSettings",
    "HostPosterior",
    "HostQuery",
    "HyperPriors",
    "Hyperparameters",
    "Kernel",
    "LearnedNoise",
    "LogNormalPrior",
    "MapObjective",
    "Members",
    "OutputWarp",
    "Posterior",
    "Prediction",
    "Query",
    "RefitSchedule",
    "WarpKind",
    "fit_bilog",
    "fit_half_rank",
    "fit_map",
    "fit_standardise",
    "fit_warp",
    "mixture_moments",
]
