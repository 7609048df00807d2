"""Gunicorn as we run it: its settings, its arbiter, and its log."""

import gc
import os
import signal
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from stator.log.logger import bind, new_id
from stator.processes.service import ServiceProcesses
from stator.server.listener import drop_new_connections
from stator.server.worker import STOP_SIGNALS, Worker

SHARED_MEMORY = "/dev/shm"  # noqa: S108 # where heartbeats wait for no disk


def serve(load: Callable[[], Any], listener_fd: int, workers: int, timeout: float, processes: ServiceProcesses) -> None:
    """Runs gunicorn's arbiter in this process until it is told to stop.

    Args:
        load: Makes the ASGI application, whose ``let_go()`` writes the lines of the log that it holds.
        listener_fd: A listening socket; it is closed in the end.
        workers: Number of worker processes.
        timeout: Characteristic time in seconds: for a request to come, and for requests to end on the way out.
        processes: Where this process, and each worker, is entered.

    Raises:
        SystemExit: Always, with gunicorn's status.
    """
    processes.register("arbiter")
    seconds = max(1, round(timeout))
    settings = {
        "bind": [f"fd://{listener_fd}"],
        "workers": workers,
        "worker_class": Worker,
        "logger_class": Log,
        "preload_app": True,
        "asgi_loop": "asyncio",
        "http_parser": "python",
        "asgi_lifespan": "off",
        "keepalive": seconds,
        "graceful_timeout": seconds,
        # Gunicorn's, by which a worker that hangs is known, but also how long it lets a body take.
        "timeout": max(30, seconds + 1),
        "worker_tmp_dir": SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None,
        "control_socket_disable": True,
        "pre_fork": _number_worker,
        "post_fork": partial(_enter_worker, processes),
    }
    _Arbiter(_Application(load, settings)).run()


class _Arbiter(Arbiter):
    """Gunicorn's arbiter, whose workers miss no signal between their fork and their own handlers.

    Gunicorn's would wait for such a worker as long as the graceful timeout, and then kill it. And it would end with all
    workers where the system refuses it a further one.
    """

    _refused: int | None = None

    def stop(self, graceful: bool = True) -> None:  # gunicorn's own signature
        """Called by gunicorn to end all workers; nobody may be connected whom none of them will accept."""
        for listener in self.LISTENERS:
            drop_new_connections(listener.sock)
        super().stop(graceful)

    def spawn_worker(self) -> Any:
        """Called by gunicorn, which tries again after a second; does not return in the worker.

        Returns:
            The new worker's process id, or None where there is none.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            pid = super().spawn_worker()
        except OSError as error:
            if self._refused != error.errno:
                self.log.error("can't start a worker, trying again: %s", error)
            self._refused = error.errno
            return None
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        self._refused = None
        return pid


class _Application(BaseApplication):
    """Gunicorn's idea of an application: settings, and a function that makes it."""

    def __init__(self, load: Callable[[], Any], settings: dict[str, Any]) -> None:
        self._load, self._settings = load, settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        app = self._load()
        # What is alive now lives as long as the workers: they need not look at it, nor copy its pages to do so.
        gc.collect()
        gc.freeze()
        return app


class Log(Logger):
    """Leaves gunicorn's messages to the standard library's root logger, and so to ours; no access log."""

    def setup(self, cfg: Any) -> None:
        """Called by gunicorn at start and at reload."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


def _number_worker(arbiter: Arbiter, worker: Worker) -> None:
    """Gives a worker the lowest number that no other has, and so that of the one that it replaces."""
    taken = {each.number for each in arbiter.WORKERS.values()}
    worker.number = next(number for number in count(1) if number not in taken)


def _enter_worker(processes: ServiceProcesses, _arbiter: Arbiter, worker: Worker) -> None:
    bind(worker_id=new_id())
    processes.register("worker", worker.number)
