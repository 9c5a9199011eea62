"""What a study file says: the study's definition and what surrounds it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bbopt.specs import StudySpec


@dataclass(frozen=True, slots=True)
class StudyDefinition:
    """A study as its file defines it."""

    spec: StudySpec
    name: str | None = None
    """The study's id, unless the command line names it."""
    project: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
