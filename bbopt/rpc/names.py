"""Names of resources: ``projects/{project}/studies/{study}/trials/{number}``.

Ids are ASCII letters, digits, dots, dashes and underscores, at most 128, the first one a
letter or a digit. So no id is a path, an option, markup or a homoglyph of another.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache

from bbopt.errors import InvalidError

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_MAX_NUMBER = 2**63 - 1
_MAX_SHOWN = 80


def check_id(text: object, field: str = "") -> str:
    """Return an id of a project or a study if it is well formed.

    Raises:
        InvalidError: It is not; ``field`` names the culprit.
    """
    if not isinstance(text, str) or _ID.fullmatch(text) is None:
        rule = "must be 1 to 128 of A-Z a-z 0-9 . _ -, starting with a letter or a digit"
        raise InvalidError.of(field, f"{rule}, not {_shown(text)}")
    return text


@dataclass(frozen=True, slots=True)
class ProjectName:
    """``projects/{project}``."""

    project: str

    def __post_init__(self) -> None:
        check_id(self.project, "project")

    def __str__(self) -> str:
        return f"projects/{self.project}"

    @classmethod
    def parse(cls, text: str) -> "ProjectName":
        """Read the name of a project.

        Raises:
            InvalidError: The text is no such name.
        """
        (project,) = _ids(text, ("projects",))
        return cls(project)


@dataclass(frozen=True, slots=True)
class StudyName:
    """``projects/{project}/studies/{study}``."""

    project: str
    study: str
    uid: str = field(default="", compare=False)
    """Which study of that name is meant, since a name that was freed may be taken again;
    empty: whichever has it.
    """

    def __post_init__(self) -> None:
        check_id(self.project, "project")
        check_id(self.study, "study")

    def __str__(self) -> str:
        return f"projects/{self.project}/studies/{self.study}"

    @classmethod
    def parse(cls, text: str, uid: str = "") -> "StudyName":
        """Read the name of a study.

        Raises:
            InvalidError: The text is no such name.
        """
        return _study_name(text, uid)


@dataclass(frozen=True, slots=True)
class TrialName:
    """``projects/{project}/studies/{study}/trials/{number}``."""

    project: str
    study: str
    number: int

    def __post_init__(self) -> None:
        check_id(self.project, "project")
        check_id(self.study, "study")
        if not 1 <= self.number <= _MAX_NUMBER:
            raise InvalidError.of("number", f"must be in [1, 2**63), not {self.number}")

    def __str__(self) -> str:
        return f"projects/{self.project}/studies/{self.study}/trials/{self.number}"

    @property
    def parent(self) -> StudyName:
        """The study that the trial belongs to."""
        return StudyName(self.project, self.study)

    @classmethod
    def parse(cls, text: str) -> "TrialName":
        """Read the full name of a trial.

        Raises:
            InvalidError: The text is no such name.
        """
        project, study, number = _ids(text, ("projects", "studies", "trials"))
        return cls(project, study, _number(number))

    @classmethod
    def number_within(cls, text: str, study: StudyName) -> int:
        """Read the number of a trial of a study from its full name, or from itself alone.

        Raises:
            InvalidError: The text is neither, or names a trial of another study.
        """
        if "/" not in text:
            return _number(text)
        name = cls.parse(text)
        if name.parent != study:
            raise InvalidError.of("", f"must be a trial of {study}, not {_shown(text)}")
        return name.number


@lru_cache(maxsize=1024)  # Every call names the same few.
def _study_name(text: str, uid: str) -> StudyName:
    project, study = _ids(text, ("projects", "studies"))
    return StudyName(project, study, uid)


def _ids(text: str, collections: tuple[str, ...]) -> list[str]:
    """Split a name into its ids, demanding the collections between them."""
    parts = text.split("/")
    ids = parts[1::2]
    # A number is an id too; its range is checked after.
    are_ids = len(ids) == len(collections) and all(map(_ID.fullmatch, ids))
    if tuple(parts[::2]) != collections or not are_ids:
        pattern = "/".join(f"{each}/{{{_SINGULAR[each]}}}" for each in collections)
        raise InvalidError.of("", f"must look like {pattern}, not {_shown(text)}")
    return ids


_SINGULAR = {"projects": "project", "studies": "study", "trials": "number"}


def _number(text: str) -> int:
    number = 0 if _NUMBER.fullmatch(text) is None else int(text)
    if not 1 <= number <= _MAX_NUMBER:
        raise InvalidError.of("", f"must be the number of a trial, not {_shown(text)}")
    return number


def _shown(text: object) -> str:
    """Quote a text for a message: control characters escaped, cut to a sane length."""
    if not isinstance(text, str):
        return f"of type {type(text).__name__}"
    return ascii(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "...")
