"""Points for asks that the model cannot answer in time: uniform, feasible, reproducible."""

import asyncio
from collections.abc import Sequence

import numpy as np

from bbopt.space import ParamValue
from bbopt.space.codec import Codec
from bbopt.specs import StudySpec
from bbopt.trial import Provenance, Suggestion
from bbopt_server.studies.creating import strategy_name

_STREAM = 0x66616C6C
"""Keeps the fallback's random numbers apart from those of the strategies ("fall")."""


async def sample(
    spec: StudySpec, *, first_number: int, count: int, revision: int, reason: str
) -> list[Suggestion]:
    """Draw points uniformly from the feasible space, off the event loop.

    Args:
        spec: The study; its seed and the number of a trial determine the trial's point.
        first_number: Number of the first trial that the points are for.
        count: Points wanted.
        revision: Last event of the log when the points are drawn.
        reason: Why the strategy did not answer.
    """
    points = await asyncio.to_thread(_points, spec, range(first_number, first_number + count))
    provenance = Provenance(
        "fallback",
        data_revision=revision,
        degraded_from=strategy_name(spec.strategy),
        reason=reason,
    )
    return [Suggestion(point, provenance) for point in points]


def _points(spec: StudySpec, numbers: Sequence[int]) -> list[dict[str, ParamValue]]:
    codec = Codec(spec.problem.space)
    points = []
    for number in numbers:
        rng = np.random.default_rng([spec.drawn_seed, _STREAM, number])
        points.append(codec.decode(codec.sample(rng, 1)[0]))
    return points
