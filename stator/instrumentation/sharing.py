"""The public call that shares an application's metrics over all workers."""

import logging
import os
import re
import sys
import threading
from functools import cache
from typing import TYPE_CHECKING

import psutil

from stator.exporter import group_name
from stator.instrumentation.naming import LENGTH, MAIN
from stator.log.stdlib import LOGGER
from stator.settings.declare import ConfigError, Constraint

if TYPE_CHECKING:
    from stator.instrumentation.memory import Memory

# The library's own variable: the folder in which an application's processes keep their values.
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_GROUP = "STTR_METRICS_GROUP"
_LOCK = threading.RLock()
_worker_name = Constraint(
    f"a name of up to {LENGTH} letters, digits, dots, dashes and underscores, with a letter first, other than {MAIN}",
    lambda name: re.fullmatch(rf"(?!{MAIN}$)[A-Za-z][A-Za-z0-9._-]{{0,{LENGTH - 1}}}", name) is not None,
)


def share_metrics(group: str | None = None, *, worker: str | None = None) -> None:
    """Makes all of prometheus_client's metrics right over all workers of a server, whichever of them is asked.

    Call it before the first metric is made, in the application's module or in gunicorn.conf.py; the code that makes and
    uses metrics stays as it is, and ``generate_latest()`` and the collector ``prometheus_client`` report all processes.
    Metrics that are there already are taken over with their values. A second call only names the process.

    What a process counts is there at once, whether it's busy, stopped or killed, and stays when it's gone. Gauges
    follow their ``multiprocess_mode``, with the label ``worker`` in place of ``pid``: a number, which the worker's
    successor takes over, ``main`` for the workers' parent, or the name that was given (``stator_worker`` where the
    metric has a label ``worker`` of its own). A service of one process has no such label.

    Children that a worker starts with ``multiprocessing`` or forks itself take part. Up to 63 processes do at a time,
    and the main process. One that can't keeps its metrics to itself, and logs why to the logger ``stator``; so does one
    in which ``PROMETHEUS_MULTIPROC_DIR`` is set.

    Args:
        group: Name under which other processes of this user share metrics with these, such as a queue's consumers or a
            cron job: what one that has ended has counted stays while another is there. Left open,
            ``STTR_METRICS_GROUP``, or else the workers of one server and their parent share metrics.
        worker: Name of this process, not of its children, in the label ``worker``; left open, it's a number. While
            another process has the name it's a number, too, with a line in the log.

    Raises:
        ConfigError: The group or the worker is no name of letters, digits, dots, dashes and underscores.
        TypeError: A metric that is there already can't be shared; the message names it.
    """
    from stator.instrumentation.library import Library

    if worker is not None and not _worker_name.holds(worker):
        raise ConfigError([f"worker={worker!r}: expected {_worker_name.expected}"])
    if shared := Library.current():
        if worker:
            shared.memory.set_name(worker)
        return
    if folder := os.environ.get(_FOLDER):
        log = logging.getLogger(LOGGER)
        log.warning("metrics stay in the files of prometheus_client: %s=%r is set", _FOLDER, folder)
        return
    source = f"group={group!r}" if group else f"{_GROUP}={os.environ.get(_GROUP)!r}"
    group = group or os.environ.get(_GROUP, "")
    if not group_name.holds(group):
        raise ConfigError([f"{source}: expected {group_name.expected}"])
    if memory := process_memory(group):
        if worker:
            memory.set_name(worker)
        Library(memory).share()


def process_memory(group: str = "") -> "Memory | None":
    """Returns this process's part of the memory of its server, or of a group; None, and a warning, if there is none."""
    # One for each process, as the kernel's locks of rows are the process's: a second would take the same row.
    with _LOCK:
        return _find_memory(group)


@cache  # which takes a call without the argument for another one, and lets two threads in at a time
def _find_memory(group: str) -> "Memory | None":
    from stator.instrumentation.finding import find_group_memory, find_memory
    from stator.instrumentation.memory import Memory

    log = logging.getLogger(LOGGER)
    if "t" in sys.abiflags:  # free threads, against which the hot path has no lock
        log.warning("metrics of this process are not shared: a Python without GIL can't share them yet")
        return None
    try:
        fd, server = find_group_memory(group, log.warning) if group else find_memory(log.warning)
        try:
            return Memory(fd, server, log.warning)
        except OSError:
            os.close(fd)
            raise
    except (OSError, psutil.Error) as error:
        log.warning("metrics of this process are not shared: %s", error)
        return None
