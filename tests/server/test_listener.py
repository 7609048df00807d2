"""Who has begun to connect when a listening socket is about to be closed is let in, and nobody else."""

import socket

import pytest

from stator.server.listener import drop_new_connections
from tests.program import cannot


def test_a_client_that_is_connected_is_served_and_a_later_one_ignored_until_it_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = listener.getsockname()
        with socket.create_connection(where) as served, socket.create_connection(where) as waiting:
            accepted, _ = listener.accept()
            with accepted:
                if not drop_new_connections(listener):
                    cannot("the kernel lets only root attach a filter to a socket")
                served.sendall(b"ask")
                assert accepted.recv(9) == b"ask"
                accepted.sendall(b"answer")
                assert served.recv(9) == b"answer"
            late, _ = listener.accept()
            with late:
                waiting.sendall(b"ask")
                assert late.recv(9) == b"ask"
            with pytest.raises(TimeoutError):
                socket.create_connection(where, timeout=0.2)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where, timeout=5)
