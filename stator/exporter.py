"""Answers scrapes: calls the collectors, encodes their points, compresses the text."""

import inspect
import operator
import re
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from io import BytesIO
from itertools import pairwise
from typing import Literal, NamedTuple

from attrs import frozen
from msgspec.structs import replace

from stator.concurrency.gather import gather
from stator.concurrency.single_flight import Call, CollectionTimeout, Outcome, Run, SingleFlight
from stator.concurrency.threads import DaemonThreads
from stator.exposition.encoder import Encoder, Exposition
from stator.exposition.negotiation import Encoding
from stator.exposition.openmetrics import OPENMETRICS
from stator.exposition.text import TEXT_0_0_4
from stator.log.changes import ChangeLog
from stator.log.logger import Log
from stator.points import Collector, IncompleteError, Labels, NonBlockingCollector, Point, PointError, PointsAt
from stator.settings.declare import Constraint, at_least, positive, setting
from stator.settings.duration import Duration

# Seconds after which a shared answer counts as stuck: it never is, unless a collector blocks that says it doesn't.
ANSWER_TIMEOUT = 60.0
# The collector of what others expose: of families that conflict those of another collector stay.
ADDED_LAST = "scrape"
# Families of a collector whose errors its line in the log has.
FAMILIES_LOGGED = 3
# https://opentelemetry.io/docs/specs/semconv/http/http-metrics/ advises these.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_ascending = Constraint(
    "ascending seconds above 0, such as 0.01,0.1,1",
    lambda bounds: all(low < high for low, high in pairwise((0.0, *bounds))) and len(bounds) > 0,
)


group_name = Constraint(
    "a name of up to 64 letters, digits, dots, dashes and underscores",
    lambda name: re.fullmatch(r"[A-Za-z0-9._-]{0,64}", name) is not None,
)


@frozen(eq=False, repr=False)
class MetricsConfig:
    """How metrics are exposed."""

    timestamps: Literal["auto", "always", "never"] = setting(
        "auto", desc="timestamps on samples; auto: only in text 0.0.4, as Prometheus' staleness needs them away"
    )
    timeout: Duration = setting(
        Duration.parse("9s"), desc="longest time for a scrape whose scraper names none", check=positive
    )
    buckets: tuple[float, ...] = setting(
        BUCKETS, desc="upper bounds in seconds of the durations of an application's requests", check=_ascending
    )
    max_series: int = setting(
        10_000, desc="series of an application's requests; others count under http_route _OTHER", check=at_least(1)
    )
    group: str = setting(
        "", desc="name under which other processes of this user share an application's metrics", check=group_name
    )


@frozen(repr=False)
class ScrapeRequest:
    """What a scraper asks for; a timeout of 0 is the configured one, and None for collectors are all.

    Equal requests share an answer.
    """

    encoder: Encoder
    encoding: Encoding = "identity"
    timeout: float = 0.0
    collectors: frozenset[str] | None = None


@frozen(eq=False, repr=False)
class ScrapeResponse:
    """An answer to a scrape."""

    content_type: str
    encoding: Encoding
    body: bytes


class Collection(NamedTuple):
    """What came of a collector in a scrape."""

    at: float  # Unix time
    success: bool
    seconds: float
    points: int


