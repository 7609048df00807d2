"""The stack that signal handlers run on, with room for all signals at once."""

import mmap
import os

# The kernel saves a CPU's registers for each handler that another signal interrupts: 3 KiB with AVX-512, 11 with AMX.
# There are 64 signals. Memory is taken only where it is written to.
_SIZE = 1 << 20
_stacks: list[mmap.mmap] = []  # in use for as long as the process lives


def widen_signal_stack() -> None:
    """Gives the calling thread, and what it forks, a stack for signal handlers that can't overflow; raises OSError.

    To be called after `faulthandler` gave it one, on which handlers of `signal` run too: that has room for five
    signals, and more come at once to a process that was stopped for a while.
    Source: https://man7.org/linux/man-pages/man2/sigaltstack.2.html
    """
    import ctypes  # slow to import

    class Stack(ctypes.Structure):
        """The C library's ``stack_t``."""

        _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))

    memory = mmap.mmap(-1, _SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    stack = Stack(ctypes.addressof(ctypes.c_char.from_buffer(memory)), 0, _SIZE)
    if ctypes.CDLL(None, use_errno=True).sigaltstack(ctypes.byref(stack), None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    _stacks.append(memory)
