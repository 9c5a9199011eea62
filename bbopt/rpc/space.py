"""Values, parameters, conditions and constraints <-> messages.

A value's type travels with it: an ``int`` is an ``int_value``, a ``bool`` a ``bool_value``.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar, assert_never

from bbopt.errors import InvalidError, SpecError
from bbopt.rpc.enums import known
from bbopt.rpc.paths import on_point, on_wire
from bbopt.rpc.v1 import study_pb2
from bbopt.rpc.violations import Violations, prefixed, within
from bbopt.space import (
    AllOf,
    Between,
    Bool,
    Categorical,
    Condition,
    Constraint,
    Equals,
    Exclude,
    Fixed,
    Float,
    Int,
    Linear,
    Ordinal,
    Parameter,
    ParamValue,
    Scale,
    Simplex,
    Space,
)
from bbopt.space.parameters import plain
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
_INT64 = range(-(2**63), 2**63)


# Values ------------------------------------------------------------------------------------


def param_value_to_message(value: ParamValue) -> study_pb2.ParamValue:
    """Write a value in user units; a NumPy scalar goes as what it stands for.

    Raises:
        InvalidError: It is no ``bool``, ``int``, ``float`` or ``str``, an integer does not
            fit 64 bits, or a text is not valid Unicode.
    """
    message = study_pb2.ParamValue()
    _write_param_value(message, value)
    return message


def _write_param_value(message: study_pb2.ParamValue, value: ParamValue) -> None:
    value = plain(value)
    match value:
        case float():
            message.double_value = value
        case bool():
            message.bool_value = value
        case int():
            message.int_value = _int64(value)
        case str():
            try:
                message.string_value = value
            except UnicodeEncodeError as error:
                raise InvalidError.of("", "must be text without lone surrogates") from error
        case _:
            kind = type(value).__name__
            raise InvalidError.of("", f"must be a bool, int, float or str, not {kind}")


def param_value_from_message(message: study_pb2.ParamValue) -> ParamValue:
    """Read a value as the type that it was sent as.

    Raises:
        InvalidError: The value is empty.
    """
    match message.WhichOneof("kind"):
        case "double_value":
            return message.double_value
        case "int_value":
            return message.int_value
        case "string_value":
            return message.string_value
        case "bool_value":
            return message.bool_value
        case None:
            raise InvalidError.of("", "must have a value")


def parameters_to_message(
    parameters: Mapping[str, ParamValue],
) -> dict[str, study_pb2.ParamValue]:
    """Write a point in user units as the entries of a ``map<string, ParamValue>``.

    Raises:
        InvalidError: Some values cannot be written; fields are ``[name]``.
    """
    messages = {name: study_pb2.ParamValue() for name in parameters}
    write_parameters(messages, parameters)
    return messages


def write_parameters(
    messages: Mapping[str, study_pb2.ParamValue], parameters: Mapping[str, ParamValue]
) -> None:
    """Write a point in user units into a ``map<string, ParamValue>``, which makes its entries
    when they are looked up: half the time of making them apart and copying them in.

    Raises:
        InvalidError: Some values cannot be written; fields are ``[name]``.
    """
    violations = Violations()
    for name, value in parameters.items():
        try:  # ``within`` would take more time than all the rest.
            _write_param_value(messages[name], value)
        except InvalidError as error:
            violations.extend(prefixed(error, f"[{name}]"))
    violations.check()


def parameters_from_message(
    messages: Mapping[str, study_pb2.ParamValue],
) -> dict[str, ParamValue]:
    """Read a point in user units, each value as the type that it was sent as.

    Names are interned: the points of a study share them, which is a third of their memory.

    Raises:
        InvalidError: Some values are empty; fields are ``[name]``.
    """
    violations = Violations()
    parameters = {}
    for name in sorted(messages):  # A map has no order of its own.
        try:
            parameters[sys.intern(name)] = param_value_from_message(messages[name])
        except InvalidError as error:
            violations.extend(prefixed(error, f"[{name}]"))
    violations.check()
    return parameters


def point_from_message(
    messages: Mapping[str, study_pb2.ParamValue], space: Space
) -> dict[str, ParamValue]:
    """Read a point of a space, in its normal form: whole numbers that were sent for real
    parameters are floats, fixed parameters are there.

    Raises:
        InvalidError: Some values are empty, or the space refuses the point; fields are
            ``parameters[name]``, or ``parameters`` where they violate a constraint.
    """
    with within("parameters"):
        parameters = parameters_from_message(messages)
    if found := space.check(parameters):
        raise InvalidError(on_point(found))
    return space.canonical(parameters)


# Conditions --------------------------------------------------------------------------------


def condition_to_message(condition: Condition) -> study_pb2.Condition:
    """Write a condition."""
    match condition:
        case Equals(parent, values):
            return study_pb2.Condition(
                equals=study_pb2.Condition.Equals(
                    parent=parent, values=[param_value_to_message(each) for each in values]
                )
            )
        case Between(parent, low, high):
            return study_pb2.Condition(
                between=study_pb2.Condition.Between(parent=parent, low=low, high=high)
            )
        case AllOf(conditions):
            return study_pb2.Condition(
                all_of=study_pb2.Condition.AllOf(
                    conditions=[condition_to_message(child) for child in conditions]
                )
            )
        case _:
            assert_never(condition)


def condition_from_message(message: study_pb2.Condition) -> Condition:
    """Read a condition.

    Raises:
        SpecError: A part is missing.
    """
    violations = Violations(SpecError)
    match message.WhichOneof("kind"):
        case "equals":
            equals = message.equals
            _require(violations, equals.parent, "equals.parent", "must name a parameter")
            _require(violations, equals.values, "equals.values", "must have a value")
            values = violations.each("equals.values", param_value_from_message, equals.values)
            violations.check()
            return Equals(equals.parent, values)
        case "between":
            between = message.between
            _require(violations, between.parent, "between.parent", "must name a parameter")
            violations.check()
            return Between(between.parent, between.low, between.high)
        case "all_of":
            children = message.all_of.conditions
            _require(violations, children, "all_of.conditions", "must have a condition")
            parts = violations.each("all_of.conditions", condition_from_message, children)
            violations.check()
            return AllOf(parts)
        case None:
            raise SpecError.of("", "must be one of equals, between, all_of")


# Constraints -------------------------------------------------------------------------------


def constraint_to_message(constraint: Constraint) -> study_pb2.ParameterConstraint:
    """Write a constraint between parameters; an infinite bound is left out."""
    match constraint:
        case Linear(coefficients, lower, upper):
            linear = study_pb2.ParameterConstraint.Linear(coefficients=coefficients)
            if lower != float("-inf"):
                linear.lower = lower
            if upper != float("inf"):
                linear.upper = upper
            return study_pb2.ParameterConstraint(linear=linear)
        case Simplex(names, total):
            return study_pb2.ParameterConstraint(
                simplex=study_pb2.ParameterConstraint.Simplex(ids=names, total=total)
            )
        case Exclude(all_of):
            return study_pb2.ParameterConstraint(
                exclude=study_pb2.ParameterConstraint.Exclude(
                    all_of=[condition_to_message(each) for each in all_of]
                )
            )
        case _:
            assert_never(constraint)


def constraint_from_message(message: study_pb2.ParameterConstraint) -> Constraint:
    """Read a constraint between parameters.

    Raises:
        SpecError: A part is missing.
    """
    violations = Violations(SpecError)
    match message.WhichOneof("kind"):
        case "linear":
            linear = message.linear
            _require(
                violations, linear.coefficients, "linear.coefficients", "must not be empty"
            )
            violations.check()
            return Linear(
                {name: linear.coefficients[name] for name in sorted(linear.coefficients)},
                linear.lower if linear.HasField("lower") else float("-inf"),
                linear.upper if linear.HasField("upper") else float("inf"),
            )
        case "simplex":
            simplex = message.simplex
            _require(violations, simplex.ids, "simplex.ids", "must name parameters")
            violations.check()
            return Simplex(tuple(simplex.ids), simplex.total)
        case "exclude":
            all_of = message.exclude.all_of
            _require(violations, all_of, "exclude.all_of", "must have a condition")
            conditions = violations.each("exclude.all_of", condition_from_message, all_of)
            violations.check()
            return Exclude(conditions)
        case None:
            raise SpecError.of("", "must be one of linear, simplex, exclude")


# Parameters --------------------------------------------------------------------------------


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
            message.integer_domain.min = _int64(low)
            message.integer_domain.max = _int64(high)
            message.integer_domain.scale = _SCALE_TO_MESSAGE[scale]
            message.integer_domain.step = _int64(step)
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
    _require(violations, message.id, "id", "must not be empty")
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


# The space ---------------------------------------------------------------------------------


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


# Small checks ------------------------------------------------------------------------------


def _require(violations: Violations, given: object, field: str, message: str) -> None:
    if not given:
        violations.add(field, message)


def _int64(value: int) -> int:
    if value not in _INT64:
        raise InvalidError.of("", f"must fit 64 bits, not {value}")
    return value


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
