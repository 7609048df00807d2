"""A program without a server answers from threads of Stator's."""

import http.client
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import stator
from stator.embedding import serving
from tests.program import Answer, eventually

ROOT = Path(__file__).parents[2]


class Jobs:
    """Waits until it may go on."""

    def __init__(self) -> None:
        self.began, self.may_end = threading.Event(), threading.Event()

    def collect(self, _now: float) -> list[stator.Point]:
        self.began.set()
        assert self.may_end.wait(10)
        return [stator.Point("jobs", "Jobs waiting", 7)]


@pytest.fixture
def served() -> Iterator[stator.Serving]:
    with stator.Stator(environ={}, service="mailer").serve(0, host="127.0.0.1") as running:
        yield running


def get(port: int, path: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    return Answer(response.status, dict(response.headers), response.read())


def test_it_answers_scrapes_and_health_checks(served: stator.Serving) -> None:
    assert b"pyrt_threads" in get(served.port, "/metrics").body
    assert get(served.port, "/monitor").status == 200
    assert get(served.port, "/other").status == 404


def test_a_client_that_says_nothing_delays_no_other(served: stator.Serving) -> None:
    with socket.create_connection(("127.0.0.1", served.port)), socket.create_connection(("127.0.0.1", served.port)):
        assert get(served.port, "/monitor").status == 200


def test_it_closes_connections_of_clients_that_say_nothing() -> None:
    environ = {"STTR_SERVER_TIMEOUT": "100ms"}
    with (
        stator.Stator(environ=environ).serve(0, host="127.0.0.1") as running,
        socket.create_connection(("127.0.0.1", running.port), timeout=10) as client,
    ):
        assert client.recv(100) == b""


def test_connections_beyond_the_most_are_closed(served: stator.Serving) -> None:
    held = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(serving.MOST)]
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as one_more:
        assert one_more.recv(100) == b""
    for each in held:
        each.close()
    eventually(lambda: _answers(served.port))


def _answers(port: int) -> bool:
    try:
        return get(port, "/monitor").status == 200
    except (OSError, http.client.HTTPException):
        return False


def test_a_request_that_has_begun_is_answered_after_the_stop() -> None:
    jobs = Jobs()
    running = stator.Stator(environ={}, collectors=[jobs]).serve(0, host="127.0.0.1")
    answers: list[Answer] = []
    client = threading.Thread(target=lambda: answers.append(get(running.port, "/metrics")))
    client.start()
    assert jobs.began.wait(10)
    running.stop()
    jobs.may_end.set()
    client.join()
    assert b"jobs 7" in answers[0].body
    with pytest.raises(ConnectionRefusedError):
        get(running.port, "/monitor")
    running.stop()


def test_a_port_in_use_or_none_is_an_error(served: stator.Serving) -> None:
    with pytest.raises(stator.StartError, match=f"can't listen on 127.0.0.1:{served.port}: Address already in use"):
        stator.Stator(environ={}).serve(served.port, host="127.0.0.1")
    with pytest.raises(stator.ConfigError, match="port=65536: expected the number of a port"):
        stator.Stator(environ={}).serve(65536)


def test_the_variables_say_where_it_listens() -> None:
    environ = {"STTR_SERVER_HOST": "127.0.0.2", "STTR_SERVER_PORT": "0"}
    with stator.Stator(environ=environ).serve() as running:
        (own,) = (each for each in psutil.Process().net_connections("tcp") if each.laddr.port == running.port)
        assert own.laddr.ip == "127.0.0.2"


def test_it_does_not_keep_the_program_running_and_writes_nothing(tmp_path: Path) -> None:
    code = """
import http.client, stator
running = stator.Stator(environ={}).serve(0, host="127.0.0.1")
connection = http.client.HTTPConnection("127.0.0.1", running.port)
connection.request("GET", "/monitor")
print(connection.getresponse().read())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, 'b\'{"status":"ok"}\'\n', "")
