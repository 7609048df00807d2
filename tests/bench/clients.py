"""A load of scrapes that costs little itself: plain sockets, one thread, every connection kept alive."""

import selectors
import socket
import time
from typing import NamedTuple

# Stands for a length that no header tells; such an answer ends with a chunk of no length.
CHUNKED = -1
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
    """One connection that asks for the same path again and again."""

    def __init__(self, port: int, path: str, headers: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n{headers}\r\n".encode()
        self._answer = bytearray()
        self._length = 0
        self._asked = 0.0
        # Memory that is made anew for each part would cost more than to take it.
        self._part = bytearray(PART)

    def ask(self) -> None:
        self._answer.clear()
        self._length = 0
        self._asked = time.perf_counter()
        self.socket.sendall(self._request)

    def answered(self) -> float | None:
        """Takes what has come; seconds since it was asked for once all is there."""
        taken = self.socket.recv_into(self._part)
        if not taken:
            msg = "the server hung up"
            raise ConnectionError(msg)
        self._answer += memoryview(self._part)[:taken]
        if not self._length and (end := self._answer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._answer[:end]).lower()
            if b" 200 " not in head.split(b"\r\n")[0]:
                raise ConnectionError(head.decode())
            length = head.partition(b"content-length:")[2].split(b"\r\n")[0]
            self._length = end + 4 + int(length) if length else CHUNKED
        if not self._length:
            return None
        whole = self._answer.endswith(LAST_CHUNK) if self._length == CHUNKED else len(self._answer) >= self._length
        return time.perf_counter() - self._asked if whole else None


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
