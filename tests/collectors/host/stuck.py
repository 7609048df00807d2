"""Runs a command beside a filesystem that never answers.

    unshare -Urmpf --mount-proc python stuck.py FOLDER COMMAND...

It is a FUSE filesystem whose server says nothing; whoever asks it waits for as long as this program runs. In namespaces
of its own it takes no rights to mount it: https://docs.kernel.org/filesystems/fuse/fuse.html
"""

import ctypes
import os
import subprocess
import sys


def mount(folder: str) -> None:
    """Mounts it; its server's end stays open.

    Raises:
        OSError: It can't be had here.
    """
    server = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"nothing", folder.encode(), b"fuse.stuck", 0, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), folder)


if __name__ == "__main__":
    mount(sys.argv[1])
    sys.exit(subprocess.run(sys.argv[2:], check=False).returncode)
