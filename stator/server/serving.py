"""Gunicorn as we run it: its settings, its log, and a worker that lets go of idle connections when it stops."""

import asyncio
import errno
import gc
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.glogging import Logger
from gunicorn.workers.gasgi import ASGIWorker
from structlog.contextvars import bind_contextvars

from stator.log import new_id
from stator.processes import Processes

SHARED_MEMORY = "/dev/shm"  # noqa: S108 # where heartbeats wait for no disk
# What accept(2) fails with where there is no room for one more connection.
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
WORKER_SIGNALS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)
# Seconds on the way out in which who has connected is still let in, and in which who was let in may still ask.
LAST_CALL = 0.05


def serve(load: Callable[[], Any], listener_fd: int, workers: int, timeout: float, processes: Processes) -> None:
    """Runs gunicorn's arbiter in this process until it is told to stop.

    Args:
        load: Makes the ASGI application.
        listener_fd: A listening socket; it is closed in the end.
        workers: Number of worker processes.
        timeout: Characteristic time in seconds: for a request to come, and for requests to end on the way out.
        processes: Where this process, and each worker, is entered.

    Raises:
        SystemExit: Always, with gunicorn's status.
    """
    processes.enter("arbiter")
    seconds = max(1, round(timeout))
    settings = {
        "bind": [f"fd://{listener_fd}"],
        "workers": workers,
        "worker_class": Worker,
        "logger_class": Log,
        "preload_app": True,
        "asgi_loop": "asyncio",
        "asgi_lifespan": "off",
        "keepalive": seconds,
        "graceful_timeout": seconds,
        "worker_tmp_dir": SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None,
        "control_socket_disable": True,
        "pre_fork": _number_worker,
        "post_fork": partial(_enter_worker, processes),
    }
    _Arbiter(_Application(load, settings)).run()


class _Arbiter(Arbiter):
    """Gunicorn's arbiter, whose workers miss no signal between their fork and their own handlers.

    Gunicorn's would wait for such a worker as long as the graceful timeout, and then kill it. And it would end with all
    workers where the system refuses it a further one.
    """

    _refused: int | None = None

    def spawn_worker(self) -> Any:
        """Called by gunicorn, which tries again after a second; does not return in the worker.

        Returns:
            The new worker's process id, or None where there is none.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, WORKER_SIGNALS)
        try:
            pid = super().spawn_worker()
        except OSError as error:
            if self._refused != error.errno:
                self.log.error("can't start a worker, trying again: %s", error)
            self._refused = error.errno
            return None
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WORKER_SIGNALS)
        self._refused = None
        return pid


class _Application(BaseApplication):
    """Gunicorn's idea of an application: settings, and a function that makes it."""

    def __init__(self, load: Callable[[], Any], settings: dict[str, Any]) -> None:
        self._load, self._settings = load, settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        app = self._load()
        # What is alive now lives as long as the workers: they need not look at it, nor copy its pages to do so.
        gc.collect()
        gc.freeze()
        return app


class Log(Logger):
    """Leaves gunicorn's messages to the standard library's root logger, and so to ours; no access log."""

    def setup(self, cfg: Any) -> None:
        """Called by gunicorn at start and at reload."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class Connection(ASGIProtocol):
    """Gunicorn's connection, known to its worker, and with a limit on how long the first request may take."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        super().connection_made(transport)
        self.worker.connections.add(self)
        self._arm_keepalive_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self.worker.connections.discard(self)
        super().connection_lost(exc)

    def close_if_idle(self) -> None:
        """Ends a connection on which no request is being answered."""
        if self._awaiting_request:
            self._keepalive_timeout()

    def _send_error_response(self, status: int, message: str, extra_headers: Sequence[tuple[str, str]] = ()) -> None:
        if self._closed:
            return  # the client left before it was answered
        self.log.warning("request refused with status %d: %s", status, message)
        super()._send_error_response(status, message, extra_headers)


class Listener(socket.socket):
    """A listening socket that refuses only once where there is no room for one more connection.

    asyncio tries 2048 times, with a line in the log for each, before it leaves the socket alone for a second.
    """

    _is_full = False

    def accept(self) -> tuple[socket.socket, Any]:
        """Called by asyncio; raises OSError."""
        if self._is_full:
            self._is_full = False
            raise BlockingIOError
        try:
            return super().accept()
        except OSError as error:
            self._is_full = error.errno in NO_ROOM
            raise


class Worker(ASGIWorker):
    """Gunicorn's ASGI worker, which ends as soon as the requests that it has begun are answered.

    Gunicorn's own notices a signal up to a second later, and waits for keep-alive connections to end by themselves.
    """

    alive: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connections: set[Connection] = set()
        self.number = 0
        self._stopping = asyncio.Event()

    def init_signals(self) -> None:
        """Called by gunicorn in the new process."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WORKER_SIGNALS)

    def handle_exit_signal(self) -> None:
        """Called in the event loop at SIGTERM."""
        super().handle_exit_signal()
        self._stopping.set()

    def handle_quit_signal(self) -> None:
        """Called in the event loop at SIGQUIT and SIGINT."""
        super().handle_quit_signal()
        self._stopping.set()

    async def _serve(self) -> None:
        for listener in self.sockets:
            listener.sock = Listener(fileno=listener.sock.detach())
            server = await self.loop.create_server(
                lambda: Connection(self), sock=listener.sock, backlog=self.cfg.backlog
            )
            self.servers.append(server)
        while self.alive and self.ppid == os.getppid():
            self.notify()
            await self._stopped_within(1.0)
        self.alive = False
        await self._last_call()
        waiting = [connected for listener in self.sockets for connected in _waiting(listener.sock)]
        for server in self.servers:
            server.close()
        for connected in waiting:
            await self.loop.connect_accepted_socket(lambda: Connection(self), connected)
        await self._last_call()
        await self._finish()

    async def _last_call(self) -> None:
        if not self._quick_shutdown:
            await asyncio.sleep(LAST_CALL)

    async def _finish(self) -> None:
        """Waits for requests that were begun, as long as the graceful timeout."""
        deadline = self.loop.time() + self.cfg.graceful_timeout
        while self.connections and self.loop.time() < deadline and not self._quick_shutdown:
            for connection in list(self.connections):
                connection.close_if_idle()
            self.notify()
            await asyncio.sleep(0.01)

    async def _stopped_within(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


def _waiting(listener: socket.socket) -> Iterator[socket.socket]:
    """Those who have connected, but were not yet let in: the kernel would reset them."""
    with suppress(OSError):
        while True:
            connected, _ = listener.accept()
            connected.setblocking(False)
            yield connected


def _number_worker(arbiter: Arbiter, worker: Worker) -> None:
    """Gives a worker the lowest number that no other has, and so that of the one that it replaces."""
    taken = {each.number for each in arbiter.WORKERS.values()}
    worker.number = next(number for number in count(1) if number not in taken)


def _enter_worker(processes: Processes, _arbiter: Arbiter, worker: Worker) -> None:
    bind_contextvars(worker_id=new_id())
    processes.enter("worker", worker.number)