class Exporter:
    """Exposes the points of collectors, and for each its success and its duration.

    Scrapes that come while a collector is at work share its next result, so that none gets values from before it came.
    """

    def __init__(
        self,
        collectors: Mapping[str, Collector],
        config: MetricsConfig,
        build: Labels,
        log: Log,
        *,
        now: Callable[[], float] = time.time,
        collected: Callable[[Mapping[str, Collection]], object] = lambda _: None,
    ) -> None:
        self._collectors, self._config, self._build, self._now = dict(collectors), config, build, now
        self._collected = collected  # called with what came of each collector of a scrape
        self.names = sorted(collectors, key=lambda name: name == ADDED_LAST)
        self._nonblocking = {name: each for name, each in collectors.items() if isinstance(each, NonBlockingCollector)}
        threads = DaemonThreads()
        self._answers: SingleFlight[object, ScrapeResponse] = SingleFlight(threads.run)
        self._collections: SingleFlight[str, PointsAt] = SingleFlight(threads.run)
        begins, ends, expected = "failed to collect", "collects again", (CollectionTimeout, PointError)
        self._failures = ChangeLog(log, "collector", begins, ends, level="error", expected=expected)

    def scrape(self, request: ScrapeRequest) -> ScrapeResponse:
        """Answers a scrape; blocks until its collectors have returned or its time is up."""
        return self.submit(request, operator.call, operator.call).wait().unwrap()

    def try_out(self) -> dict[str, BaseException]:
        """Collects once, and encodes the points as text and as OpenMetrics; returns what fails, by collector."""
        stamp = self._now()
        outcomes = gather(self._collections, self._calls(self.names, stamp), self._config.timeout.seconds)
        errors: dict[str, BaseException] = {}
        for format_ in (TEXT_0_0_4, OPENMETRICS):
            exposition = Encoder(format_, timestamps=False).exposition()
            found = {name: _added(exposition, name, outcome) for name, outcome in outcomes.items()}
            errors |= {name: error for name, error in found.items() if error is not None}
        return errors

    def _calls(self, names: Iterable[str], stamp: float) -> dict[str, Callable[[], PointsAt]]:
        return {name: partial(_collect, self._collectors[name], stamp) for name in names}

    def submit(
        self, request: ScrapeRequest, run_nonblocking: Run, run_blocking: Run | None = None
    ) -> Call[ScrapeResponse]:
        """Begins to answer a scrape: by `run_nonblocking` if no collector may block, else by the other or a thread."""
        names = [name for name in self.names if request.collectors is None or name in request.collectors]
        inline = {name for name in names if name in self._nonblocking and self._nonblocking[name].is_nonblocking()}
        answer = partial(self._answer, request, names, inline)
        deadline = time.monotonic() + ANSWER_TIMEOUT
        may_block = len(inline) < len(names) or request.encoder.lock.locked()
        if may_block:  # not shared either: whoever waited for another scrape to end could be late
            return self._answers.submit(object(), answer, deadline, run_blocking)
        return self._answers.submit((request, run_nonblocking), answer, deadline, run_nonblocking)

    def _answer(self, request: ScrapeRequest, names: list[str], inline: set[str]) -> ScrapeResponse:
        stamp = self._now()
        outcomes = gather(
            self._collections, self._calls(names, stamp), request.timeout or self._config.timeout.seconds, inline
        )
        with request.encoder.lock:
            pieces = self._encode(request.encoder, outcomes, stamp)
        body = _gzip(pieces) if request.encoding == "gzip" else joined(pieces)
        return ScrapeResponse(request.encoder.content_type, request.encoding, body)

    def _encode(self, encoder: Encoder, outcomes: Mapping[str, Outcome[PointsAt]], stamp: float) -> Iterable[bytes]:
        exposition = encoder.exposition()
        errors = {name: _added(exposition, name, outcome) for name, outcome in outcomes.items()}
        try:
            exposition.add("stator", self._own(outcomes, errors, stamp))
        except PointError:
            # A collector has a family of ours, of another type or with the same series: ours come first then.
            tried, exposition = encoder.exposition(), encoder.exposition()
            tried.add("stator", self._own(outcomes, errors, stamp))
            errors = {name: _added(tried, name, outcome) for name, outcome in outcomes.items()}
            exposition.add("stator", self._own(outcomes, errors, stamp))
            for name, outcome in outcomes.items():
                _added(exposition, name, outcome)
        for name, error in errors.items():
            self._failures.report(name, error)
        self._collected({name: _collection(stamp, each, errors[name]) for name, each in outcomes.items()})
        return exposition.pieces()

    def _own(
        self, outcomes: Mapping[str, Outcome[PointsAt]], errors: Mapping[str, BaseException | None], stamp: float
    ) -> PointsAt:
        own: list[Point] = []
        for name, outcome in outcomes.items():
            labels = (("collector", name),)
            desc = "Whether the collector's last collection worked"
            own.append(Point("collector_success", desc, int(errors[name] is None), labels=labels))
            desc = "Time that the collection took"
            own.append(Point("collector_duration", desc, outcome.seconds, unit="seconds", labels=labels))
        own.append(Point("build_info", "Version of Stator and of Python", 1, labels=self._build))
        return PointsAt("stator", stamp, points=own)


def _collection(stamp: float, outcome: Outcome[PointsAt], error: BaseException | None) -> Collection:
    found = outcome.error.points_at if isinstance(outcome.error, IncompleteError) else outcome.value
    return Collection(stamp, error is None, outcome.seconds, len(found.points) if found else 0)  # type: ignore[arg-type]


def _added(exposition: Exposition, name: str, outcome: Outcome[PointsAt]) -> BaseException | None:
    """Adds to an exposition what a collector has collected; returns what has failed."""
    collected, error = outcome.value, outcome.error
    if isinstance(error, IncompleteError):
        collected, error = error.points_at, error.__cause__
    if collected is None:
        return error
    try:
        return _first(error, exposition.add_families(name, collected))
    except BaseException as unfit:  # noqa: BLE001 # a text or a number may raise anything
        return unfit


def _first(error: BaseException | None, errors: Sequence[Exception]) -> BaseException | None:
    """Returns what is logged of several errors; of families that can't be exposed the first few."""
    if error is not None or len(errors) < 2 or not all(isinstance(each, PointError) for each in errors):
        return error or next(iter(errors), None)
    more = f"; and {len(errors) - FAMILIES_LOGGED} more" if len(errors) > FAMILIES_LOGGED else ""
    return PointError("; ".join(map(str, errors[:FAMILIES_LOGGED])) + more)


def joined(pieces: Iterable[bytes]) -> bytes:
    """Returns all pieces as one; each is freed as soon as it's copied, so that the body is never in memory twice."""
    whole = BytesIO()
    whole.writelines(pieces)
    return whole.getvalue()


def _collect(collector: Collector, now: float) -> PointsAt:
    """Calls a collector, and takes its points, since making them is part of the work."""
    collected: object = collector.collect(now)
    if not isinstance(collected, PointsAt):
        if inspect.iscoroutine(collected):
            collected.close()  # it would warn that nobody awaited it
        if not isinstance(collected, Iterable) or isinstance(collected, str | bytes | Mapping):
            msg = f"collect() must return a PointsAt or an iterable of Points, not {collected!r}"
            raise PointError(msg)
        collected = PointsAt("", now, points=collected)
    points = collected.points
    return collected if type(points) in (list, tuple) else replace(collected, points=list(points))


def _gzip(pieces: Iterable[bytes]) -> bytes:
    # Level 1 takes a tenth of the default's time, for a body that is half as long again; 31 is the gzip format.
    packer = zlib.compressobj(1, wbits=31)
    # Piece by piece, since zlib lets other threads run only while it's in a call.
    return b"".join([*map(packer.compress, pieces), packer.flush()])
