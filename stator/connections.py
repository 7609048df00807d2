"""The client's connections: urllib3's, whose answers can't be held up a byte at a time.

A socket's timeout holds for each single read; a peer that sends a byte now and then would never run into it.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

C = TypeVar("C", bound=HTTPConnection)
R = TypeVar("R")


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
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


class _Http(HTTPConnection):
    getresponse = _in_time(HTTPConnection.getresponse)


class _Https(HTTPSConnection):
    getresponse = _in_time(HTTPSConnection.getresponse)  # type: ignore[assignment] # urllib3's differs from its base's


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Https


POOLS: dict[str, type[urllib3.HTTPConnectionPool]] = {"http": _HttpPool, "https": _HttpsPool}
"""Pools of such connections, by a URI's scheme."""
