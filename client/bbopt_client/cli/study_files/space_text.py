"""Parameters in one line: ``lr:float(1e-5, 1e-1, log)``, ``act:categorical(relu, tanh)``.

The form for the command line; a study file may use it as well. Conditions need a study file.
"""

import json
import re
from collections.abc import Callable, Mapping

from bbopt.space import (
    Bool,
    Categorical,
    Fixed,
    Float,
    Int,
    Ordinal,
    Parameter,
    ParamValue,
    Scale,
)
from bbopt_client.cli.words import WordError, read_integer, read_number, read_truth

_CALL = re.compile(r"\s*(?P<kind>[a-z_]+)\s*(?:\((?P<arguments>.*)\))?\s*", re.DOTALL)
_WORD = re.compile(r"\s*(?:(?P<quoted>\"(?:[^\"\\]|\\.)*\")|(?P<plain>[^,\"]*?))\s*(?:,|$)")
_KEY = re.compile(r"\s*(?P<key>default|step|scale)\s*=\s*(?P<value>.*)", re.DOTALL)
_SCALES = frozenset(scale.value for scale in Scale)


class SpaceTextError(ValueError):
    """A parameter's text cannot be read; the message says why."""


def parse_space_option(option: str) -> Parameter:
    """Read ``name:kind(arguments)``.

    Raises:
        SpaceTextError: The text is no parameter.
    """
    name, colon, text = option.partition(":")
    if not colon or not name.strip():
        raise SpaceTextError(
            f"{option!r} is not NAME:TYPE(...), such as lr:float(1e-5,1e-1,log)"
        )
    return parse_parameter_text(name.strip(), text)


def parse_parameter_text(name: str, text: str) -> Parameter:
    """Read ``kind(arguments)`` for a parameter whose name is known.

    Raises:
        SpaceTextError: The text is no parameter.
    """
    call = _CALL.fullmatch(text)
    if call is None or call["kind"] not in _BUILDERS:
        raise SpaceTextError(f"{text!r} is not one of {', '.join(_EXAMPLES)}")
    words, keys = _split(call["arguments"] or "")
    try:
        return _BUILDERS[call["kind"]](name, words, keys)
    except (SpaceTextError, WordError) as error:
        raise SpaceTextError(f"{text!r}: {error}") from error


def _split(text: str) -> tuple[list[str], dict[str, str]]:
    """Cut at commas outside double quotes; ``key=value`` stands apart."""
    words: list[str] = []
    keys: dict[str, str] = {}
    position = 0
    while position < len(text):
        key = _KEY.match(text, position)
        start = key.start("value") if key else position
        match = _WORD.match(text, start)
        if match is None:
            raise SpaceTextError(f"cannot read {text[start:]!r}")
        word = json.loads(match["quoted"]) if match["quoted"] else match["plain"]
        if key:
            keys[key["key"]] = word
        else:
            words.append(word)
        position = match.end()
    return words, keys


def _range(words: list[str], keys: Mapping[str, str]) -> tuple[str, str, Scale]:
    match words:
        case [low, high]:
            scale = keys.get("scale", "linear")
        case [low, high, scale] if "scale" not in keys:
            pass
        case _:
            raise SpaceTextError("needs low, high and perhaps a scale")
    if scale not in _SCALES:
        raise SpaceTextError(f"{scale!r} is not a scale: {', '.join(sorted(_SCALES))}")
    return low, high, Scale(scale)


def _float(name: str, words: list[str], keys: Mapping[str, str]) -> Parameter:
    low, high, scale = _range(words, keys)
    step, default = keys.get("step"), keys.get("default")
    return Float(
        name,
        read_number(low),
        read_number(high),
        scale=scale,
        step=None if step is None else read_number(step),
        default=None if default is None else read_number(default),
    )


def _int(name: str, words: list[str], keys: Mapping[str, str]) -> Parameter:
    low, high, scale = _range(words, keys)
    default = keys.get("default")
    return Int(
        name,
        read_integer(low),
        read_integer(high),
        scale=scale,
        step=read_integer(keys.get("step", "1")),
        default=None if default is None else read_integer(default),
    )


def _allow(keys: Mapping[str, str], *allowed: str) -> None:
    for key in keys:
        if key not in allowed:
            raise SpaceTextError(f"{key} has no meaning here")


def _ordinal(name: str, words: list[str], keys: Mapping[str, str]) -> Parameter:
    _allow(keys, "default")
    default = keys.get("default")
    return Ordinal(
        name,
        tuple(read_number(word) for word in words),
        default=None if default is None else read_number(default),
    )


def _categorical(name: str, words: list[str], keys: Mapping[str, str]) -> Parameter:
    _allow(keys, "default")
    return Categorical(name, tuple(words), default=keys.get("default"))


def _bool(name: str, words: list[str], keys: Mapping[str, str]) -> Parameter:
    _allow(keys, "default")
    if words:
        raise SpaceTextError("takes no values")
    default = keys.get("default")
    return Bool(name, default=None if default is None else read_truth(default))


def _fixed(name: str, words: list[str], keys: Mapping[str, str]) -> Parameter:
    _allow(keys)
    if len(words) != 1:
        raise SpaceTextError("needs one value")
    return Fixed(name, _guess(words[0]))


def _guess(text: str) -> ParamValue:
    for read in (read_truth, read_integer, read_number):
        try:
            return read(text)
        except WordError:
            continue
    return text


_BUILDERS: Mapping[str, Callable[[str, list[str], Mapping[str, str]], Parameter]] = {
    "float": _float,
    "int": _int,
    "ordinal": _ordinal,
    "categorical": _categorical,
    "bool": _bool,
    "fixed": _fixed,
}
_EXAMPLES = (
    "float(low,high[,log][,step=..])",
    "int(low,high[,log][,step=..])",
    "ordinal(1,2,4)",
    "categorical(a,b)",
    "bool",
    "fixed(value)",
)
