"""What the program reports to the service manager that started it, by the protocol of sd_notify(3)."""

import os
import secrets
import signal
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Self

import pytest

from stator.server.service_manager import ServiceManager
from tests.fakes import Agent
from tests.program import MODULE, Program, eventually, stand_still
from tests.server.conftest import Starts

# The watchdog is for this process, whose id its shell knows alone.
WATCHED = ("sh", "-c", 'WATCHDOG_PID=$$ exec "$0" "$@"', *MODULE)
CREDENTIALS = struct.Struct("3i")  # process, user and group: unix(7), SCM_CREDENTIALS


class Message(NamedTuple):
    """What a process sent."""

    pid: int
    text: str


class Receiver:
    """The socket at which a service manager listens; as systemd does, it asks the kernel who has sent a message."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.messages: list[Message] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(address.replace("@", "\0"))
        self._socket.settimeout(0.01)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def next(self) -> Message | None:
        """The next message, if there is one within a moment."""
        try:
            data, control, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(CREDENTIALS.size))
        except TimeoutError:
            return None
        ((_, _, credentials),) = control
        message = Message(CREDENTIALS.unpack(credentials)[0], data.decode())
        self.messages.append(message)
        return message

    def receive(self) -> list[str]:
        """All messages so far."""
        while self.next():
            pass
        return [message.text for message in self.messages]

    def wait_for(self, text: str, times: int = 1) -> None:
        """Waits until a message has come so many times."""
        eventually(lambda: self.receive().count(text) >= times)

    def statuses(self) -> list[str]:
        """The states of the registration so far."""
        return [text.removeprefix("STATUS=") for text in self.receive() if text.startswith("STATUS=")]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(str(tmp_path / "notify")) as receiver:
        yield receiver


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as agent:
        yield agent


def notified(manager: Receiver, *, watchdog: float = 0.0) -> Mapping[str, str]:
    """Variables as a service manager sets them; the watchdog's time is in seconds."""
    usec = {"WATCHDOG_USEC": str(int(watchdog * 1e6))} if watchdog else {}
    return {"NOTIFY_SOCKET": manager.address, **usec}


def discovery(uri: str) -> Mapping[str, str]:
    return {"STTR_CLIENT_BASEURI": uri, "STTR_ROSTER_SERVICE_ID": "1"}


def abstract(_folder: Path) -> str:
    return f"@stator-{secrets.token_hex(8)}"


def path(folder: Path) -> str:
    return str(folder / "notify")


@pytest.mark.parametrize("address", [path, abstract])
def test_the_main_process_reports_each_step_once_and_no_other_process_reports(
    starts: Starts, agent: Agent, tmp_path: Path, address: object
) -> None:
    assert callable(address)
    with Receiver(address(tmp_path)) as manager:
        program = starts({**notified(manager), **discovery(agent.uri), "STTR_SERVER_WORKERS": "2"})
        manager.wait_for("STATUS=registered as stator-1")
        assert program.stop() == 0
        assert manager.receive() == [
            "READY=1",
            "STATUS=registering",
            "STATUS=registered as stator-1",
            "STOPPING=1",
            "STATUS=unregistering",
            "STATUS=unregistered",
        ]
        assert {message.pid for message in manager.messages} == {program.pid}


def test_it_is_ready_when_it_answers_whether_consul_does_or_not(starts: Starts, manager: Receiver) -> None:
    program = starts({**notified(manager), **discovery("http://127.0.0.1:1")})
    manager.wait_for("READY=1")
    assert program.get("/monitor").status == 200
    eventually(lambda: [status for status in manager.statuses() if status.startswith("not registered: ")])
    assert not program.lines("registered")


