"""The ids of a request, and what is sent on of them: https://www.w3.org/TR/trace-context/."""

import asyncio
import contextvars
import re
import threading
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from structlog.contextvars import get_contextvars

import stator
from stator.log.request import RequestContext

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


def context(request_id: str = "", traceparent: str = "", tracestate: str = "") -> RequestContext:
    request = RequestContext()
    request.read_ids(request_id, traceparent, tracestate)
    return request


@pytest.fixture
def bound() -> Iterator[RequestContext]:
    request = context("order/7", TRACEPARENT, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
    request.bind()
    yield request
    request.release()


@pytest.mark.parametrize("request_id", ["a", "a" * 128, "A-Z.a_z~0:9/+=", "0193e1a2-7c5e"])
def test_a_well_formed_id_of_the_caller_is_the_requests(request_id: str) -> None:
    assert context(request_id).ids == {"request_id": request_id}


@pytest.mark.parametrize(
    "request_id", ["", "a" * 129, "a" * 10_000, "a b", "a\nb", "a\r\nSet-Cookie: x", "a\n", "{a}", "ä", "a,b", "\0"]
)
def test_any_other_is_ignored_and_there_is_a_new_one(request_id: str) -> None:
    assert re.fullmatch("[A-Za-z0-9]{7}", context(request_id).ids["request_id"])


def test_a_trace_goes_on_with_a_span_of_ours() -> None:
    first, second = context(traceparent=TRACEPARENT).ids, context(traceparent=TRACEPARENT).ids
    assert (first["trace_id"], first["parent_span_id"]) == (TRACE, PARENT)
    assert re.fullmatch("[0-9a-f]{16}", first["span_id"])
    assert len({first["span_id"], second["span_id"], PARENT}) == 3


@pytest.mark.parametrize(
    "traceparent",
    [
        TRACEPARENT.upper(),
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-0x",
        f"{TRACEPARENT}-what-comes-later",
        f"{TRACEPARENT}.",
        f"{TRACEPARENT}\n",
        f"cc-{TRACE}-{PARENT}-01.what",
        f"{TRACEPARENT},{TRACEPARENT}",
        "0" * 10_000,
        f"00-{TRACE[:-1]}٣-{PARENT}-01",
    ],
)
def test_a_malformed_traceparent_is_ignored(traceparent: str) -> None:
    request = context("a", traceparent, "rojo=1")
    assert request.ids == {"request_id": "a"}
    assert request.tracestate == ""


@pytest.mark.parametrize("traceparent", [f"cc-{TRACE}-{PARENT}-01", f"cc-{TRACE}-{PARENT}-01-what-will-be"])
def test_a_later_version_is_read_as_far_as_it_is_known(traceparent: str) -> None:
    assert context(traceparent=traceparent).ids["trace_id"] == TRACE


def test_headers_that_come_twice_are_malformed_but_for_tracestate() -> None:
    request = RequestContext()
    headers = [(b"x-request-id", b"a"), (b"x-request-id", b"b"), (b"traceparent", TRACEPARENT.encode())]
    request.read_headers([*headers, (b"tracestate", b"rojo=1"), (b"tracestate", b"congo=2")])
    assert len(request.ids["request_id"]) == 7
    assert (request.ids["trace_id"], request.tracestate) == (TRACE, "rojo=1,congo=2")
    request.read_headers([(b"traceparent", TRACEPARENT.encode())] * 2)
    assert "trace_id" not in request.ids


def test_what_is_sent_on_is_the_trace_with_our_span_and_the_requests_id(bound: RequestContext) -> None:
    assert stator.trace_headers() == {
        "traceparent": f"00-{TRACE}-{bound.ids['span_id']}-01",
        "tracestate": "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
        "X-Request-ID": "order/7",
    }


def test_it_is_the_same_in_threads_and_tasks_of_the_request(bound: RequestContext) -> None:
    async def in_a_task_and_a_thread() -> list[dict[str, str]]:
        async def headers() -> dict[str, str]:
            return stator.trace_headers()

        return [await asyncio.create_task(headers()), await asyncio.to_thread(stator.trace_headers)]

    found = asyncio.run(in_a_task_and_a_thread())
    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(lambda: found.append(stator.trace_headers()),)
    )
    thread.start()
    thread.join()
    assert found == [stator.trace_headers()] * 3
    assert found[0]["X-Request-ID"] == "order/7"


def test_without_a_request_there_is_nothing_to_send_on() -> None:
    assert stator.trace_headers() == {}


def test_flags_without_a_meaning_are_not_sent_on() -> None:
    request = context("a", f"00-{TRACE}-{PARENT}-ff", "x" * 513)
    request.bind()
    assert stator.trace_headers() == {"traceparent": f"00-{TRACE}-{request.ids['span_id']}-03", "X-Request-ID": "a"}
    request.release()


def test_an_active_span_of_opentelemetry_wins() -> None:
    state = trace.TraceState([("vendor", "1")])
    span = trace.NonRecordingSpan(
        trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1), trace_state=state)
    )
    with trace.use_span(span):
        request = context("a", TRACEPARENT)
        request.bind()
        assert request.ids == {"request_id": "a", "trace_id": f"{0xABC:032x}", "span_id": f"{0xDEF:016x}"}
        assert stator.trace_headers() == {
            "traceparent": f"00-{0xABC:032x}-{0xDEF:016x}-01",
            "tracestate": "vendor=1",
            "X-Request-ID": "a",
        }
        request.release()


def test_ids_are_bound_to_all_that_structlog_logs_and_restored() -> None:
    outer, inner = context("outer"), context("inner", TRACEPARENT)
    outer.bind()
    inner.bind()
    assert get_contextvars() == inner.ids
    inner.release()
    inner.release()
    assert get_contextvars() == {"request_id": "outer"}
    outer.release()
    assert get_contextvars() == {}
