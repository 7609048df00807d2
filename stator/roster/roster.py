"""Keeps a service registered, from a thread of its own that also unregisters it in the end."""

import random
import threading
import time
from collections.abc import Callable
from functools import partial
from mmap import mmap

from attrs import define, field, frozen

from stator.log.changes import error_fields
from stator.log.logger import Log, bind, new_id
from stator.log.render import safely
from stator.roster.metrics import RosterMetrics
from stator.roster.registrar import Observation, Registrar, RegistrarError
from stator.roster.service import Endpoint, Service, ServiceConfig
from stator.settings.declare import StartError, positive, section, setting
from stator.settings.duration import Duration

# Longest seconds of one observation, and so until changed checks, for which none can wait, or a hung agent are noticed.
OBSERVE_MAX = 60.0
CALM = 60.0  # seconds without a loss after which the next one counts as the first
STOP_TIMEOUT = 5.0  # longest time in seconds to unregister: container engines kill after ten
# Before the first registration. An earlier run may have left one, with an operator's checks.
NOT_YET_REGISTERED = Observation("not registered yet", keep_checks=True)


@frozen(eq=False, repr=False)
class RosterConfig:
    """How the service stays registered."""

    registrar: str = setting(
        "auto",
        desc="where to register: auto, consul, file, none, or an installed registrar's name; auto: consul when a base"
        " uri is set, else none",
    )
    interval: Duration = setting(
        Duration.parse("15m"), desc="longest time until the registration is confirmed", check=positive
    )
    retry_max: Duration = setting(
        Duration.parse("1s"), desc="longest wait between two tries after a failure", check=positive
    )
    drain: Duration = setting(Duration.parse("0s"), desc="wait between unregistering and stopping")
    service: ServiceConfig = section(ServiceConfig)

    def build(
        self,
        registrar: Registrar | None,
        discovery_uri: str,
        endpoint: Endpoint,
        is_serving: Callable[[], bool],
        log: Log,
        *,
        own_url: str = "",
        memory: mmap | None = None,
        report: Callable[[str], object] | None = None,
    ) -> "Roster":
        """Returns a roster for the service that listens at an endpoint.

        `report` is called with each new state of the registration, in words.
        """
        host, port, scheme = endpoint
        find_service = partial(self.service.build, port, discovery_uri, host, own_url, scheme)
        return Roster(self, registrar, find_service, is_serving, log, memory=memory, report=report)


