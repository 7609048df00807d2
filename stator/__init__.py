"""Makes a service observable: registers it with Consul, answers /monitor and /metrics, and logs what happened.

What is here is for those who write a collector: points, and how a collector's settings are declared. And for those who
embed Stator in an application of their own: `asgi_app`, `wsgi_app`, `add_routes`, `registered`.
"""

from typing import TYPE_CHECKING, Any

from stator.points import Histogram, Labels, MetricType, Point, PointsAt, Summary
from stator.settings.declare import Constraint, Secret, at_least, between, positive, section, setting
from stator.settings.duration import Duration
from stator.version import __version__

if TYPE_CHECKING:
    from stator.embedding.api import add_routes, asgi_app, registered, wsgi_app

__all__ = [
    "Constraint",
    "Duration",
    "Histogram",
    "Labels",
    "MetricType",
    "Point",
    "PointsAt",
    "Secret",
    "Summary",
    "__version__",
    "add_routes",
    "asgi_app",
    "at_least",
    "between",
    "positive",
    "registered",
    "section",
    "setting",
    "wsgi_app",
]

if not TYPE_CHECKING:  # what is no name of ours is an error to a type checker, too

    def __getattr__(name: str) -> Any:
        """What embeds Stator is imported only when it's asked for: a collector, or ``-h``, needs none of it."""
        if name not in __all__:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        from stator.embedding import api  # slow to import

        return getattr(api, name)
