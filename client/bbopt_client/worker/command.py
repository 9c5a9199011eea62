"""Command templates: an argv list with macros, expanded without a shell.

A template is parsed once, before any trial is asked for, so that a typing mistake costs
nothing. Expansion is a single pass: a parameter's value is never looked at again, and each
word stays one word whatever the value contains.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bbopt.errors import InvalidError, Violation
from bbopt.space import ParamValue
from bbopt.trial import Stage

_MACRO = re.compile(r"(?P<escape>\$?)\$\{(?P<name>[^{}:]*)(?::(?P<argument>[^{}]*))?\}")


@dataclass(frozen=True, slots=True)
class Invocation:
    """What the macros of one run of the command stand for."""

    study: str
    trial: int
    attempt: int
    parameters: Mapping[str, ParamValue]
    params_file: Path
    report_file: Path
    result_file: Path
    stage: Stage | None = None
    """``None`` where the study has no fidelity."""
    checkpoint_dir: Path | None = None
    """Of the configuration; ``None`` where the study has no fidelity."""


@dataclass(frozen=True, slots=True)
class Macro:
    """``${name}`` or ``${name:argument}``."""

    name: str
    argument: str | None

    def __str__(self) -> str:
        return f"${{{self.name}{'' if self.argument is None else ':' + self.argument}}}"


Word: TypeAlias = tuple[str | Macro, ...]
"""Literal pieces and macros of one argv element."""


def to_text(value: ParamValue) -> str:
    """Write a value as command lines and environment variables have it.

    Booleans are ``true`` and ``false``, as in JSON; floats round-trip.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def _pairs(prefix: str) -> Callable[[Mapping[str, ParamValue]], list[str]]:
    def expand(parameters: Mapping[str, ParamValue]) -> list[str]:
        return [f"{prefix}{name}={to_text(value)}" for name, value in parameters.items()]

    return expand


def _separate_words(parameters: Mapping[str, ParamValue]) -> list[str]:
    return [
        word for name, value in parameters.items() for word in (f"--{name}", to_text(value))
    ]


def _boolean_flags(parameters: Mapping[str, ParamValue]) -> list[str]:
    return [
        f"--{name}" if value is True else f"--{name}={to_text(value)}"
        for name, value in parameters.items()
        if value is not False
    ]


_LISTS: Mapping[str, Callable[[Mapping[str, ParamValue]], list[str]]] = {
    "args": _pairs("--"),
    "args_no_equals": _separate_words,
    "args_no_hyphens": _pairs(""),
    "args_no_boolean_flags": _boolean_flags,
    "args_append_hydra": _pairs("+"),
    "args_override_hydra": _pairs("++"),
}
"""Macros that become any number of words; each must be a word of its own."""

_TEXTS: Mapping[str, Callable[[Invocation], str]] = {
    "args_json": lambda run: json.dumps(dict(run.parameters)),
    "args_json_file": lambda run: str(run.params_file),
    "attempt": lambda run: str(run.attempt),
    "interpreter": lambda run: sys.executable,  # noqa: ARG005
    "params_file": lambda run: str(run.params_file),
    "report_file": lambda run: str(run.report_file),
    "result_file": lambda run: str(run.result_file),
    "study": lambda run: run.study,
    "trial": lambda run: str(run.trial),
}
"""Macros that become text, alone or inside a word."""

_OF_STAGE: Mapping[str, Callable[[Invocation], str]] = {
    "budget": lambda run: _number(None if run.stage is None else run.stage.fidelity),
    "checkpoint_dir": lambda run: str(run.checkpoint_dir or ""),
    "resume_from": lambda run: _number(None if run.stage is None else run.stage.resume_from),
}
"""Macros that become text, where the study has a fidelity."""

_WITH_ARGUMENT = frozenset({"envvar", "param"})


def _number(number: int | None) -> str:
    return "" if number is None else str(number)


