"""An application's own log comes out as Stator's lines, with the ids of wherever a line was logged."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import stator
from tests.embedding.applications import gunicorn, uvicorn
from tests.embedding.conftest import ServeApp
from tests.program import eventually

ROOT = Path(__file__).parents[2]
Line = dict[str, Any]


def run(code: str, **variables: str) -> tuple[list[Line], str]:
    """Runs code; returns the lines on its stdout, and its stderr."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "STTR_ROSTER_SERVICE_NAME": "shop", **variables}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


LIBRARIES = """
import logging, warnings
import stator, structlog
stator.configure_logging()
logging.getLogger("library").info("from %s", "logging", extra={"order": 7, "level": "high"})
structlog.get_logger().info("from structlog", order=8)
warnings.warn("from warnings")
logging.getLogger("library").debug("not logged")
structlog.get_logger().debug("not logged")
for log in (logging.getLogger("library"), structlog.get_logger()):
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("failed")
"""


def test_all_that_is_logged_is_lines_on_stdout() -> None:
    lines, errors = run(LIBRARIES)
    assert errors == ""
    assert [line["msg"] for line in lines[:2]] == ["from logging", "from structlog"]
    assert "UserWarning: from warnings" in lines[2]["msg"]
    assert [line["level"] for line in lines] == ["info", "info", "warning", "error", "error"]
    assert {(line["app_id"], line["run_id"], line["worker_id"]) for line in lines} == {
        ("shop", lines[0]["run_id"], lines[0]["worker_id"])
    }
    assert (lines[0]["logger"], lines[0]["order"], lines[0]["level_"]) == ("library", 7, "high")
    assert lines[1]["order"] == 8
    assert [json.loads(json.dumps(line["error"]))["type"] for line in lines[3:]] == ["ZeroDivisionError"] * 2
    assert all("1 / 0" in line["error"]["traceback"] or "<string>" in line["error"]["traceback"] for line in lines[3:])


def test_the_level_and_the_format_are_those_of_the_variables() -> None:
    code = "import logging, stator; stator.configure_logging(); logging.info('one'); logging.debug('two')"
    assert [line["msg"] for line in run(code, STTR_LOGGER_LEVEL="debug")[0]] == ["one", "two"]
    assert run(code, STTR_LOGGER_LEVEL="error")[0] == []


def test_a_variable_that_cannot_be_used_is_an_error() -> None:
    with pytest.raises(stator.ConfigError, match="STTR_LOGGER_LEVEL='loud'"):
        stator.configure_logging(environ={"STTR_LOGGER_LEVEL": "loud"})


def test_what_stator_logs_has_its_fields() -> None:
    code = """
import stator
stator.configure_logging(service="till")
stator.Stator(service="till", environ={"STTR_COLECTORS": "x"})
"""
    ((line,), _) = run(code)
    assert (line["app_id"], line["logger"], line["level"]) == ("till", "stator", "warning")
    assert line["msg"].startswith("STTR_COLECTORS is not a setting")


THREADS = """
import asyncio, logging, threading
from concurrent.futures import ThreadPoolExecutor
import stator, structlog
stator.configure_logging()
pool = ThreadPoolExecutor(1)
pool.submit(int).result()  # its thread begins without an id

async def say(where):
    logging.info(where)

async def main():
    structlog.contextvars.bind_contextvars(request_id="abc")
    thread = threading.Thread(target=logging.info, args=("thread",))
    thread.start()
    thread.join()
    await asyncio.create_task(say("task"))
    await asyncio.to_thread(logging.info, "to_thread")
    await asyncio.get_running_loop().run_in_executor(pool, logging.info, "executor")
    pool.submit(logging.info, "pool").result()
    structlog.contextvars.unbind_contextvars("request_id")
    pool.submit(logging.info, "afterwards").result()

asyncio.run(main())
"""


def test_threads_and_tasks_of_a_request_log_its_id() -> None:
    lines, _ = run(THREADS)
    assert {line["msg"]: line.get("request_id") for line in lines} == {
        **dict.fromkeys(("thread", "task", "to_thread", "executor", "pool"), "abc"),
        "afterwards": None,
    }


WRAPPED = """
import logging, threading
from functools import wraps
import stator, structlog

def another(start):
    @wraps(start)
    def wrapped(thread):
        start(thread)
    return wrapped

threading.Thread.start = another(threading.Thread.start)
stator.configure_logging()
once = threading.Thread.start
threading.Thread.start = another(once)
stator.configure_logging()
structlog.contextvars.bind_contextvars(request_id="abc")
thread = threading.Thread(target=logging.info, args=("thread",))
thread.start()
thread.join()
"""


