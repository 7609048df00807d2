"""A keeper's state in a small file, which its server's processes read: metrics, and whether it has unregistered."""

import fcntl
import mmap
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from attrs import frozen

from stator.config import Config
from stator.embedding.membership import is_at, open_own, path_for
from stator.log.logger import Log
from stator.points import PointsAt
from stator.processes.discovery import server_pid
from stator.processes.procfs import Stat
from stator.roster.metrics import SIZE, Registration, RosterMetrics
from stator.web.status.facts import RegistrationFacts

T = TypeVar("T")
LONGEST_KEY = 64  # bytes of a key, which stands behind the roster's numbers


def state_path(folder: Path, service: str, server: int) -> Path:
    """Returns the path of the state of the keeper of a service and a server's main process; OSError without one."""
    return path_for(folder, ".state", service, server, Stat.of(server).started)


class StateFile:
    """The file of a keeper that starts; `memory` is what it holds, `is_successor` whether there was one before.

    By `probe_key` the server's processes know the keeper's probes.
    """

    def __init__(self, path: Path, probe_key: str = "") -> None:
        self._path, self.is_successor = path, path.exists()
        path.unlink(missing_ok=True)
        self._fd = open_own(path, os.O_CREAT | os.O_EXCL)
        os.posix_fallocate(self._fd, 0, SIZE)  # or else a full disk would end the keeper by SIGBUS
        os.pwrite(self._fd, probe_key.encode(), SIZE)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self.memory = mmap.mmap(self._fd, SIZE)

    def is_replaced(self) -> bool:
        """Returns whether another keeper has replaced the file."""
        return not is_at(self._path, self._fd)

    def remove(self) -> None:
        """Removes the file, unless another keeper has replaced it."""
        if not self.is_replaced():
            self._path.unlink()


@frozen
class KeeperState:
    """The state of the keeper of this process's server, as a collector; without points while there is no keeper."""

    service: str
    log: Log

    def is_nonblocking(self) -> bool:
        """True: the numbers are in memory."""
        return True

    def collect(self, now: float) -> PointsAt:
        """Returns the metrics of the keeper's roster."""
        metrics = self._metrics()
        return metrics.collect(now) if metrics else PointsAt("stator_roster", now)

    def is_draining(self) -> bool:
        """Returns whether the keeper has unregistered the service."""
        metrics = self._metrics()
        return metrics is not None and metrics.is_draining()

    def probe_key(self) -> str:
        """Returns the key by which the keeper's probes are known; empty while there is no keeper."""
        return self._read(lambda fd: os.pread(fd, LONGEST_KEY, SIZE).decode("ascii")) or ""

    def registration(self) -> Registration:
        """Returns the state of the registration."""
        metrics = self._metrics()
        return metrics.registration() if metrics else Registration("not registered", 0.0)

    def _metrics(self) -> RosterMetrics | None:
        return self._read(lambda fd: RosterMetrics(self.log, memory=mmap.mmap(fd, SIZE, prot=mmap.PROT_READ)))

    def _read(self, read: Callable[[int], T]) -> T | None:
        """Returns what is read of the file; None without a living keeper."""
        with suppress(OSError, ValueError):
            fd = open_own(state_path(Path(tempfile.gettempdir()), self.service, server_pid()))
            try:  # a living keeper holds the lock: the file of one that was killed counts for nothing
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return read(fd)
            finally:
                os.close(fd)
        return None


def registration_facts(
    config: Config, keeper: KeeperState, find_address: Callable[[], tuple[str, int] | None]
) -> RegistrationFacts:
    """Returns what the page says of the registration; id, address and port only where this process has them."""
    if not config.registers:
        return RegistrationFacts("nowhere")
    state, confirmed = keeper.registration()
    registrar, name = config.registrar_name, config.roster.service.name
    if address := find_address():
        with suppress(OSError):  # our address can't be looked up
            service = config.roster.service.build(address[1], config.client.base_uri, address[0])
            return RegistrationFacts(state, registrar, name, service.id, service.address, service.port, confirmed)
    return RegistrationFacts(state, registrar, name, confirmed=confirmed)
