"""Observes a WSGI application's requests.

https://peps.python.org/pep-3333/
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from stator.access.requests import remote_of_environ
from stator.instrumentation import frameworks
from stator.instrumentation.access import Headers, Peer
from stator.instrumentation.exchange import Exchange, Observer, error_type
from stator.log.request import REQUEST_ID

_REQUEST_ID = REQUEST_ID.lower()
# Of a body's length that is believed: a petabyte. A client may send any.
MOST_DIGITS = 15


def observe_wsgi(app: WSGIApplication, observer: Observer) -> WSGIApplication:
    """Returns an application that passes requests on to another, and observes them."""
    prefixes = frozenset[str]()
    try:
        prefixes = frameworks.prefixes(app)
        frameworks.prepare(app)
    except Exception as error:  # noqa: BLE001 # ours is never the application's
        observer.fault("route", error)

    def observed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange = WSGIExchange(observer, environ, prefixes, start_response)
        try:
            body = app(environ, exchange.start_response)
        except BaseException as error:
            exchange.fail(error, answers=True)
            exchange.end()
            raise
        try:
            return exchange.observed(body)
        except Exception as error:  # noqa: BLE001
            observer.fault("response", error)
            exchange.end()
            return body

    return observed


class WSGIExchange(Exchange):
    """A request that came by WSGI, and the body of its response, which is over when it's exhausted or closed."""

    __slots__ = ("_body", "_is_closed", "_length", "_prefixes", "_root", "_rule", "_start_response")

    def __init__(
        self, observer: Observer, environ: WSGIEnvironment, prefixes: frozenset[str], start_response: StartResponse
    ) -> None:
        self._prefixes, self._root, self._start_response = prefixes, environ.get("SCRIPT_NAME", ""), start_response
        self._length = -1  # of the body, where its headers say it
        self._rule: Any = None
        super().__init__(observer, environ, environ.get("REQUEST_METHOD", ""), environ.get("wsgi.url_scheme", ""))
        if observer.metrics.has_sizes:
            length = environ.get("CONTENT_LENGTH") or ""
            if length.isdecimal() and len(length) <= MOST_DIGITS:
                self.received = int(length)

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        """Begins the response, with the request's id among its headers, and notes what is in it."""
        try:
            self.status, self.response_headers = int(status[:3]), headers
            if exc_info:
                self.error = error_type(exc_info[0])
            self._rule = frameworks.flask_rule(self.source, self.status)
            has_id = not self.ids
            for name, value in headers:
                lower = name.lower()
                if lower == "content-length" and value.isdecimal():
                    self._length = int(value)
                elif lower == _REQUEST_ID:
                    has_id = True
            if not has_id:  # a new list: the application may send its own again
                headers = [*headers, (REQUEST_ID, self.ids["request_id"])]
        except Exception as error:  # noqa: BLE001 # ours is never the application's
            self.observer.fault("response", error)
        begin = self._start_response
        write = begin(status, headers, exc_info) if exc_info else begin(status, headers)
        return _measured(write, self) if self.observer.metrics.has_sizes else write

    def observed(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Returns a response's body, whose end is noted."""
        if type(body) in (list, tuple):  # the server has all of it
            self.sent += sum(map(len, body))
            self.end()
            return body
        wrapper = self.source.get("wsgi.file_wrapper")
        if isinstance(wrapper, type) and isinstance(body, wrapper):
            return self._observed_file(body)
        self._body, self._is_closed = body, False
        return self

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

    def read_context(self) -> None:
        """Reads the request's ids."""
        get = self.source.get
        self.read_ids(get("HTTP_X_REQUEST_ID", ""), get("HTTP_TRACEPARENT", ""), get("HTTP_TRACESTATE", ""))

    def peer(self) -> Peer:
        """Returns what the log says of the request."""
        environ = self.source
        path = self._root + environ.get("PATH_INFO", "")
        if not path.isascii():  # https://peps.python.org/pep-3333/#unicode-issues
            path = path.encode("latin-1", "replace").decode(errors="replace")
        address, port = remote_of_environ(environ, self.observer.proxies)
        return environ["REQUEST_METHOD"], path, address, port

    def query(self) -> str:
        """Returns the request's query, as it came."""
        return str(self.source.get("QUERY_STRING", ""))

    def request_headers(self) -> Headers:
        """Returns the request's headers as text."""
        for name, value in self.source.items():
            if name.startswith("HTTP_") or (name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value):
                yield name.removeprefix("HTTP_").replace("_", "-"), value

    def response_texts(self) -> Headers:
        """Returns the response's headers as text."""
        headers: Headers = self.response_headers
        return headers

    def find_route(self) -> str:
        """Returns the template by which a framework routed the request; empty if there is none."""
        source, prefixes = self.source, self._prefixes
        rule = self._rule or source.get(frameworks.RULE)
        if rule is None:
            return ""
        # Others than those that were mounted may be made of a client's headers.
        prefix = source.get("SCRIPT_NAME", "").removeprefix(self._root) if prefixes else ""
        return f"{prefix}{rule.rule}" if prefix in prefixes else str(rule.rule)

    def __iter__(self) -> Iterator[bytes]:
        try:
            for part in self._body:
                try:
                    self.sent += len(part)
                except TypeError as error:  # the server's to refuse
                    self.observer.fault("response", error)
                if self.sent == self._length:
                    self.finish()  # before the client can have it: a worker may be killed at any moment
                yield part
            if not self._is_over:
                self.finish()
        except BaseException as error:
            self.fail(error, answers=not self.sent)
            raise

    def close(self) -> None:
        """Closes the application's own body, once."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            close = getattr(self._body, "close", None)
            if close:
                close()
        finally:
            self.end()


def _measured(write: Callable[[bytes], object], exchange: WSGIExchange) -> Callable[[bytes], object]:
    """Returns a `write` that adds up the response's body."""

    def measured(data: bytes) -> object:
        exchange.sent += len(data)
        return write(data)

    return measured
