"""Settings that every test shares."""

import os

# Before numpy and torch are loaded, and inherited by child processes: with more threads than
# free cores the small matrices of these tests take ten times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import HealthCheck, settings

# A busy machine must not fail a property: how long one example takes says nothing about it.
settings.register_profile("bbopt", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bbopt")