@define(eq=False, repr=False)
class Roster:
    """Registers a service when it is started, keeps it registered, and unregisters it when it is stopped."""

    _config: RosterConfig
    _registrar: Registrar | None  # None registers nowhere
    _find_service: Callable[[], Service]  # raises OSError while our address can't be looked up
    # A service that does not answer is not registered, since Consul would list it as passing.
    _is_serving: Callable[[], bool]
    _log: Log
    _jitter: Callable[[], float] = field(default=random.random, kw_only=True)
    _clock: Callable[[], float] = field(default=time.monotonic, kw_only=True)
    _memory: mmap | None = field(default=None, kw_only=True)  # of the metrics; None: shared with processes forked later
    _report: Callable[[str], object] | None = field(default=None, kw_only=True)
    metrics: RosterMetrics = field(init=False)
    _stopping: threading.Event = field(factory=threading.Event, init=False)
    _stay: bool = field(default=False, init=False)
    _deadline: float = field(default=0.0, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _service: Service | None = field(default=None, init=False)
    _last: Observation | None = field(default=NOT_YET_REGISTERED, init=False)  # None: may have changed since
    _registered: bool = field(default=False, init=False)  # whether a registration was ever accepted
    _failures: int = field(default=0, init=False)
    _recurrences: int = field(default=0, init=False)
    _lost_at: float = field(default=-CALM, init=False)

    def __attrs_post_init__(self) -> None:
        self.metrics = RosterMetrics(self._log, memory=self._memory, clock=self._clock, report=self._report)

    def collectors(self) -> dict[str, RosterMetrics]:
        """Returns the collector of the roster's metrics, by name; none if it registers nowhere."""
        return {} if self._registrar is None else {"roster": self.metrics}

    def service(self) -> Service | None:
        """Returns the service that is registered; None while our address can't be looked up."""
        try:
            self._service = self._service or self._find_service()
        except OSError:
            return None
        return self._service

    def start(self) -> None:
        """Starts to register, in the background; raises StartError if no thread can be started."""
        if self._registrar is None:
            self._log.info("not registering: no discovery service is configured (STTR_CLIENT_BASEURI)")
            self.metrics.report("not registering: no discovery service is configured")
            return
        self.metrics.report("registering")
        thread = threading.Thread(target=self._work, args=(self._registrar,), name="roster", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            msg = f"can't stay registered: {error}"
            raise StartError(msg) from error
        self._thread = thread

    def stop(self, *, stay: bool = False) -> None:
        """Starts to unregister, unless the service is to stay registered; `wait_stopped` waits for the end."""
        self._stay = stay
        self._deadline = self._clock() + STOP_TIMEOUT
        self._stopping.set()
        if self._registrar is not None:
            self._registrar.cancel()

    def wait_stopped(self, timeout: float) -> bool:
        """Waits for `timeout` seconds at most; returns whether the roster has stopped, or has hung and is given up."""
        if self._thread is not None:
            self._thread.join(timeout)
            # The half second is for the thread to log the outcome.
            if self._thread.is_alive() and self._clock() <= self._deadline + 0.5:
                return False
            if self._thread.is_alive():
                self._log.error("failed to unregister", reason=f"not done within {STOP_TIMEOUT} seconds")
            self._thread = None
        if not self._stay:
            self.metrics.drains()
        return True

    def _work(self, registrar: Registrar) -> None:
        bind(worker_id=new_id())
        self._log.info("worker starting", name="roster")
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                pause = self._step(registrar)
            except Exception as error:  # noqa: BLE001 # whatever it is, the next try may succeed
                pause = self._fail(error)
        self.metrics.stopped()
        if not self._stay:
            self._unregister(registrar)
            self.metrics.drains()
        registrar.close()
        self._log.info("worker stopped", name="roster")

    def _step(self, registrar: Registrar) -> float:
        """Registers if the last observation found a problem, then observes; returns seconds until the next step."""
        if self._service is None:
            try:
                self._service = self._find_service()
            except OSError as error:
                msg = f"can't look up our address: {error}"
                raise RegistrarError(msg, "address") from error
        last = self._last
        if last is not None and last.problem:
            if not self._is_serving():
                msg = "the service itself is not healthy: its /monitor does not answer 200"
                raise RegistrarError(msg, "unready")
            level = "debug" if self._failures else "info"
            registrar.register(self._service, keep_checks=last.keep_checks, level=level)
            self._registered = True
            self.metrics.accepted()
            last = None
        # Less than allowed, as an agent adds up to a sixteenth.
        longest = min(OBSERVE_MAX, self._config.interval.seconds) * (0.8 + 0.1 * self._jitter())
        since, wait = (last.version, longest) if last else ("", 0.0)
        start = self._clock()
        self._last = now = registrar.observe(self._service, since=since, wait=wait)
        self._failures = 0
        if now.problem:
            self.metrics.out_of_sync(now.problem)
            return self._settle()
        self.metrics.confirmed(self._service.id)
        if now.version and (now.version != since or self._clock() - start > wait / 2):
            return 0.1
        # The discovery service can't wait for a change, or answers too early.
        return min(5.0, self._config.interval.seconds)

    def _fail(self, error: Exception) -> float:
        """Records a failure; returns the seconds until the next try."""
        if self._stopping.is_set():
            return 0.0
        self._last = None if self._registered else NOT_YET_REGISTERED
        self._failures += 1
        self._lost_at = -CALM
        self.metrics.failed(error)
        return self._backoff(self._failures, self._config.retry_max.seconds)

    def _settle(self) -> float:
        """Returns the seconds until a problem is corrected: none at first, more if it recurs within `CALM`."""
        now = self._clock()
        self._recurrences = self._recurrences + 1 if now - self._lost_at < CALM else 0
        self._lost_at = now
        return self._backoff(self._recurrences, CALM / 2) if self._recurrences else 0.0

    def _backoff(self, times: int, longest: float) -> float:
        """Returns a random wait that grows with the failures, so that many services don't retry in step."""
        # https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        doubled = 0.05 * 2.0 ** min(times - 1, 40)
        # A refused connection would be retried at once; and a tenth of the longest wait is left for the next try.
        return max(0.005, 0.9 * self._jitter() * min(longest, doubled))

    def _unregister(self, registrar: Registrar) -> None:
        """Unregisters what was registered or may have been; retries until the deadline what certainly was."""
        if self._service is None:
            self.metrics.report("unregistered")
            return
        failures = 0
        while True:
            try:
                registrar.unregister(self._service, timeout=max(0.1, self._deadline - self._clock()))
            except Exception as error:  # noqa: BLE001 # whatever it is, the next try may succeed
                failures += 1
                pause = self._backoff(failures, self._config.retry_max.seconds)
                if not self._registered or self._clock() + pause > self._deadline:
                    fields = error_fields(error, RegistrarError)
                    self._log.error("failed to unregister", service=self._service.id, **fields)
                    self.metrics.report(f"failed to unregister: {safely(str, error)}")
                    return
                time.sleep(pause)
            else:
                self._log.info("unregistered", service=self._service.id)
                self.metrics.report("unregistered")
                return
