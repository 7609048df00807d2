"""Makes a service observable: registers it with Consul, answers /monitor and /metrics, and logs what happened.

`Stator` adds that to an application; `Point` and its kin are for collectors, `setting` and its kin for their settings.
What can't be imported from ``stator`` itself is private.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stator.points import (
    Collector,
    Exemplar,
    Histogram,
    Labels,
    MetricType,
    NonBlockingCollector,
    Point,
    PointError,
    PointsAt,
    Summary,
)
from stator.settings.declare import Constraint, Secret, StartError, at_least, between, positive, section, setting
from stator.settings.duration import Duration
from stator.version import __version__

if TYPE_CHECKING:
    from stator.embedding.api import Stator, add_routes, asgi_app, registered, wsgi_app
    from stator.embedding.logs import LineFormatter, add_ids, configure_logging
    from stator.embedding.registration import Registration
    from stator.embedding.serving import Serving
    from stator.instrumentation.routes import set_route
    from stator.instrumentation.sharing import share_metrics
    from stator.log.request import trace_headers
    from stator.roster.registrar import Observation, Registrar, RegistrarError
    from stator.roster.service import Service
    from stator.settings.declare import ConfigError

__all__ = [
    "Collector",
    "ConfigError",
    "Constraint",
    "Duration",
    "Exemplar",
    "Histogram",
    "Labels",
    "LineFormatter",
    "MetricType",
    "NonBlockingCollector",
    "Observation",
    "Point",
    "PointError",
    "PointsAt",
    "Registrar",
    "RegistrarError",
    "Registration",
    "Secret",
    "Service",
    "Serving",
    "StartError",
    "Stator",
    "Summary",
    "__version__",
    "add_ids",
    "add_routes",
    "asgi_app",
    "at_least",
    "between",
    "configure_logging",
    "positive",
    "registered",
    "section",
    "set_route",
    "setting",
    "share_metrics",
    "trace_headers",
    "wsgi_app",
]

if not TYPE_CHECKING:  # to a type checker, too, another name is an error
    _LATE = {
        "ConfigError": "stator.settings.declare",
        "Registration": "stator.embedding.registration",
        "Service": "stator.roster.service",
        "Serving": "stator.embedding.serving",
        **dict.fromkeys(("Observation", "Registrar", "RegistrarError"), "stator.roster.registrar"),
        **dict.fromkeys(("LineFormatter", "add_ids", "configure_logging"), "stator.embedding.logs"),
        "share_metrics": "stator.instrumentation.sharing",
        "set_route": "stator.instrumentation.routes",
        "trace_headers": "stator.log.request",
        **dict.fromkeys(("Stator", "add_routes", "asgi_app", "registered", "wsgi_app"), "stator.embedding.api"),
    }

    def __getattr__(name: str) -> Any:
        """Imports what only an application needs when it's asked for: a collector, or ``-h``, needs none of it."""
        if name not in _LATE:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        return getattr(import_module(_LATE[name]), name)

    def __dir__() -> list[str]:
        return __all__
