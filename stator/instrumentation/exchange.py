"""One request from its first byte to the last of its response, whatever protocol it comes by."""

from abc import ABC, abstractmethod
from asyncio import CancelledError
from time import perf_counter_ns
from typing import Any

from stator.instrumentation.access import AccessLog, Headers, Peer
from stator.instrumentation.requests import METHODS, OTHER, SCHEMES, RequestMetrics
from stator.log.changes import ChangeLog
from stator.log.logger import Log
from stator.log.request import REQUEST_ID, Bound, RequestContext, release


class Observer:
    """What observes an application's requests: their metrics, and their log if there is one.

    Nothing that fails in it is the application's: `fault` logs it, once for each reason.
    """

    def __init__(self, metrics: RequestMetrics, access: AccessLog | None, log: Log) -> None:
        self.metrics, self.access = metrics, access
        self._faults = ChangeLog(log, "part", "failed to observe a request", "observes requests again", level="error")

    def fault(self, part: str, error: BaseException) -> None:
        """Logs why a part of the observation failed."""
        self._faults.report(part, error)


class Exchange(ABC):
    """A request and its response; `finish` counts and logs it, `end` comes when the application is through with it."""

    __slots__ = (
        "_active",
        "_bound",
        "_elapsed",
        "_is_logged",
        "_is_over",
        "_method",
        "_scheme",
        "_start",
        "context",
        "error",
        "observer",
        "response_headers",
        "sizes",
        "status",
    )

    def __init__(self, observer: Observer, method: str, scheme: str) -> None:
        self.observer = observer
        self.status, self.error, self.sizes = 0, "", [0, 0]  # sizes of the request's body and of the response's
        self.response_headers: Any = ()  # as the protocol has them
        self._method, self._scheme = METHODS.get(method, OTHER), SCHEMES.get(scheme, OTHER)
        self._is_over, self._elapsed = False, 0
        self.context: RequestContext | None = None
        self._bound: Bound | None = None
        try:
            self.context = self.read_context()
            self._bound = self.context.bind()
        except Exception as error:  # noqa: BLE001 # ours is never the application's
            observer.fault("ids", error)
        try:
            active = observer.metrics.active(self._method, self._scheme)
            active.inc(1.0)
            self._active = active
        except Exception as error:  # noqa: BLE001
            observer.fault("metrics", error)
        self._is_logged = False
        if access := observer.access:
            try:
                self._is_logged = access.is_enabled()
                if self._is_logged and access.mode == "full":
                    access.log_request(self.peer(), self.request_headers(), self.ids)
            except Exception as error:  # noqa: BLE001
                observer.fault("log", error)
        self._start = perf_counter_ns()

    @property
    def ids(self) -> dict[str, str]:
        """The fields of all that is logged for the request."""
        return self.context.ids if self.context else {}

    @abstractmethod
    def read_context(self) -> RequestContext:
        """Returns the request's ids."""

    @abstractmethod
    def peer(self) -> Peer:
        """Returns what the log says of the request."""

    @abstractmethod
    def request_headers(self) -> Headers:
        """Returns the request's headers as text."""

    @abstractmethod
    def response_texts(self) -> Headers:
        """Returns the response's headers as text."""

    @abstractmethod
    def route(self) -> str:
        """Returns the template of the request's route; empty if there is none."""

    def fail(self, error: BaseException, *, answers: bool) -> None:
        """Notes the error that ended the request; `answers` is whether the server then answers with 500."""
        if isinstance(error, CancelledError | GeneratorExit):  # the client left, or the server stops
            return
        self.error = error_type(type(error))
        if answers and isinstance(error, Exception):
            self.status = 500

    def mark_sent(self) -> None:
        """Notes that the server has the whole response; of one that failed, the error may be still to come."""
        self._elapsed = perf_counter_ns() - self._start
        if self.status < 500:
            self.finish()

    def finish(self) -> None:
        """Counts and logs the request, if it is not done yet."""
        if self._is_over:
            return
        self._is_over, elapsed = True, self._elapsed or perf_counter_ns() - self._start
        observer, route = self.observer, ""
        try:
            route = self.route()
        except Exception as error:  # noqa: BLE001
            observer.fault("route", error)
        try:
            self._active.inc(-1.0)
            key = (self._method, self._scheme, route, self.status, self.error)
            observer.metrics.count(key, elapsed / 1e9, self.sizes)
        except Exception as error:  # noqa: BLE001
            observer.fault("metrics", error)
        if self._is_logged:
            try:
                self._log(route, elapsed)
            except Exception as error:  # noqa: BLE001
                observer.fault("log", error)

    def end(self) -> None:
        """Finishes, and takes the request's ids away from what is logged from now on."""
        self.finish()
        bound, self._bound = self._bound, None
        if bound:
            try:
                release(bound)
            except Exception as error:  # noqa: BLE001
                self.observer.fault("ids", error)

    def _log(self, route: str, elapsed: int) -> None:
        access = self.observer.access
        if access and access.mode == "full":
            access.log_response(self.status, self.response_texts(), elapsed, self.ids)
        elif access:
            access.log_exchange(self.peer(), route, self.status, elapsed, self.ids)


def error_type(error: type[BaseException]) -> str:
    """Returns an exception's qualified name: ``ValueError``, ``shop.errors.SoldOut``."""
    return error.__qualname__ if error.__module__ == "builtins" else f"{error.__module__}.{error.__qualname__}"


RESPONSE_ID = REQUEST_ID.lower().encode()
