"""Uvicorn's worker for gunicorn, with a stop that loses no request."""

import asyncio
import logging
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, ClassVar

import uvicorn
from uvicorn_worker import UvicornWorker

from stator.control.numbers import FAULT_SIGNAL
from stator.server.listener import Listener
from stator.server.protocol import Connection, Connections
from stator.server.signals import IGNORED_SIGNALS, ignore_signals

STOP_SIGNALS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)  # the first lets requests end
LOOP_SIGNALS = (*STOP_SIGNALS, signal.SIGHUP)  # which the event loop handles
# What would end a worker that has just begun, and has no handlers yet.
BLOCKED_AT_START = (*LOOP_SIGNALS, signal.SIGUSR1, signal.SIGUSR2)
BLOCKED_AT_END = {*LOOP_SIGNALS, *IGNORED_SIGNALS} - {FAULT_SIGNAL}
TICK, STOP_TICK = 1.0, 0.01  # seconds between two looks at deadlines, and between two at a worker that stops


class Worker(UvicornWorker):
    """A process that serves."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "asyncio",
        "http": Connection,
        "ws": "none",
        "lifespan": "off",
        "interface": "asgi3",
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "timeout_notify": TICK,
        "backlog": 8,  # connections that are accepted at a time, since there may be room for few; see `Listener`
    }
    number = 0  # among the workers, from 1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Uvicorn's messages are logged as all others are, but not those of each start and stop.
        log = logging.getLogger("uvicorn.error")
        log.propagate = True
        log.setLevel(logging.WARNING)

    def init_signals(self) -> None:
        """Called by gunicorn; only the arbiter ends a worker."""
        super().init_signals()
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        ignore_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGUSR1, signal.SIGUSR2))

    async def _serve(self) -> None:
        """Called by uvicorn's worker in the event loop."""
        self.config.app = self.wsgi
        limits = self.app.timeout, self.app.max_connections
        connections = Connections(*limits)
        if self.app.tls is not None:
            from stator.server.secure import SecureConnection, SecureConnections

            self.config.http = SecureConnection
            connections = SecureConnections(*limits, self.app.tls, self.app.probe_key)
        server = Server(self.config, connections, self.cfg.graceful_timeout, self.app.reload)
        await server.serve([Listener(fileno=each.sock.detach()) for each in self.sockets])


class Server(uvicorn.Server):
    """Uvicorn's server, which stops at once at a signal, and answers all who have connected by then."""

    def __init__(
        self,
        config: uvicorn.Config,
        connections: Connections,
        patience: float,
        reload: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(config)
        self.server_state = self._connections = connections
        self._reload = reload  # reads files again, at SIGHUP
        self._patience = patience  # seconds that requests may take to end at a stop
        self._stopping = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Called by uvicorn around all that the server does."""
        loop = asyncio.get_running_loop()
        for each in STOP_SIGNALS:
            loop.add_signal_handler(each, self.handle_exit, each, None)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LOOP_SIGNALS)
        yield
        # The arbiter may send another, and the event loop restores the handlers that kill. Before that it closes the
        # socket that each signal with a handler is written to.
        signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_AT_END)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # uvicorn's signature
        """Called at a signal; all but SIGTERM end the server without waiting for requests."""
        self.should_exit = True
        self.force_exit = self.force_exit or sig != signal.SIGTERM
        self._stopping.set()

    async def main_loop(self) -> None:
        """Called by uvicorn; returns when the server is to stop."""
        while not await self.on_tick(0):
            self._connections.end_expired()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), TICK)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn; accepts who has connected, answers requests that were begun, and closes connections."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        await self._last_call()
        while select.select(sockets or (), (), (), 0)[0] and loop.time() < deadline and not self.force_exit:
            await asyncio.sleep(STOP_TICK)
        for server in self.servers:
            server.close()
        # An answer that is sent during the last call says that the connection will be closed, as later ones do.
        for connection in self._connections.connections:
            if isinstance(connection, Connection) and connection.is_answering:
                connection.shutdown()
        await self._last_call()
        while self._connections.connections and loop.time() < deadline and not self.force_exit:
            for connection in list(self._connections.connections):
                connection.shutdown()
            self._connections.end_expired()
            await self.on_tick(0)
            await asyncio.sleep(STOP_TICK)
        for connection in self._connections.connections:
            connection.transport.abort()
        # Each request that is cut off is logged already, and uvicorn would log its cancellation with a traceback.
        logging.getLogger("uvicorn.error").disabled = True

    async def _last_call(self) -> None:
        """Gives clients a moment to be accepted, or, once they are, to send a request."""
        if not self.force_exit:
            await asyncio.sleep(0.05)
