"""One request from its first byte to the last of its response, whatever protocol it comes by."""

from abc import abstractmethod
from asyncio import CancelledError
from collections.abc import MutableMapping
from contextlib import suppress
from time import perf_counter_ns
from typing import Any

from stator.access.proxies import TrustedProxies
from stator.instrumentation.access import AccessLog, Headers, Peer
from stator.instrumentation.requests import RequestMetrics
from stator.instrumentation.routes import ERROR, ROUTE
from stator.instrumentation.store import Cell
from stator.log.changes import ChangeLog
from stator.log.logger import Log
from stator.log.request import RequestContext, mark_error

NO_STATUS = -1  # of a request that was not answered


class Observer:
    """What observes an application's requests: their metrics, and their log if there is one.

    Nothing that fails in it is the application's: `fault` logs it, once for each reason.
    """

    def __init__(
        self, metrics: RequestMetrics, access: AccessLog | None, log: Log, proxies: TrustedProxies | None = None
    ) -> None:
        self.metrics, self.access, self.proxies = metrics, access, proxies or TrustedProxies()
        self._faults = ChangeLog(log, "part", "failed to observe a request", "observes requests again", level="error")

    def fault(self, part: str, error: BaseException) -> None:
        """Logs why a part of the observation failed; raises nothing, whatever the log does."""
        with suppress(Exception):
            self._faults.report(part, error)


class Exchange(RequestContext):
    """A request and its response; `finish` counts and logs it, `end` comes when the application is through with it.

    One object is all that each request costs: it has slots, and is made without calls that it can do without.
    """

    __slots__ = (
        *("_begun", "_elapsed", "_is_logged", "_is_over", "_start", "error", "observer", "received"),
        *("response_headers", "sent", "source", "status"),
    )

    def __init__(self, observer: Observer, source: MutableMapping[str, Any], method: str, scheme: str) -> None:
        self.observer, self.source = observer, source  # the request's scope or environ
        self.ids, self.flags, self.tracestate, self.own_route, self._token = {}, 0, "", "", None
        self.status, self.error = 0, ""
        self.received = self.sent = self._elapsed = 0  # bytes of the bodies, and nanoseconds
        self.response_headers: Any = ()  # as the protocol has them
        self._is_over = self._is_logged = False
        self._begun: tuple[str, str, Cell] | None = None
        try:
            self.read_context()
            self.bind()
        except Exception as error:  # noqa: BLE001 # ours is never the application's
            observer.fault("ids", error)
        try:
            self._begun = observer.metrics.begin(method, scheme)
        except Exception as error:  # noqa: BLE001
            observer.fault("metrics", error)
        if observer.access:
            self._begin_log(observer.access)
        self._start = perf_counter_ns()

    def _begin_log(self, access: AccessLog) -> None:
        """Finds out whether the request is logged; logs that it came, where that has a line of its own."""
        try:
            self._is_logged = access.is_enabled()
            if self._is_logged and access.mode == "full":
                access.log_request(self.peer(), self.query(), self.request_headers(), self.ids)
        except Exception as error:  # noqa: BLE001
            self.observer.fault("log", error)

    @abstractmethod
    def read_context(self) -> None:
        """Reads the request's ids."""

    @abstractmethod
    def peer(self) -> Peer:
        """Returns what the log says of the request."""

    @abstractmethod
    def query(self) -> str:
        """Returns the request's query, as it came."""

    @abstractmethod
    def request_headers(self) -> Headers:
        """Returns the request's headers as text."""

    @abstractmethod
    def response_texts(self) -> Headers:
        """Returns the response's headers as text."""

    @abstractmethod
    def find_route(self) -> str:
        """Returns the template by which a framework routed the request; empty if there is none."""

    def fail(self, error: BaseException, *, answers: bool) -> None:
        """Notes the error that ended the request; `answers` is whether the server then answers with 500."""
        mark_error(error, self.ids)
        if isinstance(error, CancelledError | GeneratorExit):  # the client left, or the server stops
            return
        if answers and isinstance(error, Exception):
            self.status = 500
        try:
            self.error = error_type(type(error))
        except Exception as fault:  # noqa: BLE001
            self.observer.fault("error", fault)

    def mark_sent(self) -> None:
        """Notes that the server has the whole response; of one that failed, the error may be still to come."""
        self._elapsed = perf_counter_ns() - self._start
        if self.status < 500:
            self.finish()

    def finish(self) -> None:
        """Counts and logs the request, if it is not done yet."""
        if self._is_over:
            return
        self._is_over = True
        elapsed = self._elapsed or perf_counter_ns() - self._start
        route, source = "", self.source
        try:
            if ERROR in source and not self.error:
                self.error = source[ERROR]
            found = self.own_route or source.get(ROUTE) or self.find_route()
            route = found if type(found) is str else _checked_route(found)
        except Exception as error:  # noqa: BLE001
            self.observer.fault("route", error)
        try:
            if self._begun:
                method, scheme, active = self._begun
                active.inc(-1.0)
                key = (method, scheme, route, self.status, self.error)
                self.observer.metrics.count(key, elapsed / 1e9, self.received, self.sent, self.ids.get("trace_id", ""))
        except Exception as error:  # noqa: BLE001
            self.observer.fault("metrics", error)
        if self._is_logged:
            self._log(route, elapsed)

    def end(self) -> None:
        """Finishes, and takes the request's ids away from what is logged from now on."""
        if not self._is_over:
            self.finish()
        try:
            self.release()
        except Exception as error:  # noqa: BLE001
            self.observer.fault("ids", error)

    def _log(self, route: str, elapsed: int) -> None:
        access = self.observer.access
        try:
            if access and access.mode == "full":
                peer = self.peer()
                access.log_request(peer, self.query(), self.request_headers(), self.ids, self.status or NO_STATUS)
                access.log_response(peer, self.status, self.response_texts(), elapsed, self.ids)
            elif access:
                access.log_exchange(self.peer(), route, self.status, elapsed, self.ids)
        except Exception as error:  # noqa: BLE001
            self.observer.fault("log", error)


def _checked_route(route: object) -> str:
    """Returns a route; raises TypeError if it's none, since the metrics of all workers could not be exposed with it."""
    if isinstance(route, str):
        return route
    msg = f"a route must be a str, not a {type(route).__qualname__}"
    raise TypeError(msg)


def error_type(error: type[BaseException]) -> str:
    """Returns an exception's qualified name: ``ValueError``, ``shop.errors.SoldOut``."""
    return error.__qualname__ if error.__module__ == "builtins" else f"{error.__module__}.{error.__qualname__}"
