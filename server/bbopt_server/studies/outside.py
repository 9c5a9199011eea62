"""What the rules take from outside, so that tests can supply it: clocks and randomness."""

import secrets
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bbopt_server.studies.records import SpecCache
from bbopt_server.studies.stopping import RungCache

_TOKEN_BYTES, _TOKEN_LENGTH = 12, 16
_TOKENS_AT_ONCE = 256


def _tokens() -> Iterator[str]:
    """Draw texts that nobody can guess, many at once: the system's randomness is a call of the
    kernel.
    """
    while True:
        drawn = secrets.token_urlsafe(_TOKEN_BYTES * _TOKENS_AT_ONCE)
        for start in range(0, len(drawn), _TOKEN_LENGTH):
            yield drawn[start : start + _TOKEN_LENGTH]


def _seed() -> int:
    return secrets.randbelow(2**64)


@dataclass(frozen=True, slots=True)
class Outside:
    """Clocks, identifiers, and caches of what is decoded from the store."""

    wall: Callable[[], float] = time.time
    """Unix seconds: for the times that people see, never for a decision."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds of a clock that only goes forward: for leases and waiting."""
    new_token: Callable[[], str] = field(default_factory=lambda: _tokens().__next__)
    """A lease token, unguessable. Called in transactions, of which only one runs at a time."""
    new_uid: Callable[[], str] = lambda: uuid.uuid4().hex
    new_seed: Callable[[], int] = _seed
    specs: SpecCache = field(default_factory=SpecCache)
    rungs: RungCache = field(default_factory=RungCache)