def test_threads_log_the_id_beside_another_librarys_wrapper() -> None:
    ((line,), _) = run(WRAPPED)
    assert line["request_id"] == "abc"


THREAD_END = """
import gc, logging, threading, weakref
import stator
stator.configure_logging()
gc.disable()
thread = threading.Thread(target=int)
thread.start()
thread.join()
seen = weakref.ref(thread)
del thread
logging.info("thread", extra={"is_there": seen() is not None})
"""


def test_a_thread_that_has_ended_needs_no_garbage_collection() -> None:
    ((line,), _) = run(THREAD_END)
    assert line["is_there"] is False


CLASHES = """
import logging
import stator, structlog
stator.configure_logging(service="shop")
names = ("app_id", "run_id", "worker_id", "request_id", "trace_id", "ts", "logger", "error")
theirs = dict.fromkeys(names, "theirs")
log = logging.getLogger("app")
log.info("between requests", extra=theirs)
with structlog.contextvars.bound_contextvars(request_id="ours"):
    log.info("in a request", extra=theirs)
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed", extra=theirs)
"""


def test_extra_fields_do_not_take_the_place_of_a_lines_own() -> None:
    lines, errors = run(CLASHES)
    assert errors == ""
    for line in lines:
        assert (line["app_id"], line["logger"]) == ("shop", "app")
        assert "theirs" not in (line["run_id"], line["worker_id"], line["ts"])
        for name in ("app_id", "run_id", "worker_id", "ts", "logger"):
            assert line[f"{name}_"] == "theirs"
    between, within, failed = lines
    assert (between["request_id"], between["error"]) == ("theirs", "theirs")
    assert (within["request_id"], within["request_id_"], within["trace_id"]) == ("ours", "theirs", "theirs")
    assert (failed["error"]["type"], failed["error_"]) == ("ZeroDivisionError", "theirs")


EARLY = """
import structlog
{configure}
log = structlog.get_logger()
early, stdlib = log.bind(order=7), structlog.stdlib.get_logger("app").bind(order=8)
{before}
import stator
stator.configure_logging(service="shop")
early.info("early", who="me")
stdlib.warning("stdlib")
early.debug("not logged")
log.info("late")
try:
    1 / 0
except ZeroDivisionError:
    early.exception("failed")
"""


