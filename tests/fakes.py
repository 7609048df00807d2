"""Stand-ins for a discovery service: real servers on 127.0.0.1 that answer well, badly, slowly or not at all."""

import json
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
from urllib.parse import unquote, urlsplit

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

    It remembers what is registered, and shows it; where Consul's would wait for a change it waits `patience` at most.

    Attributes:
        status: Status of the next answers.
        body: Body of the next answers; empty to answer what Consul's would.
        services: What is registered, by id.
        maintained: Ids of services that an operator has set to be in maintenance.
        no_such_endpoint: What it answers for a single service with status 404, where it can show only all.
        answers: Bodies of the next answers by endpoint: `service`, `services` or `checks`.
        patience: Seconds that it waits for a change at most, when it's asked to.
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
        self.services: dict[str, Any] = {}
        self.maintained: set[str] = set()
        self.no_such_endpoint: bytes | None = None
        self.answers: dict[str, bytes] = {}
        self.patience = 0.0
        self._ended = threading.Event()
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

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        super().__exit__(*error)

    def answer(self, request: Request) -> tuple[int, bytes]:
        """Status and body of the answer to a request."""
        if self.status != 200 or self.body:
            return self.status, self.body
        url = urlsplit(request.path)
        parts = url.path.removeprefix("/v1/agent/").split("/")
        if request.method == "GET" and parts[0] in self.answers:
            return 200, self.answers[parts[0]]
        match parts:
            case ["service", "register"]:
                registered = json.loads(request.body)
                self.services[registered["ID"]] = {**registered, "Service": registered["Name"], "ContentHash": "1"}
            case ["service", "deregister", quoted]:
                self.services.pop(unquote(quoted), None)
            case ["service", quoted]:
                self._ended.wait(self.patience if "hash" in url.query else 0)
                return self._one(unquote(quoted))
            case ["services"]:
                return 200, json.dumps(self.services).encode()
            case ["checks"]:
                checks = {f"service:{id_}": {"ServiceID": id_} for id_ in self.services}
                checks |= {f"_service_maintenance:{id_}": {"ServiceID": id_} for id_ in self.maintained}
                return 200, json.dumps(checks).encode()
        return 200, b""

    def _one(self, id_: str) -> tuple[int, bytes]:
        if self.no_such_endpoint is not None:
            return 404, self.no_such_endpoint
        if id_ not in self.services:
            return 404, f"unknown service ID: {id_}".encode()
        return 200, json.dumps(self.services[id_]).encode()


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
        agent.requests.append(request := Request(self.command, self.path, self.headers, body))
        status, answer = agent.answer(request)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(answer)), **agent.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = answer  # noqa: N815 # the standard library's names

    def log_message(self, *_: object) -> None:
        pass


class MisbehavingServer(_StandIn):
    """Passes each connection, once it has received something, to an `act`.

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
                    _hang_up(self.request)
                self.request.close()
                stand_in.closed += 1

        super().__init__(_TcpServer(("127.0.0.1", 0), Handler))

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        super().__exit__(*error)


def _hang_up(peer: socket.socket) -> None:
    """Sends no more, and reads what is still to come: what was not read would make the end a reset."""
    peer.shutdown(socket.SHUT_WR)
    peer.settimeout(0.2)
    while peer.recv(1 << 16):
        pass


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


def floods(data: bytes, *, start: bytes = b"") -> Any:
    """Answers with a start, then these bytes, again and again, as fast as they are read."""

    def act(peer: socket.socket, ended: threading.Event) -> None:
        peer.sendall(start)
        while not ended.is_set():
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
