"""How hypothesis looks for examples."""

from hypothesis import settings

# No test fails on a time: another program may have had the machine.
settings.register_profile("stator", deadline=None, max_examples=75)
settings.load_profile("stator")
