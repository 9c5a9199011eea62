"""Parameters and spaces <-> messages."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar, assert_never

from bbopt.errors import InvalidError, SpecError
from bbopt.rpc.constraints import (
    condition_from_message,
    condition_to_message,
    constraint_from_message,
    constraint_to_message,
)
from bbopt.rpc.enums import known
from bbopt.rpc.paths import on_wire
from bbopt.rpc.points import int64, param_value_from_message, param_value_to_message
from bbopt.rpc.v1 import study_pb2
from bbopt.rpc.violations import Violations, prefixed
from bbopt.space import (
    Bool,
    Categorical,
    Condition,
    Fixed,
    Float,
    Int,
    Ordinal,
    Parameter,
    Scale,
    Space,
)
from bbopt.space.space import space_violations
from bbopt.space.validation import Unread

M = TypeVar("M")
N = TypeVar("N")
T = TypeVar("T")

_SCALE_TO_MESSAGE = {
    Scale.LINEAR: study_pb2.SCALE_LINEAR,
    Scale.LOG: study_pb2.SCALE_LOG,
    Scale.REVERSE_LOG: study_pb2.SCALE_REVERSE_LOG,
    Scale.LOGIT: study_pb2.SCALE_LOGIT,
}
_SCALE_FROM_MESSAGE = {number: scale for scale, number in _SCALE_TO_MESSAGE.items()} | {
    study_pb2.SCALE_UNSPECIFIED: Scale.LINEAR
}
_DECISION = (
    study_pb2.ParameterSpec.ROLE_UNSPECIFIED,
    study_pb2.ParameterSpec.ROLE_DECISION,
)


def parameter_to_message(parameter: Parameter) -> study_pb2.ParameterSpec:
    """Write a parameter."""
    message = study_pb2.ParameterSpec(
        id=parameter.name, role=study_pb2.ParameterSpec.ROLE_DECISION
    )
    match parameter:
        case Float(low=low, high=high, scale=scale, step=step, periodic=periodic):
            message.double_domain.min = low
            message.double_domain.max = high
            message.double_domain.scale = _SCALE_TO_MESSAGE[scale]
            message.double_domain.step = step or 0.0
            message.double_domain.periodic = periodic
        case Int(low=low, high=high, scale=scale, step=step):
            message.integer_domain.min = int64(low)
            message.integer_domain.max = int64(high)
            message.integer_domain.scale = _SCALE_TO_MESSAGE[scale]
            message.integer_domain.step = int64(step)
        case Ordinal(values=values):
            message.ordinal_domain.values.extend(values)
        case Categorical(choices=choices):
            message.categorical_domain.values.extend(choices)
        case Bool():
            message.bool_domain.SetInParent()
        case Fixed(value=value):
            message.fixed_domain.value.CopyFrom(param_value_to_message(value))
            return message
        case _:
            assert_never(parameter)
    if parameter.active_if is not None:
        message.active_if.CopyFrom(condition_to_message(parameter.active_if))
    if parameter.default is not None:
        message.default_value.CopyFrom(param_value_to_message(parameter.default))
    return message


def parameter_from_message(message: study_pb2.ParameterSpec) -> Parameter:
    """Read a parameter.

    Raises:
        SpecError: A part is missing, of the wrong type or not supported, or the values
            together make no parameter.
    """
    violations = Violations(SpecError)
    violations.require(message.id, "id", "must not be empty")
    if message.role not in _DECISION:
        violations.add("role", f"must be ROLE_DECISION; {message.role} is not supported")
    active_if: Condition | None = None
    if message.HasField("active_if"):
        with violations.within("active_if"):
            active_if = condition_from_message(message.active_if)
    with violations.within(""):
        parameter = _domain_from_message(message, active_if)
    violations.check()
    return parameter


def _domain_from_message(
    message: study_pb2.ParameterSpec, active_if: Condition | None
) -> Parameter:
    match message.WhichOneof("domain"):
        case "double_domain":
            return _float_from_message(message, active_if)
        case "integer_domain":
            return _int_from_message(message, active_if)
        case "ordinal_domain":
            default = _default(message, (int, float), "a number")
            return Ordinal(
                message.id,
                tuple(message.ordinal_domain.values),
                active_if=active_if,
                default=None if default is None else float(default),
            )
        case "categorical_domain":
            return Categorical(
                message.id,
                tuple(message.categorical_domain.values),
                active_if=active_if,
                default=_default(message, (str,), "a string"),
            )
        case "bool_domain":
            return Bool(
                message.id, active_if=active_if, default=_default(message, (bool,), "a bool")
            )
        case "fixed_domain":
            return _fixed_from_message(message)
        case None:
            raise SpecError.of("domain", "must be set")


def _float_from_message(message: study_pb2.ParameterSpec, active_if: Condition | None) -> Float:
    violations, domain = Violations(SpecError), message.double_domain
    with violations.within("double_domain.scale"):
        scale = known(domain.scale, _SCALE_FROM_MESSAGE)
    with violations.within(""):
        default = _default(message, (int, float), "a number")
    violations.check()
    return Float(
        message.id,
        domain.min,
        domain.max,
        scale=scale,
        step=domain.step or None,
        periodic=domain.periodic,
        active_if=active_if,
        default=None if default is None else float(default),
    )


def _int_from_message(message: study_pb2.ParameterSpec, active_if: Condition | None) -> Int:
    violations, domain = Violations(SpecError), message.integer_domain
    with violations.within("integer_domain.scale"):
        scale = known(domain.scale, _SCALE_FROM_MESSAGE)
    with violations.within(""):
        default = _default(message, (int,), "an integer")
    violations.check()
    return Int(
        message.id,
        domain.min,
        domain.max,
        scale=scale,
        step=domain.step or 1,
        active_if=active_if,
        default=default,
    )


def _fixed_from_message(message: study_pb2.ParameterSpec) -> Fixed:
    violations = Violations(SpecError)
    for field in ("active_if", "default_value"):
        if message.HasField(field):
            violations.add(field, "must be unset for a fixed parameter")
    with violations.within("fixed_domain.value"):
        value = param_value_from_message(message.fixed_domain.value)
    violations.check()
    return Fixed(message.id, value)


def _default(
    message: study_pb2.ParameterSpec, kinds: tuple[type[N], ...], described: str
) -> N | None:
    """Read the default, which must be of one of the types; a bool is no number."""
    if not message.HasField("default_value"):
        return None
    try:
        value = param_value_from_message(message.default_value)
    except InvalidError as error:
        raise SpecError(prefixed(error, "default_value")) from error
    if isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds):
        return value
    raise SpecError.of("default_value", f"must be {described}, not {value!r}")


def space_to_message(
    space: Space,
) -> tuple[list[study_pb2.ParameterSpec], list[study_pb2.ParameterConstraint]]:
    """Write the parameters and the constraints of a space, which a ``StudySpec`` holds flat."""
    return (
        [parameter_to_message(each) for each in space.parameters],
        [constraint_to_message(each) for each in space.constraints],
    )


def space_from_message(
    parameters: Sequence[study_pb2.ParameterSpec],
    constraints: Sequence[study_pb2.ParameterConstraint],
) -> Space:
    """Read a space.

    Raises:
        SpecError: Everything that is wrong with the messages, and with the space that those
            describe which could be read; fields are those of a ``StudySpec``.
    """
    violations = Violations(SpecError)
    read = read_each(violations, "parameters", parameter_from_message, parameters)
    bounds = read_each(
        violations, "parameter_constraints", constraint_from_message, constraints
    )
    try:
        if violations:
            raise SpecError(space_violations(read, bounds))
        return Space(tuple(read), tuple(bounds))  # type: ignore[arg-type]  # None is Unread.
    except SpecError as error:
        message = study_pb2.StudySpec(parameters=parameters, parameter_constraints=constraints)
        violations.extend(on_wire(message, error.violations))
    raise violations.as_error()


def read_each(
    violations: Violations, field: str, convert: Callable[[M], T], items: Iterable[M]
) -> list[T | Unread]:
    """Convert the items of a list, noting what is wrong; those that fail are ``Unread``."""
    read: list[T | Unread] = []
    for position, item in enumerate(items):
        part: T | Unread = Unread(getattr(item, "id", ""))
        with violations.within(f"{field}[{position}]"):
            part = convert(item)
        read.append(part)
    return read
