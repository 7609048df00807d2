"""Stays registered: a thread of its own that registers, watches that it stays so, and unregisters on the way out.

It goes from one look at the registration to the next. What is seen wrong is put right; where nothing is to be seen, it
looks again until there is.
"""

import random
import threading
import time
from collections.abc import Callable

from attrs import frozen

from stator.log.logger import Log, bind, new_id
from stator.roster.metrics import RosterMetrics, why
from stator.roster.registrar import Observation, Registrar, RegistrarError
from stator.roster.service import Service, ServiceConfig
from stator.settings.declare import StartError, positive, section, setting
from stator.settings.duration import Duration

# First wait after a failure, in seconds; each further one may be twice as long.
RETRY_FIRST = 0.05
# Shortest wait after a failure: a refused connection is answered at once, and would be asked for at once.
RETRY_LEAST = 0.005
# Longest time in seconds that one look may wait for a change, and so the longest until our checks are looked at, which
# no look can wait for; until a host that vanished without a word, or an agent that hangs, is noticed; and the age that
# the last confirmation may have. Two requests a minute cost an agent nothing, even when many share it; and a proxy on
# the way gives up after a minute.
WAIT = 60.0
# Seconds between two looks where the discovery service can't wait for a change, or answers too early.
POLL = 5.0
# Shortest time in seconds between two looks, whatever happens.
LOOK_LEAST = 0.1
# Seconds without a loss after which the next one counts as the first.
CALM = 60.0
# Longest time in seconds that leaving may take: container engines kill after ten.
LEAVING = 5.0
# Seconds beyond that in which the roster's own thread may tell how it went.
GRACE = 0.5

# What there is to see of a service that was not registered yet. It may be there all the same, from an earlier run, with
# what an operator has set.
NOT_YET_REGISTERED = Observation("not registered yet", keep=True)


@frozen
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
        bound: tuple[str, int],
        serves: Callable[[], bool],
        log: Log,
        *,
        own_url: str = "",
    ) -> "Roster":
        """A roster that keeps the service at the host, empty for all, and port that it is bound to registered."""
        host, port = bound
        return Roster(self, registrar, lambda: self.service.build(port, discovery_uri, host, own_url), serves, log)


