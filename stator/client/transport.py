"""The client's connections: urllib3's, whose answers can't be held up a byte at a time, and that can be cut.

A socket's timeout holds for each single read; a peer that sends a byte now and then would never run into it.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

C = TypeVar("C", bound=HTTPConnection)
R = TypeVar("R")

# A host that vanished without a word is noticed after 30 seconds, even where all wait for its answer.
SOCKET_OPTIONS = (
    *HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


def _in_time(getresponse: Callable[[C], R]) -> Callable[[C], R]:
    """Has an answer's status and headers come within the connection's timeout, all of them together."""

    def bounded(connection: C) -> R:
        late = threading.Event()
        watch = threading.Timer(connection.timeout or 0, _hang_up, (connection.sock, late))
        watch.daemon = True
        watch.start()
        try:
            return getresponse(connection)
        finally:
            watch.cancel()
            # The cut may have looked like the headers' end.
            if late.is_set():
                msg = "timed out"
                raise TimeoutError(msg) from None

    return bounded


def _hang_up(connected: socket.socket, late: threading.Event) -> None:
    late.set()
    _shut(connected)


def _shut(connected: socket.socket) -> None:
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


class Connections:
    """The connections of one client, which another thread can cut."""

    def __init__(self) -> None:
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._lock = threading.Lock()
        self._is_cut = False

    def pools(self) -> dict[str, Any]:
        """What makes pools of such connections, by a URI's scheme, as `urllib3.PoolManager` wants it."""
        return {"http": partial(_HttpPool, connections=self), "https": partial(_HttpsPool, connections=self)}

    def add(self, connected: socket.socket) -> None:
        """Takes note of a new connection.

        Raises:
            ConnectionAbortedError: There are to be none any more.
        """
        with self._lock:
            if not self._is_cut:
                self._sockets.add(connected)
                return
        msg = "cut by ourselves"
        raise ConnectionAbortedError(msg)

    def cut(self) -> None:
        """Ends what is on its way on any connection, and has no new one made."""
        with self._lock:
            self._is_cut = True
            for connected in self._sockets:
                _shut(connected)


class _Http(HTTPConnection):
    def __init__(self, *args: Any, connections: Connections, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._connections = connections

    def connect(self) -> None:
        super().connect()
        self._connections.add(self.sock)

    getresponse = _in_time(HTTPConnection.getresponse)


class _Https(_Http, HTTPSConnection):
    """The same with TLS: what is added comes before urllib3's own, which differ."""


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Https
