"""Gunicorn's arbiter: its settings, its workers and its log."""

import gc
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from tempfile import TemporaryFile, gettempdir
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from stator.log.logger import bind, new_id
from stator.processes.service import ServiceProcesses
from stator.server.config import ServerConfig
from stator.server.listener import drop_new_connections
from stator.server.signals import end_with_parent
from stator.server.worker import BLOCKED_AT_START, Worker
from stator.settings.declare import StartError

if TYPE_CHECKING:
    from stator.server.tls import TLSContexts
    from stator.server.web_config_file import WebConfigFile

SHARED_MEMORY = "/dev/shm"  # noqa: S108 # for workers' heartbeats, which a slow disk would delay


def prepare(
    config: ServerConfig,
    app: Any,
    listener_fd: int,
    processes: ServiceProcesses,
    *,
    reload: Callable[[], object],
    web: "WebConfigFile | None" = None,
    probe_key: str = "",
) -> Callable[[], None]:
    """Returns a function that serves an ASGI application until a signal stops it, for a process of its own.

    Call `prepare` before that process is forked: then it shares the memory of all that is made here. The function
    raises SystemExit with gunicorn's status. `prepare` raises StartError. `reload` reads files again, in that process
    and in its workers. A web configuration file says how TLS is served, and `probe_key` is that by which our own probes
    are known.
    """
    seconds = max(1, round(config.timeout.seconds))
    try:
        contexts = web.contexts() if web else _contexts(config)
    except (OSError, ValueError) as error:
        msg = f"can't serve https: expected {error}"
        raise StartError(msg) from error
    settings = {
        "bind": [f"fd://{listener_fd}"],
        "workers": config.workers,
        "worker_class": Worker,
        "logger_class": Log,
        "preload_app": True,
        "graceful_timeout": seconds,
        "timeout": max(30, seconds + 1),  # of a worker that does not report; a stop may take the graceful timeout
        "worker_tmp_dir": _heartbeat_folder(),
        "control_socket_disable": True,
        "pre_fork": _number_worker,
        "post_fork": partial(_register_worker, processes),
    }
    application = _Application(app, settings, config.timeout.seconds, contexts, probe_key, reload)

    def serve() -> None:
        processes.register("arbiter")
        # A worker opens other files too: its log, /proc, mounted filesystems.
        max_files = _raise_file_limit()
        application.max_connections = config.max_connections or max(1, max_files - 64)
        _Arbiter(application).run()

    return serve


def _contexts(config: ServerConfig) -> "TLSContexts | None":
    tls = config.tls_options()
    return tls.watch() if tls else None


def _raise_file_limit() -> int:
    """Raises the soft limit of open files to the hard one, and returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # the kernel's own limit may be lower
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _heartbeat_folder() -> str:
    """Returns a folder in which the workers' heartbeat files can be created; raises StartError without one."""
    with suppress(OSError):
        TemporaryFile(dir=SHARED_MEMORY).close()
        return SHARED_MEMORY
    try:
        return gettempdir()
    except OSError as error:
        msg = f"no folder for the workers' heartbeat files: set TMPDIR to a writable one ({error.strerror})"
        raise StartError(msg) from error


class _Arbiter(Arbiter):
    """Gunicorn's arbiter, whose new workers lose no signal, and which goes on if the system refuses a worker."""

    _refused: int | None = None

    def stop(self, graceful: bool = True) -> None:  # gunicorn's own signature
        """Ends all workers; they accept every client that has connected by now."""
        for listener in self.LISTENERS:
            drop_new_connections(listener.sock)
        super().stop(graceful)

    def handle_hup(self) -> None:
        """Reads files again, here for new workers, and in the workers; gunicorn would replace them."""
        self.app.reload()
        self.kill_workers(signal.SIGHUP)

    def handle_usr1(self) -> None:
        """Does nothing at SIGUSR1, which is logged: no log file is to be opened again."""

    def handle_usr2(self) -> None:
        """Does nothing at SIGUSR2, at which gunicorn would start itself once more beside this service."""

    def spawn_worker(self) -> Any:
        """Returns a new worker's process id, or None, upon which gunicorn tries again after a second."""
        signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_AT_START)
        try:
            pid = super().spawn_worker()
        except OSError as error:
            if self._refused != error.errno:
                self.log.error("can't start a worker, trying again: %s", error)
            self._refused, pid = error.errno, None
        else:
            self._refused = None
        # Not in the worker, which blocks them but while it can handle them.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_AT_START)
        return pid


class _Application(BaseApplication):
    """Gunicorn's idea of an application: settings, and what to serve."""

    max_connections = 1  # of each worker

    def __init__(
        self,
        app: Any,
        settings: dict[str, Any],
        timeout: float,
        tls: "TLSContexts | None",
        probe_key: str,
        reload: Callable[[], object],
    ) -> None:
        self._app, self._settings = app, settings
        self.timeout, self.reload = timeout, reload  # seconds for a client
        self.tls = tls  # None: plain http
        self.probe_key = probe_key  # by which our own probes are known, which have no certificate
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            if name in self.cfg.settings:  # an older gunicorn has no control socket
                self.cfg.set(name, value)

    def load(self) -> Any:
        # What is alive now lives as long as the workers: they need not look at it, nor copy its pages to do so.
        gc.freeze()
        return self._app


class Log(Logger):
    """Passes gunicorn's messages on to the standard library's root logger, and so to Stator's; no access log."""

    def setup(self, cfg: Any) -> None:
        """Called by gunicorn at start and at reload."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True

    def info(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Logs a message, but not where gunicorn listens: it takes https for http, and `ready` has the address."""
        if not msg.startswith("Listening at"):
            super().info(msg, *args, **kwargs)


def _number_worker(arbiter: Arbiter, worker: Worker) -> None:
    """Gives a worker the lowest number that no other has: it replaces the worker that had it."""
    taken = {each.number for each in arbiter.WORKERS.values()}
    worker.number = next(number for number in count(1) if number not in taken)


def _register_worker(processes: ServiceProcesses, arbiter: Arbiter, worker: Worker) -> None:
    end_with_parent(arbiter.pid, signal.SIGTERM)
    bind(worker_id=new_id())
    processes.register("worker", worker.number)
