"""Settings that every test shares."""

from hypothesis import HealthCheck, settings

# A busy machine must not fail a property: how long one example takes says nothing about it.
settings.register_profile("bbopt", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bbopt")
