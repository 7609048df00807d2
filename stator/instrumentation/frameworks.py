"""How Flask, Django and Falcon say by which route a request went, and which errors they answered.

Each leaves them in the request's WSGI environ or ASGI scope, by the keys of routes.py.
"""

import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from stator.instrumentation.exchange import error_type
from stator.instrumentation.routes import ERROR, ROUTE

# Key of Werkzeug's rule by which Flask routed a request that failed.
RULE = "stator.rule"


def prepare(app: Any) -> None:
    """Lets an application of Django or Falcon leave its routes, and Flask and Django the errors that they answer."""
    if (falcon := sys.modules.get("falcon")) and isinstance(app, falcon.App):
        app.add_middleware(FalconRoutes())
    if flask := sys.modules.get("flask"):
        flask.got_request_exception.connect(_note_flask_error)
    if django := sys.modules.get("django.core.handlers.base"):
        sys.modules["django.core.signals"].got_request_exception.connect(_note_django_error)
        if isinstance(app, django.BaseHandler):
            app.resolve_request = _noting_route(app.resolve_request)


class FalconRoutes:
    """Falcon middleware, over WSGI as well as ASGI."""

    def process_resource(self, req: Any, _resp: Any, _resource: Any, _params: Any) -> None:
        """Leaves the template of a route that was found."""
        req.env[ROUTE] = req.uri_template

    async def process_resource_async(self, req: Any, _resp: Any, _resource: Any, _params: Any) -> None:
        """Leaves the template of a route that was found."""
        req.scope[ROUTE] = req.uri_template


def _noting_route(resolve: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Returns Django's `resolve_request` that leaves the template, whose parts have no slash before them."""

    def resolve_request(request: Any) -> Any:
        resolved = resolve(request)
        route = request.resolver_match.route
        if route is not None:  # a URL pattern of the application's own class may leave it out
            _kept(request)[ROUTE] = route if route.startswith(("/", "^")) else f"/{route}"
        return resolved

    return resolve_request


def _kept(request: Any) -> MutableMapping[str, Any]:
    """Returns the environ of Django's request, or its scope."""
    kept: MutableMapping[str, Any] = getattr(request, "scope", None) or getattr(request, "environ", {})
    return kept  # one that an application has made itself has neither


def _note_django_error(request: Any = None, **_: Any) -> None:
    error = sys.exc_info()[0]
    if error and request is not None:
        _kept(request)[ERROR] = error_type(error)


def _note_flask_error(_app: Any, exception: BaseException, **_: Any) -> None:
    flask = sys.modules["flask"]
    if not flask.has_request_context():  # a job sends the signal, too
        return
    request = flask.request
    request.environ |= {ERROR: error_type(type(exception)), RULE: request.url_rule}


def flask_rule(environ: Mapping[str, Any], status: int) -> Any:
    """Returns the rule by which Flask routed a request, or None; when the response begins, as it's gone later."""
    request = environ.get("werkzeug.request")
    rule = getattr(request, "url_rule", None)
    return _refusing_rule() if rule is None and request is not None and status == 405 else rule


def _refusing_rule() -> Any:
    """Returns the rule that matches but for the request's method, or None."""
    flask = sys.modules.get("flask")
    if flask is None or not flask.has_request_context():
        return None
    methods = getattr(flask.request.routing_exception, "valid_methods", None)
    adapter = flask.current_app.create_url_adapter(flask.request)
    if methods and adapter:
        with suppress(sys.modules["werkzeug.exceptions"].HTTPException):  # another method may be redirected
            return adapter.match(method=methods[0], return_rule=True)[0]
    return None


def prefixes(app: Any, above: tuple[Any, ...] = ()) -> frozenset[str]:
    """Returns the paths below which Werkzeug's DispatcherMiddleware mounts applications; `above` are those around."""
    found = set()
    for each in (app, getattr(app, "wsgi_app", None)):
        mounts = getattr(each, "mounts", None)
        for path, inner in mounts.items() if isinstance(mounts, Mapping) else ():
            # One may be mounted in itself, below as many prefixes as a client likes.
            is_above = any(inner is other for other in (app, *above))
            found |= {path, *(path + below for below in (() if is_above else prefixes(inner, (app, *above))))}
    return frozenset(found)


def is_disconnect(error: BaseException) -> bool:
    """Whether an error is Starlette's for a client that has left."""
    starlette = sys.modules.get("starlette.requests")
    return starlette is not None and isinstance(error, starlette.ClientDisconnect)
