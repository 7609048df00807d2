"""Prometheus_client's own applications, for gunicorn to serve."""

from typing import Any

from prometheus_client import make_asgi_app, make_wsgi_app

from tests.bench.points import Peer, registry


def many_points() -> Any:
    """Its ASGI application with as many points as ours."""
    return make_asgi_app(registry(Peer()))


def defaults() -> Any:
    """Its WSGI application with its default collectors."""
    return make_wsgi_app()
