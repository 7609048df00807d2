"""Makes a service observable: registers it with Consul, answers /monitor and /metrics, and logs what happened.

What is here is for those who write a collector: points, and how a collector's settings are declared.
"""

from stator.entity import Histogram, Labels, Point, PointsAt, Summary, Type
from stator.launch.duration import Duration
from stator.launch.settings import LONGER_THAN_ZERO, Check, Secret, at_least, between, part, setting

try:
    from stator._version import version as __version__
except ImportError:  # a checkout that was never built
    __version__ = "0.0.0+unknown"

__all__ = [
    "LONGER_THAN_ZERO",
    "Check",
    "Duration",
    "Histogram",
    "Labels",
    "Point",
    "PointsAt",
    "Secret",
    "Summary",
    "Type",
    "__version__",
    "at_least",
    "between",
    "part",
    "setting",
]
