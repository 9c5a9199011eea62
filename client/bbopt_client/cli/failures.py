"""Exit codes, and errors as one message on standard error."""

import enum
import json
import os
import sys
import traceback
from collections.abc import Sequence

from bbopt.errors import (
    BboptError,
    DeadlineError,
    EmptyFeasibleSetError,
    InvalidError,
    NotFoundError,
    SpecError,
    StudyNotActiveError,
    UnavailableError,
    UnsupportedError,
)


class ExitCode(enum.IntEnum):
    """What ``bbopt`` exits with; scripts may rely on these."""

    OK = 0
    ERROR = 1
    USAGE = 2
    UNREACHABLE = 3
    """No server there, or it does not answer."""
    AUTH = 4
    """Reserved: the server refuses who asks."""
    NOT_FOUND = 5
    NO_MORE_TRIALS = 6
    """``ask``: the study is finished."""
    GAVE_UP = 7
    """``run``: the program kept failing."""
    INVALID_STUDY = 8
    INTERRUPTED = 130


class CommandError(Exception):
    """Ends a command with a message and an exit code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.ERROR) -> None:
        """Say what is wrong.

        Args:
            message: For standard error.
            code: What to exit with.
        """
        self.code = code
        super().__init__(message)


def exit_code_of(error: Exception) -> ExitCode:
    """Say which exit code an error means."""
    match error:
        case CommandError():
            return error.code
        case UnavailableError() | DeadlineError():
            return ExitCode.UNREACHABLE
        case NotFoundError():
            return ExitCode.NOT_FOUND
        case StudyNotActiveError():
            return ExitCode.NO_MORE_TRIALS
        case SpecError() | UnsupportedError() | EmptyFeasibleSetError():
            return ExitCode.INVALID_STUDY
        case InvalidError():
            return ExitCode.USAGE
        case _ if hasattr(error, "format_message"):  # A usage error of the option parser.
            return ExitCode.USAGE
        case _:
            return ExitCode.ERROR


def report_failure(error: Exception, *, as_json: bool) -> ExitCode:
    """Write an error to standard error.

    Args:
        error: Anything that ended a command.
        as_json: As ``{"code", "message", "details"}`` instead of text.

    Returns:
        What to exit with.
    """
    code = exit_code_of(error)
    message, details = _message(error), _details(error)
    if as_json:
        body = {"code": _name(error, code), "message": message, "details": details}
        print(json.dumps(body, ensure_ascii=False), file=sys.stderr)
    elif isinstance(error, SpecError) and len(details) > 1:
        lines = "".join(f"  {each['field']}: {each['message']}\n" for each in details)
        print(f"error: {message}\n{lines}", end="", file=sys.stderr)
    else:
        print(f"error: {message}", file=sys.stderr)
    if not _is_expected(error):
        if os.environ.get("BBOPT_DEBUG"):
            traceback.print_exception(error)
        else:
            print("set BBOPT_DEBUG=1 to see where it comes from", file=sys.stderr)
    return code


def wants_json(arguments: Sequence[str]) -> bool:
    """Say whether a command line asks for JSON, even one that cannot be parsed."""
    own = list(arguments)
    if "--" in own:
        own = own[: own.index("--")]
    joined = " ".join(own)
    return any(
        f"{flag}{form}" in joined
        for flag in ("-o ", "-o", "--output ", "--output=")
        for form in ("json",)
    )


def _is_expected(error: Exception) -> bool:
    return isinstance(error, BboptError | CommandError) or hasattr(error, "format_message")


def _message(error: Exception) -> str:
    if hasattr(error, "format_message"):
        command = getattr(getattr(error, "ctx", None), "command_path", "bbopt")
        text = error.format_message().replace("Value error, ", "")
        return f"{text} (see {command} --help)"
    if isinstance(error, SpecError) and len(error.violations) > 1:
        return f"{len(error.violations)} faults"
    return str(error) if _is_expected(error) else f"unexpected {type(error).__name__}: {error}"


def _details(error: Exception) -> list[dict[str, str]]:
    if not isinstance(error, InvalidError):
        return []
    return [{"field": each.field, "message": each.message} for each in error.violations]


def _name(error: Exception, code: ExitCode) -> str:
    return error.reason if isinstance(error, BboptError) else code.name
