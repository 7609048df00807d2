"""Serves /metrics and /monitor from threads, for a program that has no server of its own."""

import socket
import threading
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from typing import Any, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from stator.log.logger import Log
from stator.server.listener import listening_address

# Requests that are answered at the same time; connections beyond these are closed.
MOST = 64


class Serving:
    """A server in a thread; it ends with the program, by `stop`, or with its context."""

    def __init__(self, app: WSGIApplication, listener: socket.socket, timeout: float, log: Log) -> None:
        self._server = _Server(app, listener, timeout, log)
        self._thread = threading.Thread(target=self._server.serve_forever, name="stator-serve", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return self._server.server_port

    def stop(self) -> None:
        """Closes the port; requests that have begun are still answered. Further calls do nothing."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads, block_on_close = True, False

    def __init__(self, app: WSGIApplication, listener: socket.socket, timeout: float, log: Log) -> None:
        # The handler's class has the timeout, and there may be several servers.
        handler = type("Handler", (_Handler,), {"timeout": timeout})
        super().__init__(listener.getsockname()[:2], handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        # Not as WSGIServer does it, which asks the resolver for the host's name.
        self.server_name, self.server_port = listening_address(listener)
        self.setup_environ()
        self.set_app(_without_version(app))
        self._log, self._free = log, threading.BoundedSemaphore(MOST)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Called with each new connection: answers it in a thread, if not too many are being answered."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Called in that thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """Called for what a connection raises, mostly that the client has left."""
        self._log.debug("a connection failed", remote_ip=client_address[0], exc_info=True)


def _without_version(app: WSGIApplication) -> WSGIApplication:
    """Returns an application that names itself as the server; else wsgiref would, with its version and Python's."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, [*headers, ("Server", "stator")], *error)

        return app(environ, start)

    return answer


class _Handler(WSGIRequestHandler):
    def address_string(self) -> str:
        """Returns the client's address, whose name nobody needs."""
        return str(self.client_address[0])

    def log_message(self, *_: object) -> None:
        """Logs no requests: scrapes and health checks would fill a script's stderr."""
