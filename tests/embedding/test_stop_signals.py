"""Stop signals reach a server after what is to be done before; each test's server is a process of its own."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.program import ROOT

Server = subprocess.Popen[str]
# Prints what happens, a line each. `before` takes a second, unless it's interrupted.
PREAMBLE = """
import asyncio, os, signal, sys, threading, time
from stator.embedding.stop_signals import StopSignals

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def before():
    is_main = threading.current_thread() is threading.main_thread()
    say("before", "in the handler" if is_main else "in a thread")
    time.sleep(1)
    say("done")

def stop(number, frame):
    say("stop", signal.Signals(number).name)

for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, stop)
signals = StopSignals(before)
"""
THREADED = """
signals.delay()
say("ready")
while True:
    time.sleep(60)
"""
# A server whose loop goes on.
ASYNC = """
async def serve():
    signals.delay()
    say("ready")
    while True:
        await asyncio.sleep(0.5)
        say("serving")

asyncio.run(serve())
"""
LOOP_HANDLER = """
async def serve():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop, signal.SIGTERM, None)
    signals.delay()
    say("ready")
    await asyncio.sleep(60)

asyncio.run(serve())
"""
RESTORED = THREADED.replace("signals.delay()", "signals.delay()\nsignals.restore()")
UNHANDLED = """
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
"""


@pytest.fixture
def start_server() -> Iterator[Callable[[str], Server]]:
    with ExitStack() as running:

        def start(code: str) -> Server:
            server = running.enter_context(
                subprocess.Popen([sys.executable, "-c", PREAMBLE + code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
            )
            running.callback(server.kill)
            assert line(server) == "ready"
            return server

        yield start


def line(server: Server) -> str:
    assert server.stdout is not None
    return server.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_server_afterwards(start_server: Callable[[str], Server], number: signal.Signals) -> None:
    server = start_server(THREADED)
    server.send_signal(number)
    assert [line(server) for _ in range(3)] == ["before in the handler", "done", f"stop {number.name}"]


def test_an_event_loop_goes_on_meanwhile(start_server: Callable[[str], Server]) -> None:
    server = start_server(ASYNC)
    server.send_signal(signal.SIGTERM)
    lines = [line(server)]
    while not lines[-1].startswith("stop"):
        lines.append(line(server))
    assert [each for each in lines if each != "serving"] == ["before in a thread", "done", "stop SIGTERM"]
    assert "serving" in lines[lines.index("before in a thread") : lines.index("done")]


@pytest.mark.parametrize("code", [THREADED, ASYNC], ids=["handler", "event loop"])
def test_a_second_signal_reaches_the_server_at_once(start_server: Callable[[str], Server], code: str) -> None:
    server = start_server(code)
    server.send_signal(signal.SIGTERM)
    assert line(server).startswith("before")
    time.sleep(0.3)
    server.send_signal(signal.SIGINT)
    began = time.monotonic()
    while (event := line(server)) == "serving":
        pass
    assert event.startswith("stop")
    assert time.monotonic() - began < 0.5


def test_two_signals_at_the_same_time_count_as_one(start_server: Callable[[str], Server]) -> None:
    server = start_server(THREADED)
    server.send_signal(signal.SIGTERM)
    assert line(server).startswith("before")
    server.send_signal(signal.SIGTERM)
    assert [line(server), line(server)] == ["done", "stop SIGTERM"]


def test_restored_handlers_are_called_at_once(start_server: Callable[[str], Server]) -> None:
    server = start_server(RESTORED)
    server.send_signal(signal.SIGTERM)
    assert line(server) == "stop SIGTERM"


def test_what_an_event_loop_handles_itself_is_left_to_it(start_server: Callable[[str], Server]) -> None:
    server = start_server(LOOP_HANDLER)
    server.send_signal(signal.SIGTERM)
    assert line(server) == "stop SIGTERM"


def test_a_server_without_handlers_ends_as_ever(start_server: Callable[[str], Server]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        server = start_server(UNHANDLED + THREADED)
        server.send_signal(number)
        assert server.wait(10) == -number
