"""Everything that can be wrong with the constraints between parameters."""

from collections.abc import Mapping, Sequence

from bbopt.errors import Violation
from bbopt.space.condition_validation import condition_of, condition_violations
from bbopt.space.constraints import Constraint, Exclude, Linear, Simplex
from bbopt.space.parameters import Float, Int, Ordinal, Parameter
from bbopt.space.validation import Unread
from bbopt.space.values import is_filled, is_known, is_real

MAX_CONSTRAINTS = 1000


def constraint_violations(
    constraints: Sequence[Constraint | Unread], parameters: Mapping[str, Parameter | None]
) -> list[Violation]:
    """List the faults of constraints, each on its own."""
    if len(constraints) > MAX_CONSTRAINTS:
        message = f"at most {MAX_CONSTRAINTS} constraints, got {len(constraints)}"
        return [Violation("constraints", message)]
    violations: list[Violation] = []
    for index, constraint in enumerate(constraints):
        path = f"constraints[{index}]"
        match constraint:
            case Linear():
                violations += _linear_violations(constraint, parameters, path)
            case Simplex():
                violations += _simplex_violations(constraint, parameters, path)
            case Exclude():
                violations += _exclude_violations(constraint, parameters, path)
            case Unread():
                pass
            case _:
                kind = type(constraint).__name__
                violations.append(Violation(path, f"must be a constraint, got {kind}"))
    return violations


def _linear_violations(
    constraint: Linear, parameters: Mapping[str, Parameter | None], path: str
) -> list[Violation]:
    coefficients = constraint.coefficients
    if not is_filled(coefficients):
        return [Violation(f"{path}.coefficients", "must name at least one parameter")]
    violations = []
    for name, coefficient in coefficients.items():
        where = f"{path}.coefficients[{name}]"
        fault = _operand_fault(name, parameters, (Float, Int, Ordinal))
        if fault is not None:
            violations.append(Violation(where, fault))
        if not is_real(coefficient):
            violations.append(Violation(where, f"must be finite, got {coefficient!r}"))
        elif coefficient == 0:
            violations.append(Violation(where, "must not be 0: leave the parameter out"))
    return violations + _bound_violations(constraint.lower, constraint.upper, path)


def _bound_violations(lower: object, upper: object, path: str) -> list[Violation]:
    for field, bound in (("lower", lower), ("upper", upper)):
        if not isinstance(bound, float) or bound != bound:
            return [Violation(f"{path}.{field}", f"must be a number, got {bound!r}")]
    assert isinstance(lower, float)  # noqa: S101 - for the type checker
    assert isinstance(upper, float)  # noqa: S101
    if lower > upper:
        return [Violation(f"{path}.lower", f"lower {lower} is above upper {upper}")]
    if not is_real(lower) and not is_real(upper):
        return [Violation(f"{path}.lower", "needs a finite lower or upper bound")]
    return []


def _simplex_violations(
    constraint: Simplex, parameters: Mapping[str, Parameter | None], path: str
) -> list[Violation]:
    names = constraint.names
    if not is_filled(names, 2):
        return [Violation(f"{path}.names", "must name at least two parameters")]
    violations = []
    for index, name in enumerate(names):
        fault = _operand_fault(name, parameters, (Float, Int))
        parameter = parameters[name] if is_known(name, parameters) else None
        if fault is None and isinstance(parameter, Float | Int) and parameter.low < 0:
            fault = f"{name!r} may be negative: a simplex needs low >= 0"
        if fault is None and name in names[:index]:
            fault = f"{name!r} is there twice"
        if fault is not None:
            violations.append(Violation(f"{path}.names[{index}]", fault))
    total = constraint.total
    if not is_real(total) or total <= 0:
        violations.append(Violation(f"{path}.total", f"must be positive, got {total!r}"))
    return violations


def _exclude_violations(
    constraint: Exclude, parameters: Mapping[str, Parameter | None], path: str
) -> list[Violation]:
    if not is_filled(constraint.all_of):
        return [Violation(f"{path}.all_of", "must have at least one condition")]
    return [
        violation
        for index, condition in enumerate(constraint.all_of)
        for violation in condition_violations(condition, parameters, f"{path}.all_of[{index}]")
    ]


def _operand_fault(
    name: object, parameters: Mapping[str, Parameter | None], kinds: tuple[type, ...]
) -> str | None:
    if not is_known(name, parameters):
        return f"there is no parameter {name!r}"
    parameter = parameters[str(name)]
    if parameter is None:  # Faulty itself, and listed as such.
        return None
    if not isinstance(parameter, kinds):
        allowed = " or ".join(kind.__name__ for kind in kinds)
        return f"{name!r} is {type(parameter).__name__}; only {allowed} can take part"
    if condition_of(parameter) is not None:
        return f"{name!r} is conditional: only parameters that are always active can take part"
    return None
