"""The last moment of a listening socket."""

import socket
import struct
import sys
from contextlib import suppress

# Linux' asm-generic/socket.h, as on x86 and ARM; Python has no name for it.
SO_ATTACH_FILTER = 26
# A program for the kernel's filter of packets, which sees them from the TCP header on:
# https://www.kernel.org/doc/html/latest/networking/filter.html
_FLAGS, _SYN, _ACK = 13, 0x02, 0x10
_NO_SYN = (
    (0x30, 0, 0, _FLAGS),  # load the byte of flags
    (0x54, 0, 0, _SYN | _ACK),  # of these two
    (0x15, 0, 1, _SYN),  # is it the first alone?
    (0x06, 0, 0, 0),  # then drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # otherwise take it
)


def drop_new_connections(listener: socket.socket) -> None:
    """Has the kernel ignore whoever begins to connect from now on; who has begun already is let in.

    A listening socket that is closed resets those who have connected and were not accepted yet, and there is always a
    moment between the last accept and the close. Who is ignored tries again after a second, and meets whoever listens
    there by then, or a refusal. It holds for all processes that share the socket. Where the kernel does not take such a
    program, nothing is changed.
    """
    if sys.platform != "linux":
        return
    import ctypes  # slow to import

    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in _NO_SYN))
    with suppress(OSError):
        filter_ = struct.pack("HP", len(_NO_SYN), ctypes.addressof(program))
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter_)
