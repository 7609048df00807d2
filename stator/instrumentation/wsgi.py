"""Observes a WSGI application's requests.

https://peps.python.org/pep-3333/
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from stator.instrumentation import frameworks
from stator.instrumentation.access import Headers, Peer
from stator.instrumentation.exchange import Exchange, Observer, error_type
from stator.instrumentation.routes import ERROR, ROUTE
from stator.log.request import REQUEST_ID, RequestContext


class WSGIMiddleware:
    """Passes requests on to an application, and observes them."""

    def __init__(self, app: WSGIApplication, observer: Observer) -> None:
        self._app, self._observer, self._prefixes = app, observer, frozenset[str]()
        try:
            self._prefixes = frameworks.prefixes(app)
            frameworks.prepare(app)
        except Exception as error:  # noqa: BLE001 # ours is never the application's
            observer.fault("route", error)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers as the application does."""
        exchange = WSGIExchange(self._observer, environ, self._prefixes)

        def observed(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Callable[[bytes], object]:
            try:
                headers = exchange.started(status, headers, exc_info)
            except Exception as error:  # noqa: BLE001 # ours is never the application's
                self._observer.fault("response", error)
            write = start_response(status, headers, exc_info) if exc_info else start_response(status, headers)
            return _measured(write, exchange) if self._observer.metrics.has_sizes else write

        if self._observer.metrics.has_sizes:
            exchange.measure_request()
        try:
            body = self._app(environ, observed)
        except BaseException as error:
            exchange.fail(error, answers=True)
            exchange.end()
            raise
        try:
            return exchange.observed(body)
        except Exception as error:  # noqa: BLE001
            self._observer.fault("response", error)
            exchange.end()
            return body


class WSGIExchange(Exchange):
    """A request that came by WSGI."""

    __slots__ = ("_environ", "_prefixes", "_root")

    def __init__(self, observer: Observer, environ: WSGIEnvironment, prefixes: frozenset[str]) -> None:
        self._environ, self._prefixes, self._root = environ, prefixes, environ.get("SCRIPT_NAME", "")
        super().__init__(observer, environ["REQUEST_METHOD"], environ["wsgi.url_scheme"])

    def started(self, status: str, headers: list[tuple[str, str]], exc_info: Any) -> list[tuple[str, str]]:
        """Returns the headers of the response that begins, with the request's id among them."""
        self.status, self.response_headers = int(status[:3]), headers
        if exc_info:
            self.error = error_type(exc_info[0])
        frameworks.note_rule(self._environ, self.status)
        if self.context is None or any(name.lower() == REQUEST_ID.lower() for name, _ in headers):
            return headers
        # A new list: the application may send its own again.
        return [*headers, (REQUEST_ID, self.ids["request_id"])]

    def observed(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Returns a response's body, whose end is noted."""
        if type(body) in (list, tuple):  # the server has all of it
            self.sizes[1] += sum(map(len, body))
            self.end()
            return body
        wrapper = self._environ.get("wsgi.file_wrapper")
        if isinstance(wrapper, type) and isinstance(body, wrapper):
            return self._observed_file(body)
        return ObservedBody(body, self)

    def _observed_file(self, body: Any) -> Iterable[bytes]:
        """Returns the server's own file wrapper, by which it knows a file that the kernel can send."""
        close = getattr(body, "close", None)

        def observed_close() -> None:
            try:
                if close:
                    close()
            finally:
                self.end()

        try:
            body.close = observed_close
        except AttributeError:
            self.end()
        iterable: Iterable[bytes] = body
        return iterable

    def measure_request(self) -> None:
        """Notes the size of the request's body, as its header has it."""
        with suppress(ValueError):
            self.sizes[0] = int(self._environ.get("CONTENT_LENGTH") or 0)

    def read_context(self) -> RequestContext:
        """Returns the request's ids."""
        get = self._environ.get
        return RequestContext(get("HTTP_X_REQUEST_ID", ""), get("HTTP_TRACEPARENT", ""), get("HTTP_TRACESTATE", ""))

    def peer(self) -> Peer:
        """Returns what the log says of the request."""
        environ = self._environ
        path = (self._root + environ.get("PATH_INFO", "")).encode("latin-1").decode(errors="replace")
        ip, port = environ.get("REMOTE_ADDR") or "", environ.get("REMOTE_PORT") or ""
        query = environ.get("QUERY_STRING", "")
        return Peer(environ["REQUEST_METHOD"], path, query, ip.removeprefix("::ffff:"), str(port))

    def request_headers(self) -> Headers:
        """Returns the request's headers as text."""
        for name, value in self._environ.items():
            if name.startswith("HTTP_") or (name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value):
                yield name.removeprefix("HTTP_").replace("_", "-"), value

    def response_texts(self) -> Headers:
        """Returns the response's headers as text."""
        headers: Headers = self.response_headers
        return headers

    def route(self) -> str:
        """Returns the template of the request's route; empty if there is none."""
        environ = self._environ
        self.error = self.error or environ.get(ERROR, "")
        if self.context and self.context.route:
            return self.context.route
        return str(environ.get(ROUTE) or frameworks.flask_template(environ, self._root, self._prefixes))


class ObservedBody:
    """A response's body as the application gave it; the request is over when it's exhausted or closed."""

    __slots__ = ("_body", "_exchange", "_has_begun", "_is_closed", "_iterator")

    def __init__(self, body: Iterable[bytes], exchange: WSGIExchange) -> None:
        self._body, self._exchange, self._is_closed, self._has_begun = body, exchange, False, False
        self._iterator: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            iterator = self._iterator
            if iterator is None:
                iterator = self._iterator = iter(self._body)
            part = next(iterator)
        except StopIteration:
            self._exchange.finish()
            raise
        except BaseException as error:
            self._exchange.fail(error, answers=not self._has_begun)
            raise
        if part:
            self._has_begun = True
            self._exchange.sizes[1] += len(part)
        return part

    def close(self) -> None:
        """Closes the application's own, once."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            close = getattr(self._body, "close", None)
            if close:
                close()
        finally:
            self._exchange.end()


def _measured(write: Callable[[bytes], object], exchange: WSGIExchange) -> Callable[[bytes], object]:
    """Returns a `write` that adds up the response's body."""

    def measured(data: bytes) -> object:
        exchange.sizes[1] += len(data)
        return write(data)

    return measured
