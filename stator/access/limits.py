"""Limits tries of passwords by address, and what is logged of them."""

import threading
from collections import OrderedDict, deque
from math import ceil
from typing import NamedTuple

from stator.log.logger import Log

# So many failures in so many seconds end an address's tries.
FAILURES, WINDOW = 5, 10.0
MOST_ADDRESSES = 4096  # whose failures are kept: those who failed last
SUMMARY = 60.0  # seconds after which further refusals of an address are summed up
MOST_NAMED = 16  # addresses that are logged by themselves in that time
OTHERS = "others"


class FailureLimit:
    """Which addresses have failed too often to try again. Thread-safe. Networks of IPv6, /64, count as one address."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, address: str, now: float) -> int:
        """Returns the seconds until an address may try again; 0 where it may."""
        failures = self._failures.get(_network(address))
        if failures is None or len(failures) < FAILURES:
            return 0
        return max(0, ceil(failures[0] + WINDOW - now))

    def add(self, address: str, now: float) -> None:
        """Counts a failure."""
        network = _network(address)
        with self._lock:
            self._failures.setdefault(network, deque(maxlen=FAILURES)).append(now)
            self._failures.move_to_end(network)
            if len(self._failures) > MOST_ADDRESSES:
                self._failures.popitem(last=False)


def _network(address: str) -> str:
    """Returns what an address counts as: whoever has one IPv6 address has all of its /64."""
    if ":" not in address:
        return address
    from stator.access.networks import parse_address

    try:
        return parse_address(address).packed[:8].hex()
    except ValueError:
        return address


class _Refusals(NamedTuple):
    """Refusals of an address: since when, and how many there were after the first."""

    since: float
    further: int = 0


class RefusalLog:
    """Logs refusals by address: the first at once, and how many more there were a minute later. Thread-safe."""

    def __init__(self, log: Log) -> None:
        self._log, self._lock = log, threading.Lock()
        self._known: dict[tuple[str, str], _Refusals] = {}  # by message and address
        self._due = 0.0  # when the next summary may be

    def report(self, message: str, address: str, now: float) -> bool:
        """Logs a refusal or counts it; returns whether it was logged."""
        with self._lock:
            key = (message, address)
            if key not in self._known and len(self._known) >= MOST_NAMED:
                key = (message, OTHERS)
            if known := self._known.get(key):
                self._known[key] = _Refusals(known.since, known.further + 1)
                return False
            self._begin(key, now)
        self._log.warning(message, remote_ip=key[1])
        return True

    def sum_up(self, now: float) -> None:
        """Logs what was counted for long enough; called with each request."""
        if not self._known or now < self._due:
            return
        with self._lock:
            over = {key: known for key, known in self._known.items() if now >= known.since + SUMMARY}
            for key, known in over.items():
                del self._known[key]
                if known.further:  # it may go on: then the next line is a summary, too
                    self._begin(key, now)
            self._due = min((known.since for known in self._known.values()), default=now) + SUMMARY
        for (message, address), known in over.items():
            if known.further:
                seconds = round(now - known.since)
                self._log.warning(f"{message}, again", remote_ip=address, times=known.further, seconds=seconds)

    def _begin(self, key: tuple[str, str], now: float) -> None:
        self._known[key] = _Refusals(now)
        self._due = min(known.since for known in self._known.values()) + SUMMARY
