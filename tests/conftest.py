"""Settings that every test shares."""

import os
import signal

# Before numpy and torch are loaded, and inherited by child processes: with more threads than
# free cores the small matrices of these tests take ten times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tests start interpreters by the hundred. If what they compile were not kept, as containers
# often have it, each would compile the package anew, which takes a server as long as all else
# that it does at its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import pytest
from hypothesis import HealthCheck, settings

# A busy machine must not fail a property: how long one example takes says nothing about it.
settings.register_profile("bbopt", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bbopt")


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Let this process and those that it starts end at an interrupt, as at a terminal.

    A shell without job control ignores interrupts for what it starts in the background, and
    that is inherited.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
