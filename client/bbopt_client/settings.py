"""What a client may be told about patience, identity and where it spools results."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from bbopt.errors import InvalidError, Violation

DEFAULT_ADDRESS = "127.0.0.1:50151"
"""Where ``bbopt serve`` listens unless it is told otherwise."""

ADDRESS_VARIABLE = "BBOPT_SERVER"
"""Environment variable with the address of the server."""


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How long a client tries, and how often.

    Raises:
        InvalidError: A duration is not positive; every one that is not is listed.
    """

    deadline_s: float = 60.0
    """All attempts of one short call together."""
    tell_deadline_s: float = 600.0
    """All attempts of one tell together: a result outlives a restart of the server."""
    attempt_timeout_s: float = 30.0
    """One attempt of a short call."""
    ask_timeout_s: float = 60.0
    """One attempt of an ask: the wait for a trial and the time to compute it."""
    first_contact_s: float = 10.0
    """All attempts while this client has never reached the server: a wrong address shows
    soon, a server that was there before is waited for.
    """
    initial_backoff_s: float = 0.1
    """Upper end of the first random pause between attempts; doubles from pause to pause."""
    max_backoff_s: float = 5.0
    """Largest upper end of a pause."""
    close_timeout_s: float = 5.0
    """How long ``close`` waits for results that are still on their way."""

    def __post_init__(self) -> None:
        wrong = [
            Violation(f"options.{name}", f"must be positive, not {getattr(self, name)}")
            for name in self.__slots__
            if not getattr(self, name) > 0
        ]
        if wrong:
            raise InvalidError(wrong)


def address_from_environment() -> str:
    """Return the server's address that the environment names, or the default one."""
    return os.environ.get(ADDRESS_VARIABLE, "").strip() or DEFAULT_ADDRESS


def new_worker_id() -> str:
    """Name this process as a holder of trials: host, process and a random part."""
    return f"{socket.gethostname()[:40]}-{os.getpid()}-{uuid4().hex[:6]}"


def outbox_folder() -> Path:
    """Say where results are spooled before they are sent, unless a client is told."""
    from platformdirs import user_state_dir

    return Path(user_state_dir("bbopt", appauthor=False)) / "outbox"
