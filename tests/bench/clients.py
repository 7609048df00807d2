"""A load of scrapes that costs little itself: plain sockets, one thread, every connection kept alive."""

import re
import selectors
import socket
import time
from typing import NamedTuple

# Stand for a length that is not known yet, and for one that no header tells: such an answer ends with an empty chunk.
UNKNOWN, CHUNKED = -1, -2
LENGTH = re.compile(rb"\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
LAST_CHUNK = b"\r\n0\r\n\r\n"
# Bytes that are taken at a time.
PART = 256 * 1024
PROMETHEUS = "Accept: text/plain;version=0.0.4\r\nUser-Agent: bench\r\n"


class Load(NamedTuple):
    """What a load showed.

    Attributes:
        rate: Answers a second.
        latencies: Seconds that each answer took, ascending.
    """

    rate: float
    latencies: list[float]

    def percentile(self, share: float) -> float:
        """The latency in seconds that so many of a hundred answers stay below."""
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share / 100))]


class Client:
    """One connection that asks for the same path again and again, and looks at no more of an answer than it must."""

    def __init__(self, port: int, path: str, headers: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n{headers}\r\n".encode()
        # Memory that is made anew for each part would cost more than to take it.
        self._part = bytearray(PART)
        self._missing = UNKNOWN
        self._end = b""
        self._asked = 0.0

    def ask(self) -> None:
        self._missing, self._end = UNKNOWN, b""
        self._asked = time.perf_counter()
        self.socket.sendall(self._request)

    def answered(self) -> float | None:
        """Takes what has come; seconds since it was asked for once all is there.

        Raises:
            ConnectionError: The server hung up, or answered otherwise than with status 200.
        """
        taken = self.socket.recv_into(self._part)
        if self._missing == UNKNOWN:
            self._missing = self._length(taken)
        if self._missing == CHUNKED:
            self._end = (self._end + self._part[max(0, taken - len(LAST_CHUNK)) : taken])[-len(LAST_CHUNK) :]
            is_whole = self._end == LAST_CHUNK
        else:
            self._missing -= taken
            is_whole = self._missing <= 0
        if not taken and not is_whole:
            msg = "the server hung up"
            raise ConnectionError(msg)
        return time.perf_counter() - self._asked if is_whole else None

    def _length(self, taken: int) -> int:
        """Bytes of an answer whose first part, with all of its head, has come."""
        end = self._part.find(b"\r\n\r\n", 0, taken)
        if not (self._part.startswith(b"HTTP/1.1 200 ") and end > 0):
            raise ConnectionError(bytes(self._part[:taken]).decode())
        length = LENGTH.search(self._part, 0, end + 2)
        return end + 4 + int(length[1]) if length else CHUNKED


def load(port: int, requests: int, connections: int, headers: str = PROMETHEUS, path: str = "/metrics") -> Load:
    """Asks so many times over so many connections, each of which waits for its answer before it asks again."""
    latencies: list[float] = []
    with selectors.DefaultSelector() as waiting:
        clients = [Client(port, path, headers) for _ in range(connections)]
        begin = time.perf_counter()
        for client in clients:
            waiting.register(client.socket, selectors.EVENT_READ, client)
            client.ask()
        while len(latencies) < requests:
            for key, _ in waiting.select(60):
                if (taken := key.data.answered()) is not None:
                    latencies.append(taken)
                    key.data.ask()
        seconds = time.perf_counter() - begin
        for client in clients:
            client.socket.close()
    return Load(len(latencies) / seconds, sorted(latencies))
