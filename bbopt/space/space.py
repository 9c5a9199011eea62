"""The search space: parameters, their conditions and the constraints between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bbopt.errors import SpecError, Violation
from bbopt.space.condition_validation import (
    activation_order,
    condition_of,
    condition_violations,
    dependency_violations,
)
from bbopt.space.conditions import ParamValue, holds, parents
from bbopt.space.constraint_validation import constraint_violations
from bbopt.space.constraints import Constraint, Exclude, Linear, Simplex, as_linear
from bbopt.space.feasibility import linear_fault
from bbopt.space.parameters import Fixed, Parameter, as_tuple
from bbopt.space.validation import Unread, parameter_violations, path_of
from bbopt.space.values import canonical_value, value_fault


@dataclass(frozen=True, slots=True)
class Space:
    """What may vary. Building one checks everything and reports every fault at once.

    Raises:
        SpecError: Anything is wrong with a parameter, a condition or a constraint.
    """

    parameters: tuple[Parameter, ...]
    constraints: tuple[Constraint, ...] = ()
    _by_name: Mapping[str, Parameter] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _order: tuple[str, ...] = field(init=False, repr=False, compare=False, default=())
    """Names, parents first."""
    _parents: frozenset[str] = field(init=False, repr=False, compare=False, default=frozenset())
    """Names that conditions look at."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", as_tuple(self.parameters))
        object.__setattr__(self, "constraints", as_tuple(self.constraints))
        violations = self._violations()
        if violations:
            raise SpecError(violations)
        by_name = {parameter.name: parameter for parameter in self.parameters}
        object.__setattr__(self, "_by_name", by_name)
        object.__setattr__(self, "_order", tuple(activation_order(self.parameters)[0]))
        conditions = [c for p in self.parameters if (c := condition_of(p)) is not None]
        above = frozenset(name for condition in conditions for name in parents(condition))
        object.__setattr__(self, "_parents", above)
        faults = self._default_violations()
        if faults:
            raise SpecError(faults)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all parameters, in order."""
        return tuple(self._by_name)

    @property
    def activation_order(self) -> tuple[str, ...]:
        """The names of all parameters, parents before those that depend on them."""
        return self._order

    def parameter(self, name: str) -> Parameter:
        """Return the parameter of that name.

        Raises:
            KeyError: There is none.
        """
        return self._by_name[name]

    def active_names(self, values: Mapping[str, ParamValue]) -> frozenset[str]:
        """Name the parameters that are active at a point.

        Args:
            values: The point in user units; a parent that is missing counts as inactive.
        """
        if not self._parents:
            return frozenset(self._order)
        active: dict[str, ParamValue] = {}
        names = set()
        for name in self._order:
            parameter = self._by_name[name]
            condition = condition_of(parameter)
            if condition is not None and not holds(condition, active):
                continue
            names.add(name)
            if isinstance(parameter, Fixed):
                active[name] = parameter.value
            elif name in self._parents and name in values:
                active[name] = canonical_value(parameter, values[name])
        return frozenset(names)

    def check(self, values: Mapping[str, ParamValue]) -> list[Violation]:
        """List what is wrong with a point in user units: names, types, ranges, activity,
        constraints. An empty list means the point may be evaluated.
        """
        if not isinstance(values, Mapping):
            kind = type(values).__name__
            return [Violation("parameters", f"must be values by name, not of type {kind}")]
        active = self.active_names(values)
        violations = [
            Violation(f"parameters[{name}]", "there is no such parameter")
            for name in values
            if name not in self._by_name
        ]
        for name, parameter in self._by_name.items():
            path = f"parameters[{name}]"
            if name not in values:
                if name in active and not isinstance(parameter, Fixed):
                    violations.append(Violation(path, "is missing"))
                continue
            fault = value_fault(parameter, values[name])
            if name not in active:
                fault = "is not active at this point: leave it out"
            if fault is not None:
                violations.append(Violation(path, fault))
        # What a constraint says about wrong values would only repeat them.
        return violations or self.check_constraints(values)

    def check_constraints(self, values: Mapping[str, ParamValue]) -> list[Violation]:
        """List the constraints that a point violates, given values that fit by themselves."""
        point = self.canonical(values)
        violations = []
        for index, constraint in enumerate(self.constraints):
            match constraint:
                case Linear() | Simplex():
                    fault = linear_fault(as_linear(constraint), self._by_name, point)
                case Exclude(all_of=conditions):
                    excluded = all(holds(condition, point) for condition in conditions)
                    fault = "this combination is excluded" if excluded else None
            if fault is not None:
                violations.append(Violation(f"constraints[{index}]", fault))
        return violations

    def canonical(self, values: Mapping[str, ParamValue]) -> dict[str, ParamValue]:
        """Write a point in its normal form, in the order of the parameters.

        Real parameters become ``float``, stepped ones the exact grid value, and every
        ``Fixed`` parameter is there. Values that do not fit stay as they are (``check``
        finds them).
        """
        point = {
            name: canonical_value(parameter, values[name])
            if name in values
            else getattr(parameter, "value", None)
            for name, parameter in self._by_name.items()
            if name in values or isinstance(parameter, Fixed)
        }
        point.update({name: values[name] for name in values if name not in self._by_name})
        return {name: value for name, value in point.items() if value is not None}

    def default_point(self) -> dict[str, ParamValue] | None:
        """Return the point of all defaults, or ``None`` unless every active one is given."""
        defaults: dict[str, ParamValue] = {
            parameter.name: parameter.default
            for parameter in self.parameters
            if not isinstance(parameter, Fixed) and parameter.default is not None
        }
        active = self.active_names(defaults)
        point = self.canonical({name: defaults[name] for name in defaults if name in active})
        return point if active <= point.keys() else None

    def _violations(self) -> list[Violation]:
        if not isinstance(self.parameters, tuple):
            return [Violation("parameters", "must be a list of parameters")]
        if not isinstance(self.constraints, tuple):
            return [Violation("constraints", "must be a list of constraints")]
        return space_violations(self.parameters, self.constraints)

    def _default_violations(self) -> list[Violation]:
        point = self.default_point()
        if point is None:
            return []
        return [
            Violation(violation.field, f"the defaults violate it: {violation.message}")
            for violation in self.check_constraints(point)
        ]


def space_violations(
    parameters: Sequence[Parameter | Unread], constraints: Sequence[Constraint | Unread]
) -> list[Violation]:
    """List every fault of parameters, conditions and constraints; fields as in Python."""
    violations, by_name = parameter_violations(parameters)
    faults = []
    for index, parameter in enumerate(parameters):
        condition = getattr(parameter, "active_if", None)
        if condition is not None:
            path = f"{path_of(index, parameter)}.active_if"
            faults += condition_violations(condition, by_name, path)
    read = [each for each in parameters if not isinstance(each, Unread)]
    if not violations and not faults and len(read) == len(parameters):
        faults = dependency_violations(read)
    return violations + faults + constraint_violations(constraints, by_name)
