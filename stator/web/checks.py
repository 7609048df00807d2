"""Health checks: functions that raise when something is wrong, called with a deadline and never twice at a time."""

import inspect
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from math import inf

import msgspec
from attrs import frozen

from stator.concurrency.gather import gather
from stator.concurrency.loops import AWAITER, Awaiter, await_alone, awaiter, result_of
from stator.concurrency.single_flight import CollectionTimeout, Outcome, SingleFlight
from stator.concurrency.threads import DaemonThreads
from stator.log.changes import ChangeLog
from stator.log.logger import Log
from stator.log.render import TRUNCATED
from stator.points import Point, PointsAt
from stator.settings.masking import Mask, mask_uris
from stator.web.health import Check, CheckError

# Seconds that a check may take; whoever asks for /monitor waits ten mostly, some five.
TIMEOUT = 2.0
PASSING = "ok"
HEALTHY, FAILING, DRAINING = (b'{"status":"%s"}' % status for status in (b"ok", b"failing", b"draining"))
# Longest reason in an answer; the log has all of it.
LONGEST_REASON = 300


def passing(check: Check, timeout: float) -> Callable[[], bool]:
    """Returns what says whether a check passes, within so many seconds: it's made in a thread."""
    flights: SingleFlight[str, None] = SingleFlight(DaemonThreads().run)

    def passes() -> bool:
        calls = {"": partial(_make, check, timeout, await_alone)}
        return gather(flights, calls, timeout)[""].error is None

    return passes


@frozen
class Health:
    """Whether all checks passed and the service does not drain; also as JSON, with and without each check's state."""

    ok: bool
    body: bytes
    brief: bytes


class Checks:
    """Makes health checks at the same time, each in a thread; one that is stuck is not made again before it returns.

    Changes of their states are logged. None is made once `is_draining` says that the service will stop.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        log: Log,
        timeout: float = TIMEOUT,
        is_draining: Callable[[], bool] = lambda: False,
        mask: Mask = mask_uris,
    ) -> None:
        self._checks, self._timeout, self._is_draining, self._mask = dict(checks), timeout, is_draining, mask
        threads = DaemonThreads()
        self._runs: SingleFlight[object, Health] = SingleFlight(threads.run)
        self._flights: SingleFlight[str, None] = SingleFlight(threads.run)
        lines, expected = ("health check fails", "health check passes again"), (CollectionTimeout, CheckError)
        self._failures = ChangeLog(log, "check", *lines, level="error", expected=expected)

    def run(self, await_: Awaiter = await_alone) -> Health:
        """Makes all checks; what they return to be awaited is given to `await_`."""
        if self._is_draining():
            return Health(ok=False, body=DRAINING, brief=DRAINING)
        states = self.states(await_)
        if not states:
            return Health(ok=True, body=HEALTHY, brief=HEALTHY)
        ok = all(state == PASSING for state in states.values())
        body = msgspec.json.encode({"status": "ok" if ok else "failing", "checks": states})
        return Health(ok, body, HEALTHY if ok else FAILING)

    def states(self, await_: Awaiter) -> dict[str, str]:
        """Makes all checks, also while the service drains; returns for each `PASSING`, or why it fails."""
        return {name: _state(outcome, self._mask) for name, outcome in self.outcomes(await_).items()}

    def outcomes(self, await_: Awaiter) -> dict[str, Outcome[None]]:
        """Makes all checks, also while the service drains; logs changes."""
        calls = {name: partial(_make, check, self._timeout, await_) for name, check in self._checks.items()}
        outcomes = gather(self._flights, calls, self._timeout)
        for name, outcome in outcomes.items():
            self._failures.report(name, outcome.error)
        return outcomes

    async def run_async(self) -> Health:
        """Makes all checks, in threads, with what they return to be awaited in this event loop."""
        if not self._checks:
            return self.run()
        call = self._runs.submit(object(), partial(self.run, awaiter()), inf)
        return (await result_of(call.future)).unwrap()


@frozen(eq=False, repr=False)
class CheckMetrics:
    """A collector that makes the checks; `checks` returns those of this process."""

    checks: Callable[[], Checks]

    def collect(self, now: float) -> PointsAt:
        """Returns for each check whether it passes, and how long it took."""
        points = []
        for name, outcome in self.checks().outcomes(AWAITER.get()).items():
            labels = (("check", name),)
            up = int(outcome.error is None)
            points.append(Point("check_up", "Whether the health check passes", up, labels=labels))
            desc = "Time that the health check took"
            points.append(Point("check_duration", desc, outcome.seconds, unit="seconds", labels=labels))
        return PointsAt("stator", now, points=points)


def _make(check: Check, timeout: float, await_: Awaiter) -> None:
    result = check()
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        msg = "the check is a generator function and never ran: use return instead of yield"
        raise TypeError(msg)
    if inspect.isawaitable(result):
        result = await_(result, timeout).unwrap()
    if result is False:
        msg = "the check returned False"
        raise CheckError(msg)


def _state(outcome: Outcome[None], mask: Mask) -> str:
    """Returns a check's state for an answer: ``ok``, or why it fails, without secrets."""
    error = outcome.error
    if error is None:
        return PASSING
    is_plain = isinstance(error, CollectionTimeout | CheckError)
    text = str(error) if is_plain else traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, CollectionTimeout) and error.stuck:
        text += f", still at work for an earlier request, since {error.stuck:.1f} s"
    reason = mask(text).encode(errors="backslashreplace").decode()
    return reason if len(reason) <= LONGEST_REASON else reason[:LONGEST_REASON] + TRUNCATED
