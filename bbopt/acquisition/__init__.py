"""Acquisition functions: what a candidate is worth, in closed form with its gradient."""

from bbopt.acquisition.ensemble import incumbent_value
from bbopt.acquisition.integrated_expected_improvement import IntegratedLogExpectedImprovement
from bbopt.acquisition.log_expected_improvement import LogExpectedImprovement
from bbopt.acquisition.protocol import Acquisition

__all__ = [
    "Acquisition",
    "IntegratedLogExpectedImprovement",
    "LogExpectedImprovement",
    "incumbent_value",
]
