"""Gunicorn's worker as we run it: it lets go of idle connections when it stops."""

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from gunicorn.workers.gasgi import ASGIWorker

from stator.server.protocol import Connection

# What accept(2) fails with where there is no room for one more connection.
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
# Signals that a worker is told to stop by.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)
# Seconds on the way out in which who has connected is still let in, and in which who was let in may still ask.
LAST_CALL = 0.05


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
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def handle_exit_signal(self) -> None:
        """Called in the event loop at SIGTERM."""
        super().handle_exit_signal()
        self._stopping.set()

    def handle_quit_signal(self) -> None:
        """Called in the event loop at SIGQUIT and SIGINT."""
        super().handle_quit_signal()
        self._stopping.set()

    def run(self) -> None:
        """Called by gunicorn; returns when the worker has stopped."""
        try:
            super().run()
        finally:
            self.asgi.let_go()

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