class Roster:
    """Registers a service as soon as it is started, keeps it so, and unregisters it when it is stopped.

    Args:
        config: The periods.
        registrar: What tells the discovery service; None registers nowhere.
        find_service: Gives what to register; raises OSError while the address can't be looked up.
        serves: Whether the service answers: what can't serve must not be registered, since that is listed as passing.
        log: Where the story is told.
        jitter: A random number from 0 to 1.
        clock: Seconds that only go up.
    """

    def __init__(
        self,
        config: RosterConfig,
        registrar: Registrar | None,
        find_service: Callable[[], Service],
        serves: Callable[[], bool],
        log: Log,
        *,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._registrar, self._log = config, registrar, log
        self._find_service, self._serves = find_service, serves
        self._jitter, self._clock = jitter, clock
        self._state = RosterMetrics(log, clock=clock)
        self._leaving = threading.Event()
        self._stay = False
        self._deadline = 0.0
        self._thread: threading.Thread | None = None
        self._service: Service | None = None
        # How the service was last seen; None where that may have changed since.
        self._sight: Observation | None = NOT_YET_REGISTERED
        # Whether a registration was accepted once.
        self._registered = False
        self._failures = 0
        self._losses = 0
        self._lost_at = -CALM

    def collectors(self) -> dict[str, RosterMetrics]:
        """What collects the roster's state, under its name; nothing where nothing is registered."""
        return {} if self._registrar is None else {"roster": self._state}

    def start(self) -> None:
        """Begins to register, and goes on in the background.

        Raises:
            StartError: That can't be had.
        """
        if self._registrar is None:
            self._log.info("not registering: no discovery service is configured (STTR_CLIENT_BASEURI)")
            return
        thread = threading.Thread(target=self._work, args=(self._registrar,), name="roster", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            msg = f"can't stay registered: {error}"
            raise StartError(msg) from error
        self._thread = thread

    def stop(self, *, stay: bool = False) -> None:
        """Begins to unregister, unless the service is to stay registered; `left` tells when that is done."""
        self._stay = stay
        self._deadline = self._clock() + LEAVING
        self._leaving.set()
        if self._registrar is not None:
            self._registrar.wake()

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
        bind(worker_id=new_id())
        self._log.info("worker starting", name="roster")
        pause = 0.0
        while not self._leaving.wait(pause):
            try:
                pause = self._step(registrar)
            except Exception as error:  # noqa: BLE001 # whatever it is, the next try may go well
                pause = self._fail(error)
        self._state.left()
        if not self._stay:
            self._unregister(registrar)
        registrar.close()
        self._log.info("worker stopped", name="roster")

    def _step(self, registrar: Registrar) -> float:
        """Registers where the service was last seen wrong, then looks; gives the seconds until the next step."""
        self._service = self._service or self._found()
        last = self._sight
        if last is not None and last.wrong:
            self._register(registrar, self._service, keep=last.keep)
            last = None
        wait = self._wait() if last else 0.0
        began = self._clock()
        self._sight = seen = registrar.look(self._service, since=last.mark if last else "", wait=wait)
        self._failures = 0
        if seen.wrong:
            self._state.missed(seen.wrong)
            return self._settle()
        self._state.confirmed(self._service.id)
        if seen.mark and (last is None or seen.mark != last.mark or self._clock() - began > wait / 2):
            return LOOK_LEAST
        return min(POLL, self._config.interval.seconds)

    def _register(self, registrar: Registrar, service: Service, *, keep: bool) -> None:
        if not self._serves():
            msg = "the service itself does not answer"
            raise RegistrarError(msg, "unready")
        registrar.register(service, keep=keep, level="debug" if self._failures else "info")
        self._registered = True
        self._state.sent()

    def _found(self) -> Service:
        try:
            return self._find_service()
        except OSError as error:
            msg = f"can't look up our address: {error}"
            raise RegistrarError(msg, "address") from error

    def _wait(self) -> float:
        """Seconds that a look may last: a little less than allowed, as an agent adds up to a sixteenth."""
        return min(WAIT, self._config.interval.seconds) * (0.8 + 0.1 * self._jitter())

    def _fail(self, error: Exception) -> float:
        """Takes note of a failure; gives the seconds until the next try."""
        if self._leaving.is_set():
            return 0.0
        self._sight = None if self._registered else NOT_YET_REGISTERED
        self._failures += 1
        self._losses = 0
        self._state.failed(error)
        return self._backoff(self._failures, self._config.retry_max.seconds)

    def _settle(self) -> float:
        """Seconds to wait before what was found wrong is put right.

        None, but where that happens again and again: somebody else wants it otherwise, or has the same id.
        """
        now = self._clock()
        self._losses = 1 + (self._losses if now - self._lost_at < CALM else 0)
        self._lost_at = now
        return self._backoff(self._losses - 1, CALM / 2) if self._losses > 1 else 0.0

    def _backoff(self, times: int, longest: float) -> float:
        """Seconds to wait after so many failures: full jitter, so that many of us do not come back in step.

        A tenth is left for the next try, so that an outage is over within the longest wait.
        https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        """
        doubled = RETRY_FIRST * 2.0 ** min(times - 1, 40)
        return max(RETRY_LEAST, 0.9 * self._jitter() * min(longest, doubled))

    def _unregister(self, registrar: Registrar) -> None:
        """Leaves, whatever was registered or may have been; where it was, it tries for as long as `LEAVING`."""
        if self._service is None:
            return
        failures = 0
        while True:
            try:
                registrar.unregister(self._service, timeout=max(0.1, self._deadline - self._clock()))
            except Exception as error:  # noqa: BLE001 # whatever it is, the next try may go well
                failures += 1
                pause = self._backoff(failures, self._config.retry_max.seconds)
                if not self._registered or self._clock() + pause > self._deadline:
                    self._log.error("failed to unregister", service=self._service.id, **why(error))
                    return
                time.sleep(pause)
            else:
                self._log.info("unregistered", service=self._service.id)
                return
