"""Makes a service observable: registers it with Consul, answers /monitor and /metrics, and logs what happened."""

try:
    from stator._version import version as __version__
except ImportError:  # a checkout that was never built
    __version__ = "0.0.0+unknown"

__all__ = ["__version__"]
