"""The signals by which a running service is controlled."""

import signal

# `ctl` sends these two. They are never passed on to a wrapped program, which may have a use for SIGUSR1 and SIGUSR2.
LEVEL_SIGNAL = signal.SIGRTMIN + 8  # the level of the log has changed
STACKS_SIGNAL = signal.SIGRTMIN + 9  # write all stacks into the log
# Sent to the server's processes alone, by their own main process: write the main thread's stack to a file in memory.
FAULT_SIGNAL = signal.SIGRTMIN + 10