def test_it_is_not_ready_if_it_can_not_start(starts: Starts, manager: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        program = starts({**notified(manager), "STTR_SERVER_PORT": str(taken.getsockname()[1])})
        assert program.ended() == 1
    assert "READY=1" not in manager.receive()


def test_the_status_follows_the_registration(starts: Starts, manager: Receiver, agent: Agent) -> None:
    starts({**notified(manager), **discovery(agent.uri), "STTR_ROSTER_INTERVAL": "100ms"})
    manager.wait_for("STATUS=registered as stator-1")
    agent.status = 500
    eventually(lambda: manager.statuses()[-1].startswith("not registered: "))
    agent.status = 200
    manager.wait_for("STATUS=registered as stator-1", times=2)


def test_the_status_says_that_there_is_nowhere_to_register(starts: Starts, manager: Receiver) -> None:
    starts(notified(manager))
    manager.wait_for("STATUS=not registering: no discovery service is configured")


def test_no_secret_is_in_the_status(starts: Starts, manager: Receiver, agent: Agent) -> None:
    agent.status, agent.body = 403, b"no such token: hunter2hunter2"
    starts({**notified(manager), **discovery(agent.uri), "STTR_CONSUL_TOKEN": "hunter2hunter2"})
    (reason,) = eventually(lambda: [status for status in manager.statuses() if "no such token" in status])
    assert "hunter2" not in reason


def test_a_status_is_one_line_whatever_is_in_it(manager: Receiver) -> None:
    ServiceManager.take({"NOTIFY_SOCKET": manager.address}).status("refused:\nMAINPID=1\r\n\udcff ü")
    assert manager.receive() == ["STATUS=refused: MAINPID=1 ? ü"]


def test_what_it_starts_can_not_report_in_its_name(starts: Starts, manager: Receiver) -> None:
    plugin = """
import os
from stator.points import Point
PRESENT = [name for name in os.environ if name.startswith(("NOTIFY_", "WATCHDOG_"))]
class Seen:
    def collect(self, now):
        present = [name for name in os.environ if name.startswith(("NOTIFY_", "WATCHDOG_"))]
        yield Point("seen_variables", "Variables of the service manager", len(PRESENT + present))
"""
    program = starts(
        {**notified(manager, watchdog=60), "STTR_COLLECTORS": "seen:Seen"}, modules={"seen": plugin}, command=WATCHED
    )
    program.wait_for("ready")
    assert b"seen_variables 0" in program.get("/metrics").body


def test_the_watchdog_hears_of_it_until_its_end(starts: Starts, manager: Receiver) -> None:
    drain = {"STTR_ROSTER_DRAIN": "2s"}  # in which /monitor answers 503
    program = starts({**notified(manager, watchdog=0.2), **drain}, command=WATCHED)
    manager.wait_for("WATCHDOG=1", times=3)
    program.send(signal.SIGTERM)
    manager.wait_for("STOPPING=1")
    before = manager.receive().count("WATCHDOG=1")
    eventually(lambda: program.get("/monitor").status == 503)
    manager.wait_for("WATCHDOG=1", times=before + 3)
    assert program.ended() == 0


def test_the_watchdog_hears_nothing_while_the_workers_hang(starts: Starts, manager: Receiver) -> None:
    program = starts({**notified(manager, watchdog=0.2), "STTR_SERVER_WORKERS": "2"}, command=WATCHED)
    manager.wait_for("WATCHDOG=1", times=3)
    _hang(program)
    program.wait_for("the service does not answer itself; its watchdog waits 0.2 seconds", level="warning")
    before = manager.receive().count("WATCHDOG=1")
    quiet(manager)
    assert manager.receive().count("WATCHDOG=1") <= before + 1  # an answer may have been under way
    for worker in program.workers:
        os.kill(worker.pid, signal.SIGCONT)
    manager.wait_for("WATCHDOG=1", times=before + 3)


def test_the_watchdog_hears_again_of_a_service_that_could_not_be_asked(manager: Receiver) -> None:
    asked: list[None] = []

    def is_alive() -> bool:
        asked.append(None)
        if len(asked) == 2:
            raise MemoryError
        if len(asked) == 5:
            threading.Event().wait()  # for as long as the tests run
        return True

    watched = {**notified(manager, watchdog=0.02), "WATCHDOG_PID": str(os.getpid())}
    ServiceManager.take(watched).ready(is_alive)
    eventually(lambda: len(asked) == 5)
    assert manager.receive() == ["READY=1", *["WATCHDOG=1"] * 3]


def _hang(program: Program) -> None:
    for worker in program.workers:
        stand_still(worker.pid)


def quiet(manager: Receiver) -> None:
    """Waits until for two seconds, which are ten times the watchdog's, nothing has come; for ten seconds at most."""
    for _ in range(5):
        before = len(manager.receive())
        if not any(manager.next() for _ in range(200)) and len(manager.messages) == before:
            return


@pytest.mark.parametrize(
    "watchdog",
    [{"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "0"}],
    ids=["another process", "not a number", "none"],
)
def test_no_watchdog_that_is_not_its_own_hears_of_it(
    starts: Starts, manager: Receiver, watchdog: dict[str, str]
) -> None:
    program = starts({**notified(manager), **watchdog, "STTR_ROSTER_DRAIN": "500ms"})
    manager.wait_for("READY=1")
    assert program.stop() == 0
    assert "WATCHDOG=1" not in manager.receive()


def test_a_manager_that_is_gone_is_logged_once(starts: Starts, tmp_path: Path) -> None:
    gone = {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "20000"}
    program = starts({**gone, "STTR_ROSTER_DRAIN": "500ms"})
    program.wait_for("ready")
    assert program.get("/monitor").status == 200
    assert program.stop() == 0
    (warning,) = program.lines(level="warning")
    assert warning["msg"] == "can't report to the service manager: [Errno 2] No such file or directory"


@pytest.mark.parametrize("address", ["", "vsock:2:9999", "notify"])
def test_without_a_socket_of_this_machine_nothing_is_reported(starts: Starts, address: str) -> None:
    program = starts({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000"})
    program.wait_for("ready")
    assert program.stop() == 0
    assert program.lines(level="warning") == []
