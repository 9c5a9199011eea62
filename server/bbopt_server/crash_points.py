"""Named points at which a test can have a process die as if it were killed.

``BBOPT_CRASH_AT=<name>`` arms one of ``POINTS`` in the server and in the compute processes it
starts: whoever gets there first leaves at once with status 137, without cleaning up. Unset,
``reach`` does nothing.
"""

import os
from collections.abc import Callable, Mapping

from bbopt.errors import InvalidError

VARIABLE = "BBOPT_CRASH_AT"
EXIT_CRASHED = 137
"""What a shell says of a process that was killed with SIGKILL."""

POINTS = (
    "open.before_migrating",
    "migration.before_commit",
    "migration.after_commit",
    "rpc.decoded",
    "rpc.before_reply",
    "store.after_begin",
    "store.after_work",
    "store.before_commit",
    "store.after_commit",
    "store.before_checkpoint",
    "store.after_checkpoint",
    "commit.before_effects",
    "commit.after_effects",
    "ledger.after_event",
    "ledger.before_save",
    "study.changed",
    "answer.before_storing",
    "answer.stored",
    "tell.before_row",
    "tell_and_ask.between",
    "ask.assessed",
    "ask.suggested",
    "ask.before_row",
    "ask.before_delivering",
    "sweep.before_commit",
    "sweep.expired",
    "sweep.after_commit",
    "compute.loaded",
    "compute.before_fold",
    "compute.after_fold",
    "compute.suggested",
    "compute.before_reply",
)


def check_variable(environment: Mapping[str, str]) -> None:
    """Refuse a point that does not exist: a test that arms it would test nothing.

    Raises:
        InvalidError: Naming those that do.
    """
    name = environment.get(VARIABLE)
    if name and name not in POINTS:
        raise InvalidError.of(VARIABLE, f"must be one of {', '.join(POINTS)}, not {name!r}")


def _crash_at(armed: str) -> Callable[[str], None]:
    def reach_armed(point: str) -> None:
        if point == armed:
            os._exit(EXIT_CRASHED)

    return reach_armed


def _pass(_: str, /) -> None:
    """Go on."""


_armed = os.environ.get(VARIABLE)
reach: Callable[[str], None] = _crash_at(_armed) if _armed else _pass
"""Die here if this point is armed."""
