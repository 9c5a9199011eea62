"""What the rules take from outside, so that tests can supply it: clocks and randomness."""

import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from bbopt_server.studies.records import SpecCache
from bbopt_server.studies.stopping import RungCache


def _seed() -> int:
    return secrets.randbelow(2**64 - 1) + 1  # 0 would mean "draw one".


@dataclass(frozen=True, slots=True)
class Outside:
    """Clocks, identifiers, and caches of what is decoded from the store."""

    wall: Callable[[], float] = time.time
    """Unix seconds: for the times that people see, never for a decision."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds of a clock that only goes forward: for leases and waiting."""
    new_token: Callable[[], str] = lambda: secrets.token_urlsafe(12)
    """A lease token, unguessable."""
    new_uid: Callable[[], str] = lambda: uuid.uuid4().hex
    new_seed: Callable[[], int] = _seed
    specs: SpecCache = field(default_factory=SpecCache)
    rungs: RungCache = field(default_factory=RungCache)
