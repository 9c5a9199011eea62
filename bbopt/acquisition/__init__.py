"""Acquisition functions: what a candidate is worth, in closed form with its gradient."""

from bbopt.acquisition.constrained import SumOfLogs, constrained, search_for_feasibility
from bbopt.acquisition.ensemble import incumbent_value
from bbopt.acquisition.integrated_expected_improvement import IntegratedLogExpectedImprovement
from bbopt.acquisition.log_expected_improvement import LogExpectedImprovement
from bbopt.acquisition.log_feasibility import LogProbabilityOfFeasibility, WithCuriosity
from bbopt.acquisition.log_success import CrashAversion, LogProbabilityOfSuccess
from bbopt.acquisition.protocol import Acquisition, BoundedAcquisition
from bbopt.acquisition.screened import ScreenedImprovement

__all__ = [
    "Acquisition",
    "BoundedAcquisition",
    "CrashAversion",
    "IntegratedLogExpectedImprovement",
    "LogExpectedImprovement",
    "LogProbabilityOfFeasibility",
    "LogProbabilityOfSuccess",
    "ScreenedImprovement",
    "SumOfLogs",
    "WithCuriosity",
    "constrained",
    "incumbent_value",
    "search_for_feasibility",
]
