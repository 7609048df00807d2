"""Stand-ins for a discovery service: real servers on 127.0.0.1 that answer well, badly, slowly or not at all."""

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer, ThreadingTCPServer
from typing import Any, NamedTuple, Self

OK = b"HTTP/1.1 200 OK\r\n"


class Request(NamedTuple):
    """What a stand-in was asked."""

    method: str
    path: str
    headers: Message
    body: bytes


class _StandIn:
    """A server in a thread of its own, as a context; `uri` is where it listens."""

    def __init__(self, server: TCPServer, scheme: str = "http") -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        self.uri = f"{scheme}://127.0.0.1:{server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Agent(_StandIn):
    """Answers as Consul's agent does, or with another status and body; with TLS where it gets certificate and key.

    Attributes:
        status: Status of the next answers.
        body: Body of the next answers.
        headers: Further headers of the next answers.
        requests: What was asked so far.
        connections: How many connections there have been.
    """

    def __init__(
        self,
        status: int = 200,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self.status, self.body, self.headers = status, body, headers or {}
        self.requests: list[Request] = []
        self.connections = 0
        server = _Server(("127.0.0.1", 0), _Handler, self)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        super().__init__(server, "https" if tls else "http")

    def asked(self, path: str) -> list[Request]:
        """Requests whose path begins so."""
        return [request for request in self.requests if request.path.startswith(path)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass  # a client that leaves is no news

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], agent: Agent) -> None:
        super().__init__(address, handler)
        self.agent = agent


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.agent.connections += 1

    def answer(self) -> None:
        agent = self.server.agent
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        agent.requests.append(Request(self.command, self.path, self.headers, body))
        self.send_response(agent.status)
        for name, value in {"Content-Length": str(len(agent.body)), **agent.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(agent.body)

    do_GET = do_PUT = answer  # noqa: N815 # the standard library's names

    def log_message(self, *_: object) -> None:
        pass


class Oddity(_StandIn):
    """Does with each connection, once something came on it, what it is told: an `act` gets the connection.

    Attributes:
        connections: How many there have been.
        closed: How many of them are closed.
        ended: Set when the stand-in ends; an act that lasts waits for it.
    """

    def __init__(self, act: "Callable[[socket.socket, threading.Event], None]") -> None:
        self.connections = self.closed = 0
        self.ended = threading.Event()
        stand_in = self

        class Handler(BaseRequestHandler):
            request: socket.socket

            def handle(self) -> None:
                stand_in.connections += 1
                with suppress(OSError):
                    self.request.recv(1 << 16)
                    act(self.request, stand_in.ended)
                self.request.close()
                stand_in.closed += 1

        super().__init__(_TcpServer(("127.0.0.1", 0), Handler))

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        super().__exit__(*error)


class _TcpServer(ThreadingTCPServer):
    daemon_threads = True


def hangs(_peer: socket.socket, ended: threading.Event) -> None:
    """Never answers."""
    ended.wait()


def says(data: bytes, *, times: int = 1) -> Any:
    """Answers with these bytes, however often, and closes."""

    def act(peer: socket.socket, _ended: threading.Event) -> None:
        for _ in range(times):
            peer.sendall(data)

    return act


def drips(data: bytes, *, start: bytes = b"", every: float = 0.1) -> Any:
    """Answers with a start at once, then these bytes, one at a time, again and again."""

    def act(peer: socket.socket, ended: threading.Event) -> None:
        peer.sendall(start)
        while True:
            for byte in data:
                if ended.wait(every):
                    return
                peer.sendall(bytes([byte]))

    return act