@pytest.mark.parametrize(
    ("configure", "before"),
    [
        ("", ""),
        ("structlog.configure(cache_logger_on_first_use=True)", "import sys; log.debug('before')"),
        ("structlog.configure(wrapper_class=structlog.stdlib.BoundLogger)", ""),
    ],
    ids=["bound", "cached", "of the standard library"],
)
def test_loggers_that_structlog_bound_before_make_lines_too(configure: str, before: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = EARLY.format(configure=configure, before=before)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [(line["msg"], line["level"], line.get("order")) for line in lines] == [
        ("early", "info", 7),
        ("stdlib", "warning", 8),
        ("late", "info", None),
        ("failed", "error", 7),
    ]
    assert {line["app_id"] for line in lines} == {"shop"}
    assert lines[3]["error"]["type"] == "ZeroDivisionError"
    assert done.stdout.count("\n") == len(lines) + bool(before)


ODD = """
import logging
import stator
stator.configure_logging()
log = logging.getLogger("app")
log.info("reserved", extra={"method_name": "GET", "stator": 7})
log.info("number", extra={5: "five"})
log.info("stack", stack_info=True)
"""


def test_whatever_the_extra_fields_are_called_there_is_a_line_and_no_error() -> None:
    (reserved, number, stack), errors = run(ODD)
    assert (reserved["method_name_"], reserved["stator"], number["5"]) == ("GET", 7, "five")
    assert stack["stack"].startswith("Stack (most recent call last):")
    assert errors == ""


UNUSUAL = """
import logging, weakref
import stator, structlog
stator.configure_logging()


class Errors(Exception):
    def __len__(self): return 0


try:
    try:
        raise Errors
    except Errors as error:
        raise ValueError("no") from error
except ValueError:
    logging.exception("cause")
try:
    raise Errors
except Errors:
    logging.exception("false")
log = structlog.get_logger()
log.info("empty", exc_info=())
log.info("gone", error=weakref.proxy(set()))
logging.getLogger().handle(logging.makeLogRecord({"msg": "record", "levelno": 30, "exc_info": True}))
logging.warning("names", extra={"stator": {1: 2}, "stator_event": "x"})
"""


def test_unusual_errors_and_records_make_lines(tmp_path: Path) -> None:
    (cause, false, empty, gone, record, names), errors = run(UNUSUAL)
    assert errors == ""
    assert (cause["error"]["type"], cause["error"]["cause"], false["error"]["type"]) == (
        "ValueError",
        "Errors",
        "Errors",
    )
    assert (empty["msg"], record["msg"], names["msg"], names["stator"]) == ("empty", "record", "names", '{"1":2}')
    assert gone["error"].endswith(": ReferenceError")


SHARED_ERROR = """
import logging
import stator
stator.configure_logging()
error = ConnectionError("down")


def app(environ, start):
    raise error


app = stator.wsgi_app(app, environ={})
for name in "ab":
    try:
        app({"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_X_REQUEST_ID": name}, None)
    except ConnectionError:
        logging.error("failed", exc_info=True)
"""


def test_an_error_of_several_requests_has_the_id_of_none() -> None:
    lines, _ = run(SHARED_ERROR)
    assert [line.get("request_id") for line in lines if line["msg"] == "failed"] == ["a", None]


APP = """
import logging
import stator

stator.configure_logging(service="shop")


async def app(scope, receive, send):
    if scope["type"] == "http":
        logging.getLogger("shop").info("hello")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"home"})


app = stator.asgi_app(app, service="shop")
"""


@pytest.mark.parametrize(
    "command",
    [
        gunicorn("-k=uvicorn_worker.UvicornWorker", "--workers=2", "--access-logfile=-"),
        gunicorn("-k=uvicorn_worker.UvicornWorker", "--workers=2", "--access-logfile=-", "--preload"),
        uvicorn("--workers=2"),
    ],
    ids=["gunicorn", "gunicorn, preloaded", "uvicorn"],
)
def test_workers_have_one_run_and_ids_of_their_own_and_no_access_log(serve_app: ServeApp, command: Any) -> None:
    served = serve_app(APP, command)

    def lines() -> list[Line]:
        served.get("/")
        return served.lines("hello")

    eventually(lambda: len({line["worker_id"] for line in lines()}) == 2)
    assert len({line["run_id"] for line in lines()}) == 1
    assert {line["app_id"] for line in lines()} == {"shop"}
    assert "GET / HTTP" not in served.output + served.errors


RAISES = {
    "ASGI": """
async def app(scope, receive, send):
    if scope["type"] == "http":
        raise LookupError("no such shelf")
""",
    "WSGI": """
def app(environ, start_response):
    raise LookupError("no such shelf")
""",
}


@pytest.mark.parametrize(
    ("kind", "command", "message"),
    [
        ("ASGI", uvicorn(), "Exception in ASGI application"),
        ("ASGI", gunicorn("-k=uvicorn_worker.UvicornWorker"), "Exception in ASGI application"),
        ("WSGI", gunicorn("-k=sync"), "Error handling request"),
        ("WSGI", gunicorn("-k=gthread"), "Error handling request"),
    ],
)
def test_a_servers_line_about_an_error_has_the_ids_of_its_request(
    serve_app: ServeApp, kind: str, command: Any, message: str
) -> None:
    wrap = f"app = stator.{kind.lower()}_app(app, service='shop')"
    served = serve_app(f"import stator\nstator.configure_logging(service='shop')\n{RAISES[kind]}\n{wrap}", command)
    for name in ("first", "second"):
        served.get("/", {"X-Request-ID": name})

    def lines() -> list[Line]:
        return [line for line in served.lines() if line["msg"].startswith(message)]

    eventually(lambda: len(lines()) == 2)
    assert [(line["request_id"], line["error"]["type"]) for line in lines()] == [
        ("first", "LookupError"),
        ("second", "LookupError"),
    ]


def test_a_formatter_makes_lines_for_handlers_of_ones_own() -> None:
    formatter = stator.LineFormatter(service="shop", environ={})
    record = logging.getLogger("shop").makeRecord("shop", logging.WARNING, "f", 1, "sold %d", (3,), None)
    line = json.loads(formatter.format(record))
    assert (line["msg"], line["level"], line["logger"], line["app_id"]) == ("sold 3", "warning", "shop", "shop")
    assert line["run_id"]
    assert line["worker_id"]


def test_a_processor_adds_the_ids_to_a_structlog_of_ones_own() -> None:
    add = stator.add_ids(service="shop", environ={})
    event = add(None, "info", {"event": "sold", "run_id": "mine"})
    assert (event["app_id"], event["run_id"]) == ("shop", "mine")
    assert event["worker_id"] == add(None, "info", {})["worker_id"]
