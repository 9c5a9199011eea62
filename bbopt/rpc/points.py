"""Values and points in user units <-> messages.

A value's type travels with it: an ``int`` is an ``int_value``, a ``bool`` a ``bool_value``.
"""

import sys
from collections.abc import Mapping

from bbopt.errors import InvalidError
from bbopt.rpc.paths import on_point
from bbopt.rpc.v1 import study_pb2
from bbopt.rpc.violations import Violations, prefixed, within
from bbopt.space import ParamValue, Space
from bbopt.space.parameters import plain

_INT64 = range(-(2**63), 2**63)


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
            message.int_value = int64(value)
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


def int64(value: int) -> int:
    """Return an integer that the wire can hold.

    Raises:
        InvalidError: It does not fit 64 bits.
    """
    if value not in _INT64:
        raise InvalidError.of("", f"must fit 64 bits, not {value}")
    return value
