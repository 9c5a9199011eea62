"""Cutting evaluations short: rungs, who is promoted, who is to stop. Light: no numpy even."""

from bbopt.stopping.rules import full_stage, initial_stage, reason_to_stop
from bbopt.stopping.rungs import Rungs

__all__ = ["Rungs", "full_stage", "initial_stage", "reason_to_stop"]
