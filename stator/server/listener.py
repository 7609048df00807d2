"""The listening socket: how it's made, how connections are accepted from it, and its last moment."""

import errno
import random
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Any

from stator.settings.declare import StartError

BACKLOG = 2048  # connections that the kernel keeps until they are accepted; it may allow fewer
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)  # accept(2) can't open one more connection
BIND_RETRY_DELAY = 0.1  # longest time in seconds until a port that is in use is tried again, once
SO_ATTACH_FILTER = 26  # Linux' asm-generic/socket.h, as on x86 and ARM; Python has no name for it
# A program for the kernel's packet filter, which sees packets from the TCP header on:
# https://www.kernel.org/doc/html/latest/networking/filter.html
_FLAGS, _SYN, _ACK = 13, 0x02, 0x10
_NO_SYN = (
    (0x30, 0, 0, _FLAGS),  # load the byte of flags
    (0x54, 0, 0, _SYN | _ACK),  # keep these two
    (0x15, 0, 1, _SYN),  # is only the first of them set?
    (0x06, 0, 0, 0),  # then drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # otherwise accept it
)


class Listener(socket.socket):
    """A listening socket from which asyncio accepts a few connections at a time."""

    _is_full = False

    def listen(self, _backlog: int = 0, /) -> None:
        """Called by asyncio with its number of connections to accept at a time; the backlog stays as it is."""

    def accept(self) -> tuple[socket.socket, Any]:
        """Called by asyncio; raises OSError."""
        # Without room, asyncio 3.11 would try and log as many times before it leaves the socket alone for a second.
        if self._is_full:
            self._is_full = False
            raise BlockingIOError
        try:
            return super().accept()
        except OSError as error:
            self._is_full = error.errno in NO_ROOM
            raise


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; raises StartError if it can't, before anything is started."""
    try:
        family, address = _address(host, port)
        with suppress(OSError):
            return _bound(family, address)
        # The kernel may refuse both of two that begin at the same moment.
        time.sleep(random.uniform(0, BIND_RETRY_DELAY))  # noqa: S311
        return _bound(family, address)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no such host"
        msg = f"can't listen on {host or '*'}:{port}: {reason}"
        raise StartError(msg) from error


def _address(host: str, port: int) -> tuple[int, Any]:
    """Returns a family and an address to bind; without a host all addresses of IPv4 and IPv6, as Go does."""
    if host:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return family, address
    return (socket.AF_INET6, ("::", port)) if socket.has_dualstack_ipv6() else (socket.AF_INET, ("0.0.0.0", port))


def _bound(family: int, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
        # Two sockets may be bound to one port, but only one may listen.
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def listening_address(listener: socket.socket) -> tuple[str, int]:
    """Returns the host and port of a listening socket; the host is empty if it listens on all addresses."""
    host, port = listener.getsockname()[:2]
    return ("" if host in ("::", "0.0.0.0") else host), port


def drop_new_connections(listener: socket.socket) -> bool:
    """Drops new SYNs in the kernel; connections whose handshake has begun are still accepted.

    Returns whether that was possible: some kernels let only root attach a filter. Then the close of the socket resets
    whoever connects at that moment.
    """
    # A client whose SYN is dropped tries again after a second.
    if sys.platform != "linux":
        return False
    import ctypes

    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in _NO_SYN))
    filter_ = struct.pack("HP", len(_NO_SYN), ctypes.addressof(program))
    try:
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter_)
    except OSError:
        return False
    return True
