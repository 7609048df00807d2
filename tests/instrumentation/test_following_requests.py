"""A request can be followed: all that is logged for it has its ids, wherever it is logged."""

import pytest

from tests.embedding.applications import uvicorn
from tests.embedding.conftest import ServeApp, Served

APP = """
import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import stator

stator.configure_logging(service="shop")

import structlog
from fastapi import BackgroundTasks, FastAPI

api = FastAPI()
pool = ThreadPoolExecutor(1)
library = logging.getLogger("library")


@api.get("/plain/{id}")
def plain(id: int):
    library.info("from a route in a thread")
    thread = threading.Thread(target=library.info, args=("from a thread",))
    thread.start()
    thread.join()
    return stator.trace_headers()


@api.get("/coroutine/{id}")
async def coroutine(id: int, background: BackgroundTasks):
    async def task():
        structlog.get_logger().info("from a task")

    await asyncio.create_task(task())
    await asyncio.to_thread(library.info, "from to_thread")
    await asyncio.get_running_loop().run_in_executor(pool, library.info, "from an executor")
    background.add_task(library.info, "from a background task")
    return stator.trace_headers()


app = stator.asgi_app(api)
"""
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1", "X-Request-ID": "order/7"}


@pytest.fixture
def served(serve_app: ServeApp) -> Served:
    return serve_app(APP, uvicorn())


@pytest.mark.parametrize(
    ("path", "messages"),
    [
        ("/plain/1", {"from a route in a thread", "from a thread"}),
        ("/coroutine/1", {"from a task", "from to_thread", "from an executor", "from a background task"}),
    ],
)
def test_every_line_of_a_request_has_its_ids_and_the_next_service_gets_them(
    served: Served, path: str, messages: set[str]
) -> None:
    answer = served.get(path, HEADERS)
    assert answer.headers["x-request-id"] == "order/7"
    for message in messages | {"answered request"}:
        line = served.wait_for(message)
        assert (line["request_id"], line["trace_id"], line["parent_span_id"]) == ("order/7", TRACE, PARENT)
        assert (line["app_id"], bool(line["worker_id"]), bool(line["run_id"])) == ("shop", True, True)
    span = served.lines("answered request")[0]["span_id"]
    expected = f'{{"traceparent":"00-{TRACE}-{span}-01","tracestate":"vendor=1","X-Request-ID":"order/7"}}'
    assert answer.body.decode() == expected


def test_requests_without_ids_get_their_own(served: Served) -> None:
    ids = {served.get("/plain/1").headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3
    for each in ids:
        assert {line["request_id"] for line in served.lines("from a thread", request_id=each)} == {each}
        assert "trace_id" not in served.lines("from a thread", request_id=each)[0]
