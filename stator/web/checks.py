"""Health checks: functions that raise when something is wrong, asked with a deadline and never piled up."""

import asyncio
import inspect
import re
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import orjson
from attrs import frozen

from stator.concurrency.gather import Round
from stator.concurrency.single_flight import CollectionTimeout, Outcome, SingleFlight
from stator.concurrency.threads import DaemonThreads
from stator.log.logger import Log
from stator.log.render import TRUNCATED
from stator.points import PointsAt
from stator.settings.declare import REDACTED

Check: TypeAlias = Callable[[], object]
"""Passes unless it raises or gives False; what it gives is awaited where that can be."""

# Seconds that a check may take; who asks us waits for ten mostly, some for five.
TIMEOUT = 2.0
HEALTHY = b'{"status":"ok"}'
# No longer reason is told to those who ask; the log has all of it.
LONGEST_REASON = 300
_USER_OF_URI = re.compile(r"(?<=://)[^/\s]*@")


@frozen
class Health:
    """How the checks fared.

    Attributes:
        ok: Whether all passed.
        body: That as JSON; where one failed, with the state of each.
    """

    ok: bool
    body: bytes


class Checks:
    """Asks checks together, each in a thread; one that is stuck is not asked again before it has come back.

    Args:
        checks: The checks by name.
        log: Where it's told that one begins to fail, fails for another reason, and passes again.
        timeout: Seconds that each may take.
        clock: Seconds that only go up.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        log: Log,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.timeout = timeout
        self._log, self._clock = log, clock
        # One process serves with one loop.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stations = {
            name: SingleFlight(_Checked(check, self._finish), clock, stuck_after=timeout)
            for name, check in checks.items()
        }
        self._crew = DaemonThreads()
        self._lock = threading.Lock()
        # Kind of the error that each failed with last.
        self._failing: dict[str, type[BaseException] | None] = {}

    def begin(self, loop: asyncio.AbstractEventLoop | None = None) -> Round[Health]:
        """Starts to ask all of them.

        Args:
            loop: The event loop in which what is to be awaited is run; None for a new one each time.

        Returns:
            A round that whoever waits for must tell to `hurry` soon, and to `close` after `timeout`.
        """
        self._loop = loop
        round_ = Round(
            self._stations,
            self.timeout,
            now=time.time,
            clock=self._clock,
            crew=self._crew,
            finish=self._judge,
            is_brief=lambda _: True,
            let_go=lambda _: None,
        )
        round_.begin()
        return round_

    def _finish(self, coming: Awaitable[object]) -> object:
        """Runs what a check left to be awaited, and blocks until it's over."""
        within = _within(coming, self.timeout)
        if self._loop is None:
            return asyncio.run(within)
        return asyncio.run_coroutine_threadsafe(within, self._loop).result()

    def _judge(self, outcomes: Mapping[str, Outcome], _stamp: float) -> Health:
        self._tell(outcomes)
        if all(outcome.error is None for outcome in outcomes.values()):
            return Health(ok=True, body=HEALTHY)
        states = {name: _state(outcome) for name, outcome in outcomes.items()}
        return Health(ok=False, body=orjson.dumps({"status": "failing", "checks": states}))

    def _tell(self, outcomes: Mapping[str, Outcome]) -> None:
        """Logs what changed: a check is asked every few seconds, and may fail for hours."""
        for name, outcome in outcomes.items():
            kind = None if outcome.error is None else type(outcome.error)
            with self._lock:
                last, self._failing[name] = self._failing.get(name), kind
            if outcome.error is not None and kind is not last:
                self._log.error("health check fails", check=name, **_why(outcome.error))
            elif kind is None and last is not None:
                self._log.info("health check passes again", check=name)


class _Checked:
    """A check as what a station can ask."""

    def __init__(self, check: Check, finish: Callable[[Awaitable[object]], object]) -> None:
        self._check, self._finish = check, finish

    def collect(self, now: float) -> PointsAt:
        """Gives no points, but raises where the check fails."""
        given = self._check()
        if inspect.isgenerator(given) or inspect.isasyncgen(given):
            msg = "it gave a generator, of which nothing has run: a check must return, not yield"
            raise TypeError(msg)
        if inspect.isawaitable(given):
            given = self._finish(given)
            if isinstance(given, _Ended):
                raise given.error
        if given is False:
            msg = "it gave False"
            raise _Refusal(msg)
        return PointsAt("", now)


@frozen
class _Ended:
    """How a coroutine ended that would have ended the program."""

    error: SystemExit


class _Refusal(Exception):  # noqa: N818 # a check says no, and nothing more
    """A check gave False."""


async def _within(coming: Awaitable[object], seconds: float) -> object:
    """Awaits, and cancels what takes too long."""
    try:
        async with asyncio.timeout(seconds) as limit:
            return await coming
    except SystemExit as error:
        # Not raised here: the event loop would end by it, and the application with that.
        return _Ended(error)
    except TimeoutError:
        if not limit.expired():
            raise  # the check's own
    msg = "it did not answer in time"
    raise CollectionTimeout(msg)


def _why(error: BaseException) -> dict[str, object]:
    """What the log is told: the reason, where that says it all."""
    return {"reason": str(error)} if isinstance(error, CollectionTimeout | _Refusal) else {"error": error}


def _state(outcome: Outcome) -> str:
    """A check's state for those who ask: ``ok``, or why not, without the users and passwords of URIs."""
    error = outcome.error
    if error is None:
        return "ok"
    plain = isinstance(error, CollectionTimeout | _Refusal)
    reason = str(error) if plain else traceback.format_exception_only(error)[-1].strip()
    shown = _USER_OF_URI.sub(f"{REDACTED}@", reason.encode(errors="backslashreplace").decode())
    return shown if len(shown) <= LONGEST_REASON else shown[:LONGEST_REASON] + TRUNCATED
