"""The request at work: its id, and its place in a trace, which are bound to all that is logged for it.

https://www.w3.org/TR/trace-context/
"""

import re
import sys
from collections.abc import Iterable, Mapping
from contextvars import ContextVar, Token
from http import HTTPStatus
from typing import Any

from stator.log.logger import RANDOM, bind, new_id, unbind
from stator.log.render import Event

REQUEST_ID = "X-Request-ID"
# The headers that are read, in lower case, as ASGI has their names.
NAMES = (b"x-request-id", b"traceparent", b"tracestate")

_WELL_FORMED_ID = re.compile(r"[A-Za-z0-9._~:/+=-]{1,128}")
# Version, trace id, parent id and flags; what a later version appends is skipped.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
# Whoever passes tracestate on need not take more than this.
_TRACESTATE = re.compile(r"[ -~\t]{1,512}")
# An attribute of errors: the ids of the request that they ended.
_IDS_OF_ERROR = "stator_request_ids"
# Flags that are passed on: sampled, and that the trace id is random. Others have no meaning yet.
_FLAGS = 0b11


def _variable(name: str) -> ContextVar[Any]:
    """Returns the variable in which structlog keeps a field that is bound: setting it is a third of its calls' time."""
    tokens = bind(**{name: ""})
    unbind(tokens)
    variable: ContextVar[Any] = tokens[name].var
    return variable


_CURRENT: ContextVar["RequestContext | None"] = ContextVar("stator_request", default=None)
_REQUEST_ID = _variable("request_id")


class RequestContext:
    """What a request is called, and what it was called by.

    Attributes:
        ids: The fields of all that is logged for it: ``request_id``, and those of its trace if it has one.
        flags: The trace's flags.
        tracestate: What vendors add to the trace, as it came.
        own_route: The template that the application itself gave by `set_route`.
    """

    __slots__ = ("_token", "_token_of_id", "_tokens_of_trace", "flags", "ids", "own_route", "tracestate")

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}
        self.flags, self.tracestate, self.own_route = 0, "", ""
        self._token: Token[RequestContext | None] | None = None

    def read_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Reads the ids out of a request's headers, whose names are in lower case."""
        found = dict(headers)
        if b"x-request-id" not in found and b"traceparent" not in found:
            self.read_ids("", "", "")
            return
        # One that comes twice is as one with a comma, which is right in tracestate alone.
        texts = [b",".join(value for name, value in headers if name == wanted) for wanted in NAMES]
        self.read_ids(*(text.decode("latin-1") for text in texts))

    def read_ids(self, request_id: str, traceparent: str, tracestate: str) -> None:
        """Takes what is well-formed of the three headers, and makes a new id where there is none."""
        if not request_id or not _WELL_FORMED_ID.fullmatch(request_id):
            request_id = new_id()
        self.ids = {"request_id": request_id}
        # The look into sys.modules spares most requests a call.
        if "opentelemetry.trace" in sys.modules and (span := active_span()):
            self.ids |= _span_fields(span)
        elif traceparent and (parent := _parse(traceparent)):
            trace_id, span_id, self.flags = parent
            own = f"{RANDOM.getrandbits(64) or 1:016x}"
            self.ids |= {"trace_id": trace_id, "span_id": own, "parent_span_id": span_id}
            if _TRACESTATE.fullmatch(tracestate):
                self.tracestate = tracestate

    def bind(self) -> None:
        """Makes it the request at work in this thread or task, until `release`."""
        ids = self.ids
        self._token_of_id = _REQUEST_ID.set(ids["request_id"])
        self._tokens_of_trace = (
            bind(**{name: ids[name] for name in ids if name != "request_id"}) if len(ids) > 1 else None
        )
        self._token = _CURRENT.set(self)

    def release(self) -> None:
        """Restores what was bound before `bind`; does nothing without it."""
        token, self._token = self._token, None
        if token:
            _CURRENT.reset(token)
            _REQUEST_ID.reset(self._token_of_id)
            if self._tokens_of_trace:
                unbind(self._tokens_of_trace)


def current_request() -> RequestContext | None:
    """Returns the request at work in this thread or task, or None."""
    return _CURRENT.get()


def mark_error(error: BaseException, ids: Mapping[str, str]) -> None:
    """Notes on an error which request it ended: a server logs it when the request is no longer the one at work.

    One that ended several requests, as that of a future for which they waited, is none's.
    """
    own = vars(error)
    own[_IDS_OF_ERROR] = ids if own.get(_IDS_OF_ERROR, ids) is ids else {}


def add_ids_of_error(_logger: object, _level: str, event: Event) -> Event:
    """Adds the ids of the request that an event's error ended, unless one is at work."""
    error = event.get("error")
    # By its type: a proxy for something that is gone raises an error when it's asked for its class.
    if issubclass(type(error), BaseException) and "request_id" not in event:
        event.update(vars(error).get(_IDS_OF_ERROR, {}))
    return event


def trace_headers() -> dict[str, str]:
    """Returns the headers to send with a request to another service, so that it belongs to the request at work.

    They are ``X-Request-ID`` and, where a trace is known, ``traceparent`` and ``tracestate``: an active OpenTelemetry
    span's, or those of the request at work. Without either it's empty, as in a thread that began without
    the request's context.
    """
    context, span, headers = current_request(), active_span(), {}
    if span:
        at = span.get_span_context()
        headers["traceparent"] = f"00-{at.trace_id:032x}-{at.span_id:016x}-{at.trace_flags & _FLAGS:02x}"
        if state := at.trace_state.to_header():
            headers["tracestate"] = state
    elif context and "trace_id" in context.ids:
        headers["traceparent"] = f"00-{context.ids['trace_id']}-{context.ids['span_id']}-{context.flags:02x}"
        if context.tracestate:
            headers["tracestate"] = context.tracestate
    if context:
        headers[REQUEST_ID] = context.ids["request_id"]
    return headers


def active_span() -> Any:
    """Returns OpenTelemetry's active span, or None; the library is not imported for it."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    find = trace and getattr(trace, "get_current_span", None)  # None while it's being imported
    span = find() if find else None
    if span is None or span is trace.INVALID_SPAN:
        return None
    return span if span.get_span_context().is_valid else None


def _span_fields(span: Any) -> dict[str, str]:
    context, parent = span.get_span_context(), getattr(span, "parent", None)
    fields = {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
    return fields | {"parent_span_id": f"{parent.span_id:016x}"} if parent else fields


def _parse(traceparent: str) -> tuple[str, str, int] | None:
    """Returns trace id, parent id and flags; None where the header is malformed."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if not found or (found[1] == "00" and found[5]):
        return None
    return found[2], found[3], int(found[4], 16) & _FLAGS


def is_success(status: int) -> bool:
    """Whether a status says that a request was answered as it should be; 0 is for no answer."""
    return 0 < status < HTTPStatus.BAD_REQUEST
