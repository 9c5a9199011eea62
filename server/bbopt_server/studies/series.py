"""Points of strategies that ignore results, computed once for the asks of a while.

The next points of such a strategy are the same whatever is told meanwhile, so they wait here
for the asks that they are for; each commit takes the first few, with the strategy's state after
them. A cache in memory, which may be lost at any moment: the log says how far each series is.
"""

from collections import OrderedDict
from dataclasses import dataclass, field, replace

from bbopt.rpc.names import StudyName
from bbopt_server.compute import Suggestions
from bbopt_server.storage.store import StudyRow
from bbopt_server.studies.handing_out import Points

MOST_POINTS = 64
"""Computed at once beyond what asks want."""
MOST_BYTES = 128 << 10
"""Of the points of one study."""
MAX_STUDIES = 128


@dataclass(frozen=True, slots=True)
class Series:
    """The next points of a study."""

    study_key: int
    name: StudyName
    """With the study's uid."""
    next_number: int
    """Of the trial that the first of them is for."""
    found: Suggestions
    n_used: int = 0
    """Of the points found."""

    def __len__(self) -> int:
        return len(self.found.points) - self.n_used

    def is_of(self, name: StudyName) -> bool:
        """Whether they are those of the study that is meant; another may have had its name."""
        return not name.uid or name.uid == self.name.uid

    def serves(self, study_key: int) -> bool:
        """Whether there are points of a study left; another may have its name by now."""
        return self.study_key == study_key and len(self) > 0

    @property
    def is_short(self) -> bool:
        """Whether more should be computed before these are used up."""
        return 4 * len(self) <= len(self.found.points)

    def is_newer_than(self, other: "Series") -> bool:
        """Whether these were computed later."""
        return self.found.revision > other.found.revision

    def points_for(self, row: StudyRow, n_new: int) -> Points | None:
        """Return the next points; ``None`` if somebody else made a trial since these were
        computed, or if they are too few.
        """
        if row.n_trials + 1 != self.next_number or n_new > len(self):
            return None
        first, last = self.n_used, self.n_used + n_new
        state = self.found.states[last - 1] if n_new > 0 else None
        return Points(self.found.points[first:last], state, self.found.revision)

    def at(self, next_number: int) -> "Series | None":
        """Return what is left once the trials before a number are made of points; ``None`` if
        these are others.
        """
        n_used = self.n_used + next_number - self.next_number
        if not self.n_used <= n_used <= len(self.found.points):
            return None
        return replace(self, next_number=next_number, n_used=n_used)


@dataclass(slots=True)
class SeriesTable:
    """The series of the studies that asked last."""

    _by_name: "OrderedDict[StudyName, Series]" = field(default_factory=OrderedDict)

    def of(self, name: StudyName) -> Series | None:
        """Return what there is of a study's series."""
        return self._by_name.get(name)

    def keep(self, series: Series) -> None:
        """Keep what a commit left of a series."""
        known = self._by_name.get(series.name)
        if known is not None and known.is_newer_than(series):
            series = known.at(series.next_number) or series
        self._put(series)

    def extend(self, series: Series) -> None:
        """Take over a series that was computed while the one that is kept served asks."""
        known = self._by_name.get(series.name)
        if known is not None and known.study_key == series.study_key:
            series = series.at(known.next_number) or series
        self._put(series)

    def _put(self, series: Series) -> None:
        self._by_name[series.name] = series
        self._by_name.move_to_end(series.name)
        if len(self._by_name) > MAX_STUDIES:
            self._by_name.popitem(last=False)


def n_to_compute(n_new: int, n_allowed: int, last: Series | None) -> int:
    """Say how many points to compute where asks want some: twice as many each time.

    Args:
        n_new: Points that asks want.
        n_allowed: Trials that the study may still create.
        last: The series before, of this study.
    """
    if last is None or not last.found.points:
        return n_new
    points = last.found.points
    n_ahead = min(MOST_POINTS, 2 * len(points), MOST_BYTES // max(map(len, points)))
    return max(n_new, min(n_ahead, n_allowed))
