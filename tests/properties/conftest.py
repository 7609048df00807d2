"""How hypothesis looks for examples."""

from hypothesis import HealthCheck, settings

# No test fails on a time: another program may have had the machine.
# Nor on how many values a filter refuses: hypothesis takes constants from whichever modules are loaded.
settings.register_profile(
    "stator", deadline=None, max_examples=75, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)
settings.load_profile("stator")
