"""The search space: parameters, their conditions and the constraints between them."""

from collections.abc import Mapping
from dataclasses import dataclass

from bbopt.errors import Violation
from bbopt.space.conditions import ParamValue
from bbopt.space.constraints import Constraint
from bbopt.space.parameters import Parameter


@dataclass(frozen=True, slots=True)
class Space:
    """What may vary. Building one checks everything and reports every fault at once.

    Raises:
        SpecError: Anything is wrong with a parameter, a condition or a constraint.
    """

    parameters: tuple[Parameter, ...]
    constraints: tuple[Constraint, ...] = ()

    def check(self, values: Mapping[str, ParamValue]) -> list[Violation]:
        """List what is wrong with a point in user units: names, types, ranges, activity,
        constraints. An empty list means the point may be evaluated.
        """
        raise NotImplementedError
