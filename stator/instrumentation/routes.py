"""The template of a request's route, as the framework spells it: ``/items/{id}``, never the path that was asked for."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from stator.log.request import current_request

# Keys of an ASGI scope or a WSGI environ: a route's template, which whoever routes a request may set,
# and the type of the error that the framework has answered.
ROUTE, ERROR = "stator.route", "stator.error"
# Layers of middleware through which the routes of a mounted application are looked for.
MOST_LAYERS = 20


def set_route(template: str) -> None:
    """Says by which route the request at work is counted and logged, where no framework does that Stator knows.

    Args:
        template: The route with names in place of what differs, ``/items/{id}``: each text is a series of its own.
    """
    if request := current_request():
        request.own_route = template


class ASGIRoutes:
    """Finds the templates of requests to one ASGI application.

    Starlette and FastAPI leave the route in the scope, and only the concrete path of the mounts above it. So the
    templates of routes that occur once are kept; for others the routes are matched again, as the application did.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        # By the route's id, since Starlette's routes can't be hashed; None where it takes another match.
        self._templates: dict[int, tuple[Any, str | None]] = {}

    def template(self, scope: Mapping[str, Any], path: str, root_path: str, was_routed: object) -> str:
        """Returns a request's template, or an empty text.

        Args:
            scope: The scope as the application left it.
            path: The path before it.
            root_path: The application's root path, without those of its mounts.
            was_routed: The route before it, where the application is mounted in another.
        """
        router = scope.get("router")
        if router is None and "app" not in scope:
            return ""  # neither Starlette nor FastAPI
        route = scope.get("route")
        if route is not None and route is not was_routed:
            known = self._templates.get(id(route)) or self._learn(route, router)
            if known[1] is not None:
                return known[1]
        elif router is not None and "endpoint" not in scope:
            return ""
        request = {key: scope[key] for key in ("type", "method", "headers") if key in scope}
        return _match(self._routes(router, scope), {**request, "path": path, "root_path": root_path})

    def _routes(self, router: Any, scope: Mapping[str, Any]) -> Iterable[Any]:
        """Returns the routes of the application, or else of what routed the request."""
        for each in (self._app, router, scope.get("app")):
            if routes := getattr(each, "routes", None):
                return list(routes)
        return []

    def _learn(self, route: Any, router: Any) -> tuple[Any, str | None]:
        """Returns a route and its template, and keeps those of all routes that can be seen."""
        templates: dict[int, tuple[Any, str | None]] = {}
        for each, template in _walk(self._routes(router, {}), ""):
            templates[id(each)] = (each, None if id(each) in templates else template)
        self._templates |= {id(route): (route, None)} | templates
        return self._templates[id(route)]


def _contexts(routes: Iterable[Any]) -> Iterable[tuple[Any, Any]]:
    """Returns routes, each with what has its whole path: FastAPI's included routers have prefixes."""
    # Versions without this function copy the routes that are included.
    expand = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", None)
    if expand is None:
        return [(route, route) for route in routes]
    return [(context.original_route, context) for context in expand(list(routes))]


def _inner(route: Any) -> list[Any]:
    """Returns the routes of a mounted application, through middleware that keeps what it wraps as ``app``."""
    for _ in range(MOST_LAYERS):
        if hasattr(route, "endpoint"):
            return []
        if routes := getattr(route, "routes", None):
            return list(routes)
        route = getattr(route, "app", None)
    return []


def _walk(routes: Iterable[Any], prefix: str) -> Iterator[tuple[Any, str | None]]:
    """Yields all routes with their templates; None for mounts of which an inner route is wanted."""
    for route, context in _contexts(routes):
        inner, path = _inner(route), prefix + (getattr(context, "path", None) or "")
        yield route, None if inner else path or "/"
        yield from _walk(inner, path)


def _match(routes: Iterable[Any], scope: dict[str, Any], prefix: str = "") -> str:
    """Returns the template of the first route that matches, or else of one that has other methods; or an empty text."""
    partial = ""
    for route, context in _contexts(routes):
        match, child = context.matches({**scope})
        path = prefix + (getattr(context, "path", None) or "")
        if match.name == "FULL":
            inner = _inner(route)
            return _match(inner, {**scope, **child}, path) if inner else path or "/"
        if match.name == "PARTIAL":
            partial = partial or path
    return partial
