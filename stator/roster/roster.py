"""Stays registered: a thread of its own that registers, registers again, and unregisters on the way out."""

import random
import threading
import time
from collections.abc import Callable
from typing import Literal, Protocol

from attrs import frozen

from stator.launch.duration import Duration
from stator.launch.settings import LONGER_THAN_ZERO, part, setting
from stator.log import Log, new_id
from stator.roster.service import Config as ServiceConfig
from stator.roster.service import RegistrarError, Service

# First wait after a failure, in seconds; each further one may be twice as long.
RETRY_FIRST = 0.05
# Shortest wait after a failure: a refused connection is answered at once, and would be asked for at once.
RETRY_LEAST = 0.005
# Longest time in seconds that leaving may take: container engines kill after ten.
LEAVING = 5.0
# Seconds beyond that in which the roster's own thread may tell how it went.
GRACE = 0.5


class Registrar(Protocol):
    """What knows how to tell a discovery service of us."""

    def register(self, service: Service, *, timeout: float | None = None, level: str = "info") -> None:
        """Registers a service, whether it was registered before or not; raises RegistrarError."""

    def unregister(self, service: Service, *, timeout: float | None = None, level: str = "info") -> None:
        """Takes a service out, whether it was registered or not; raises RegistrarError."""


@frozen
class Config:
    """How the service stays registered."""

    registrar: Literal["auto", "consul", "file", "none"] = setting(
        "auto", desc="where to register; auto: consul when a base uri is set, else none"
    )
    interval: Duration = setting(Duration.parse("15m"), desc="reregister period", check=LONGER_THAN_ZERO)
    retry_max: Duration = setting(
        Duration.parse("1s"), desc="longest wait between two tries after a failure", check=LONGER_THAN_ZERO
    )
    drain: Duration = setting(Duration.parse("0s"), desc="wait between unregistering and stopping")
    service: ServiceConfig = part(ServiceConfig)

    def new(self, registrar: Registrar | None, discovery_uri: str, bound: tuple[str, int], log: Log) -> "Roster":
        """A roster that keeps the service at the host, empty for all, and port that it is bound to registered."""
        host, port = bound
        return Roster(self, registrar, lambda: self.service.new(port, discovery_uri, host), log)


class Roster:
    """Registers a service as soon as it is started, and unregisters it when it is stopped.

    Args:
        config: The periods.
        registrar: What tells the discovery service; None registers nowhere.
        find_service: Gives what to register; raises OSError while the address can't be looked up.
        log: Where the story is told.
        jitter: A random number from 0 to 1.
        clock: Seconds that only go up.
    """

    def __init__(
        self,
        config: Config,
        registrar: Registrar | None,
        find_service: Callable[[], Service],
        log: Log,
        *,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._registrar, self._find_service, self._log = config, registrar, find_service, log
        self._jitter, self._clock = jitter, clock
        self._leaving = threading.Event()
        self._stay = False
        self._deadline = 0.0
        self._thread: threading.Thread | None = None
        self._service: Service | None = None
        self._registered = False
        self._failures = 0
        self._told = ""

    def start(self) -> None:
        """Begins to register, and goes on in the background."""
        if self._registrar is None:
            self._log.info("not registering: no discovery service is configured (STTR_CLIENT_BASEURI)")
            return
        self._thread = threading.Thread(target=self._work, args=(self._registrar,), name="roster", daemon=True)
        self._thread.start()

    def stop(self, *, stay: bool = False) -> None:
        """Begins to unregister, unless the service is to stay registered; `left` tells when that is done."""
        self._stay = stay
        self._deadline = self._clock() + LEAVING
        self._leaving.set()

    def left(self, timeout: float) -> bool:
        """Waits, for `timeout` seconds at most, until the roster has left, and tells whether it has.

        It has too where leaving takes too long: a request or a look-up may hang.
        """
        if self._thread is None:
            return True
        self._thread.join(timeout)
        if self._thread.is_alive() and self._clock() > self._deadline + GRACE:
            self._log.error("failed to unregister", reason=f"not done within {LEAVING} seconds")
            self._thread = None
        return self._thread is None or not self._thread.is_alive()

    def _work(self, registrar: Registrar) -> None:
        from structlog.contextvars import bind_contextvars  # slow to import

        bind_contextvars(worker_id=new_id())
        self._log.info("worker starting", name="roster")
        wait = 0.0
        while not self._leaving.wait(wait):
            wait = self._config.interval.seconds if self._register(registrar) else self._backoff()
        if not self._stay:
            self._unregister(registrar)
        self._log.info("worker stopped", name="roster")

    def _register(self, registrar: Registrar) -> bool:
        """Tries once; of failures in a row only the first and those with another reason are told, and their end."""
        level = "debug" if self._failures else "info"
        try:
            self._service = self._service or self._find_service()
            registrar.register(self._service, level=level)
        except Exception as error:  # noqa: BLE001 # whatever it is, the next try may go well
            self._failures += 1
            if self._told != str(error):
                self._told = str(error)
                self._log.error("failed to register, trying again", **_why(error))
            return False
        self._log.info("registered", service=self._service.id, failures=self._failures)
        self._registered, self._failures, self._told = True, 0, ""
        return True

    def _backoff(self) -> float:
        """Seconds to wait after a failure: full jitter, so that many of us do not come back in step.

        https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        """
        longest = self._config.retry_max.seconds
        doubled = RETRY_FIRST * 2.0 ** min(self._failures - 1, 40)
        return max(RETRY_LEAST, self._jitter() * min(longest, doubled))

    def _unregister(self, registrar: Registrar) -> None:
        """Leaves, whatever was registered or may have been; where it was, it tries for as long as `LEAVING`."""
        if self._service is None:
            return
        self._failures = 0
        while True:
            try:
                registrar.unregister(self._service, timeout=max(0.1, self._deadline - self._clock()))
            except Exception as error:  # noqa: BLE001 # whatever it is, the next try may go well
                self._failures += 1
                wait = self._backoff()
                if not self._registered or self._clock() + wait > self._deadline:
                    self._log.error("failed to unregister", service=self._service.id, **_why(error))
                    return
                time.sleep(wait)
            else:
                self._log.info("unregistered", service=self._service.id)
                return


def _why(error: Exception) -> dict[str, object]:
    """What the log is told of a failure: the reason, or where nobody foresaw it, all."""
    return {"reason": str(error)} if isinstance(error, RegistrarError | OSError) else {"error": error}