def parse_word(text: str) -> Word:
    """Split a word into literal pieces and macros; ``$${x}`` stands for the text ``${x}``."""
    pieces: list[str | Macro] = []
    end = 0
    for match in _MACRO.finditer(text):
        pieces.append(text[end : match.start()])
        if match["escape"]:
            pieces.append(match[0][1:])
        else:
            pieces.append(Macro(match["name"], match["argument"]))
        end = match.end()
    pieces.append(text[end:])
    return tuple(piece for piece in pieces if piece != "")


def check_macro(
    macro: Macro,
    *,
    names: frozenset[str],
    environment: Mapping[str, str],
    has_fidelity: bool = False,
) -> str | None:
    """Say what is wrong with a macro, or ``None``.

    Args:
        macro: The macro as it was written.
        names: Every parameter of the study.
        environment: The worker's environment, for ``${envvar:X}``.
        has_fidelity: Whether the study has one.
    """
    if macro.name in _OF_STAGE and macro.argument is None:
        return None if has_fidelity else f"{macro}: the study has no fidelity"
    if macro.name in _WITH_ARGUMENT:
        if not macro.argument:
            return f"{macro} needs a name: ${{{macro.name}:NAME}}"
        if macro.name == "param" and macro.argument not in names:
            return f"{macro}: the study has no parameter {macro.argument!r}"
        if macro.name == "envvar" and macro.argument not in environment:
            return f"{macro}: the environment variable {macro.argument} is not set"
        return None
    if macro.argument is not None or macro.name not in {*_TEXTS, *_LISTS}:
        known = ", ".join(sorted({*_TEXTS, *_LISTS, *_OF_STAGE, "envvar:X", "param:NAME"}))
        return f"unknown macro {macro}; known: {known} (write $${{...}} for the text itself)"
    return None


def expand_text(word: Word, run: Invocation, environment: Mapping[str, str]) -> str:
    """Replace the macros of one word that are text.

    An inactive parameter is replaced by nothing.
    """
    return "".join(
        piece if isinstance(piece, str) else _text(piece, run, environment) for piece in word
    )


def _text(macro: Macro, run: Invocation, environment: Mapping[str, str]) -> str:
    match macro.name:
        case "param":
            value = run.parameters.get(macro.argument or "", "")
            return to_text(value)
        case "envvar":
            return environment[macro.argument or ""]
        case name:
            return {**_TEXTS, **_OF_STAGE}[name](run)


@dataclass(frozen=True, slots=True)
class CommandTemplate:
    """A command with macros, checked against a study."""

    words: tuple[Word, ...]
    environment: Mapping[str, str]

    @classmethod
    def parse(
        cls,
        argv: Sequence[str],
        *,
        names: Iterable[str],
        environment: Mapping[str, str],
        has_fidelity: bool = False,
    ) -> "CommandTemplate":
        """Parse an argv list.

        Args:
            argv: The words as they were typed.
            names: Every parameter of the study.
            environment: The worker's environment, for ``${envvar:X}``.
            has_fidelity: Whether the study has one.

        Raises:
            InvalidError: There is no command, or a macro is unknown; all are listed.
        """
        if not argv:
            raise InvalidError.of("command", "is empty; write it after --")
        words = tuple(parse_word(text) for text in argv)
        known = frozenset(names)
        violations = [
            Violation(f"command[{index}]", problem)
            for index, word in enumerate(words)
            for piece in word
            if isinstance(piece, Macro)
            and (problem := _check_in_word(piece, word, known, environment, has_fidelity))
        ]
        if violations:
            raise InvalidError(violations)
        return cls(words, dict(environment))

    def expand(self, run: Invocation) -> list[str]:
        """Fill in one trial: the argv list to execute."""
        argv: list[str] = []
        for word in self.words:
            match word:
                case (Macro(name, None),) if name in _LISTS:
                    argv.extend(_LISTS[name](run.parameters))
                case _:
                    argv.append(expand_text(word, run, self.environment))
        return argv


def _check_in_word(
    macro: Macro,
    word: Word,
    names: frozenset[str],
    environment: Mapping[str, str],
    has_fidelity: bool,
) -> str | None:
    if macro.name in _LISTS and macro.argument is None and len(word) > 1:
        return f"{macro} becomes several words, so it must be a word of its own"
    return check_macro(macro, names=names, environment=environment, has_fidelity=has_fidelity)
