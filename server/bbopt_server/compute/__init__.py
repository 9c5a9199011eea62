"""Where models are fitted: processes of their own, and the front's way to them.

Importing this package loads no torch; only the processes started by ``python -m
bbopt_server.compute`` do.
"""

from bbopt_server.compute.compute import Compute, Recommendation, StudyLog, Suggestions
from bbopt_server.compute.errors import ComputeFailedError, ComputeUnavailableError
from bbopt_server.compute.jobs import Limits
from bbopt_server.compute.pool import ComputePool

__all__ = [
    "Compute",
    "ComputeFailedError",
    "ComputePool",
    "ComputeUnavailableError",
    "Limits",
    "Recommendation",
    "StudyLog",
    "Suggestions",
]
