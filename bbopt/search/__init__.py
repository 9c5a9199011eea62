"""Maximisers of acquisitions: continuous, mixed, constrained, discrete, batches."""

from bbopt.numerics.ascent import AscentSettings
from bbopt.search.maximise import (
    Exhausted,
    Found,
    SearchSettings,
    maximise,
    maximise_batch,
)
from bbopt.search.space import SearchColumn, SearchSpace

__all__ = [
    "AscentSettings",
    "Exhausted",
    "Found",
    "SearchColumn",
    "SearchSettings",
    "SearchSpace",
    "maximise",
    "maximise_batch",
]
