"""Keeps an application registered for as long as it serves, by a keeper process."""

import hashlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from attrs import field, frozen

from stator.config import Config
from stator.embedding.membership import Membership, path_for
from stator.embedding.state import state_path
from stator.embedding.stop_signals import StopSignals
from stator.log.logger import Log
from stator.processes.discovery import server_pid
from stator.processes.interpreter import interpreter
from stator.roster.service import ServiceConfig
from stator.settings.declare import StartError

# Seconds that a keeper may take to start, and to unregister the service or to leave it to another keeper.
START_TIMEOUT, STOP_TIMEOUT = 15.0, 5.0
# Seconds between two looks whether a keeper is gone.
STOP_POLL = 0.02
# What a keeper writes to stdout when it runs; anything else is the reason why it can't.
STARTED = b"started"


@frozen
class KeeperTask:
    """A service of the server to which this process belongs; raises OSError where there is no temporary folder."""

    config: Config
    host: str  # empty for all addresses
    port: int
    folder: Path = field(factory=lambda: Path(tempfile.gettempdir()))  # of the lock and the state
    server: int = field(factory=server_pid)  # the server's main process; the registration ends with it

    @property
    def service(self) -> ServiceConfig:
        """How the service is registered."""
        return self.config.roster.service

    @property
    def own_url(self) -> str:
        """The URL at which the service's /monitor answers on this host."""
        return self.service.monitor_url(self.host or "127.0.0.1", self.port)

    @property
    def digest(self) -> bytes:
        """The same for the same task, in each process."""
        task = (self.config.redacted(), self.host, self.port, str(self.folder), self.server)
        return hashlib.sha256(repr(task).encode()).digest()

    def membership(self) -> Membership:
        """Returns the lock that the processes of this service share, whatever else differs in their tasks."""
        config, service = self.config, self.service
        registry = (config.roster.registrar, config.client.base_uri, str(config.file.path))
        return Membership(path_for(self.folder, ".lock", *registry, service.name, service.id, self.host, self.port))


class Registration:
    """Keeps a service registered: a context, or `start` and `stop`; `stator.Stator.registered` builds it and says how.

    A keeper that is killed is replaced when the next process starts its registration. Until then the service stays as
    it was registered, and `stop` can't unregister it.
    """

    def __init__(self, find_task: Callable[[], KeeperTask] | None, log: Log) -> None:
        self._find_task, self._log = find_task, log
        self._started: tuple[int, KeeperTask, Membership] | None = None
        self._signals = StopSignals(self.stop)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Joins the processes that serve, and starts their keeper if there is none or if it has another task.

        Raises:
            RuntimeError: It is started already.
            StartError: The keeper can't start; the message says why.
        """
        if self._started and self._started[0] == os.getpid():
            msg = "this registration is started already"
            raise RuntimeError(msg)
        if self._find_task is None:
            return
        membership = None
        try:
            # Not before: gunicorn's --daemon forks after it has read its configuration.
            task = self._find_task()
            membership = task.membership()
            membership.join()
            with membership.turn(START_TIMEOUT):
                _ensure_keeper(membership, task)
        except (OSError, StartError) as error:
            if membership:
                membership.leave()
            msg = f"can't register: {error}"
            raise StartError(msg) from error
        self._started = os.getpid(), task, membership
        if task.server == os.getpid():
            self._signals.delay()

    def stop(self) -> None:
        """Leaves the processes that serve; does nothing where it was not started, or in a forked child.

        The last to leave, if it is the server's main process, waits until the service is unregistered, 5 seconds at
        most, and then for STTR_ROSTER_DRAIN. In another process it returns at once: a successor may come, and if none
        does, the keeper unregisters the service.
        """
        if self._started is None or self._started[0] != os.getpid():
            return
        (_, task, membership), self._started = self._started, None
        self._signals.restore()
        try:
            self._leave(task, membership)
        except OSError as error:
            self._log.error("failed to unregister", reason=str(error))

    def _leave(self, task: KeeperTask, membership: Membership) -> None:
        keeper, is_unregistered = membership.keeper(), membership.is_unregistered()
        if not membership.leave():
            self._log.info("staying registered: other processes serve")
            return
        if keeper is None and not is_unregistered:
            if task.server == os.getpid():  # else the next worker's keeper learns by the file that there was one
                state_path(task.folder, task.service.name, task.server).unlink(missing_ok=True)
            msg = "the keeper process is gone"
            raise ProcessLookupError(msg)
        if task.server != os.getpid():
            return
        if keeper:  # one in another PID namespace, 0, stops by itself
            with suppress(ProcessLookupError):
                os.kill(keeper, signal.SIGTERM)
        if keeper is not None and not _is_gone(keeper, membership):
            msg = f"the keeper has not done it within {STOP_TIMEOUT:g} seconds"
            raise TimeoutError(msg)
        time.sleep(task.config.roster.drain.seconds)


def _ensure_keeper(membership: Membership, task: KeeperTask) -> None:
    """Starts a keeper unless there is one with this task; waits until one with another task has left."""
    is_same, keeper = membership.request(task.digest), membership.keeper()
    if keeper is not None and (is_same or not _is_gone(keeper, membership)):
        return
    try:
        done = subprocess.run(  # noqa: S603 # our own command
            [interpreter(), "-P", "-m", "stator.embedding.keeper"],
            input=pickle.dumps(task),
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(_import_paths())},
            start_new_session=True,
            timeout=START_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        msg = f"the keeper process did not start within {START_TIMEOUT:g} seconds"
        raise StartError(msg) from error
    if done.stdout != STARTED:
        raise StartError(done.stdout.decode(errors="replace") or "the keeper process failed, see its error on stderr")


def _import_paths() -> list[str]:
    """Returns sys.path as absolute paths; without relative ones where the working folder was removed."""
    with suppress(FileNotFoundError):
        return [str(Path(path).absolute()) for path in sys.path]
    return [path for path in sys.path if Path(path).is_absolute()]


def _is_gone(keeper: int, membership: Membership) -> bool:
    """Waits until a process is no longer the keeper, and returns whether that was in time."""
    deadline = time.monotonic() + STOP_TIMEOUT
    while membership.keeper() == keeper:
        if time.monotonic() >= deadline:
            return False
        time.sleep(STOP_POLL)
    return True
