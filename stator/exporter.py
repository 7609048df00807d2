"""From collectors to bytes: asks each collector, and formats what it says."""

import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from functools import partial
from io import BytesIO
from typing import Literal, Protocol, TypeAlias

from attrs import frozen

from stator.concurrency.gather import Round
from stator.concurrency.single_flight import CollectionTimeout, Outcome, SingleFlight
from stator.concurrency.threads import DaemonThreads
from stator.log.logger import Log
from stator.points import Collector, Labels, Point, PointError, PointsAt
from stator.settings.declare import positive, setting
from stator.settings.duration import Duration

# Seconds after which collectors no longer wait for each other, nor one round for another.
PATIENCE = 0.05
# So many points are formatted faster than a thread is woken that would do it.
BRIEF = 1000
# The name under which what we say of ourselves is formatted.
OURS = "stator"
# Of zlib's: a tenth of the time of its default, for a body that is half as long again.
GZIP_LEVEL = 1
# What zlib calls the gzip format, with its largest window: https://docs.python.org/3/library/zlib.html#zlib.compressobj
GZIP_WBITS = 31


Encoding: TypeAlias = Literal["identity", "gzip"]


class Exposition(Protocol):
    """One answer to a scrape, in one format."""

    def add(self, source: str, points_at: PointsAt) -> None:
        """Adds the points of one source: all of them, or none; raises PointError."""

    def pieces(self) -> Iterable[bytes]:
        """The text in order, made while it's taken; the formatter's lock is needed no more."""


class Encoder(Protocol):
    """What writes points in one format; for one thread at a time, which holds its `lock`."""

    @property
    def content_type(self) -> str:
        """The format's media type."""

    @property
    def lock(self) -> threading.Lock:
        """What a thread holds while it makes an exposition."""

    def exposition(self) -> Exposition:
        """An exposition without points yet."""


@frozen
class MetricsConfig:
    """How metrics are exposed."""

    timestamps: Literal["auto", "always", "never"] = setting(
        "auto",
        desc="timestamps on samples; auto: only in text 0.0.4, as Prometheus' staleness needs them away",
    )
    timeout: Duration = setting(
        Duration.parse("9s"),
        desc="longest time for a scrape whose scraper names none",
        check=positive,
    )


# Asked for again and again, and looked up at each scrape.
@frozen(cache_hash=True)
class ScrapeRequest:
    """What a scraper asks for.

    Attributes:
        formatter: What writes the format.
        encoding: How the body is compressed.
        timeout: Seconds that it waits at most, or 0 for the configured time.
        only: Names of the collectors that it wants.
    """

    formatter: Encoder
    encoding: Encoding = "identity"
    timeout: float = 0.0
    only: frozenset[str] | None = None


@frozen
class ScrapeResponse:
    """An answer to a scrape."""

    content_type: str
    encoding: Encoding
    body: bytes


class Exporter:
    """Exposes what collectors collect, and how each of them fared.

    Scrapes that wait at the same time share a round of collection, which begins after all of them were asked for.

    Args:
        collectors: Collectors by name, in the order in which they are exposed.
        config: How metrics are exposed.
        build: Labels of ``stator_build_info``.
        log: Where failures are told.
        now: Unix time in seconds.
        clock: Seconds that only go up.
    """

    def __init__(
        self,
        collectors: Mapping[str, Collector],
        config: MetricsConfig,
        build: Labels,
        log: Log,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stations = {name: SingleFlight(collector, clock) for name, collector in collectors.items()}
        self._config, self._build, self._log = config, build, log
        self._now, self._clock = now, clock
        self._crew = DaemonThreads()
        self._lock = threading.Lock()
        self._running: dict[ScrapeRequest, Round[ScrapeResponse]] = {}
        self._next: dict[ScrapeRequest, Round[ScrapeResponse]] = {}

    @property
    def names(self) -> list[str]:
        """Names of the collectors."""
        return list(self._stations)

    def scrape(self, ask: ScrapeRequest) -> ScrapeResponse:
        """Answers a scrape, and blocks until then."""
        return self.begin(ask).wait(PATIENCE, self.timeout(ask))

    def timeout(self, ask: ScrapeRequest) -> float:
        """Seconds that a scrape may take."""
        return ask.timeout or self._config.timeout.seconds

    def begin(self, ask: ScrapeRequest) -> Round[ScrapeResponse]:
        """Starts to answer a scrape, or joins those that wait for the same.

        Returns:
            A round that whoever waits for must tell to `hurry` after `PATIENCE`, and to `close` when time is up.
        """
        with self._lock:
            if ask in self._next:
                return self._next[ask]
            made = self._round(ask)
            if ask in self._running:
                # What runs may have collected before this scrape was asked for.
                self._next[ask] = made
                return made
            self._running[ask] = made
        made.begin()
        return made

    def _round(self, ask: ScrapeRequest) -> Round[ScrapeResponse]:
        wanted = {name: each for name, each in self._stations.items() if ask.only is None or name in ask.only}
        return Round(
            wanted,
            self.timeout(ask),
            now=self._now,
            clock=self._clock,
            crew=self._crew,
            finish=partial(self._answer, ask),
            is_brief=partial(_is_brief, ask.formatter),
            let_go=partial(self._let_go, ask),
        )

    def _let_go(self, ask: ScrapeRequest, over: Round[ScrapeResponse]) -> None:
        """Begins the round that waited for another: for this one, or this one itself when it has waited too long."""
        with self._lock:
            waiting = self._next.get(ask)
            if over is not waiting and over is not self._running.get(ask):
                return
            self._running.pop(ask, None)
            if waiting is not None:
                self._running[ask] = self._next.pop(ask)
        if waiting is not None:
            waiting.begin()

    def _answer(self, ask: ScrapeRequest, outcomes: dict[str, Outcome], stamp: float) -> ScrapeResponse:
        with ask.formatter.lock:
            pieces = self._format(ask.formatter, outcomes, stamp)
        body = _gzip(pieces) if ask.encoding == "gzip" else joined(pieces)
        return ScrapeResponse(ask.formatter.content_type, ask.encoding, body)

    def _format(self, formatter: Encoder, outcomes: dict[str, Outcome], stamp: float) -> Iterable[bytes]:
        exposition = formatter.exposition()
        told: list[Point] = []
        for name, outcome in outcomes.items():
            error = outcome.error
            if outcome.points_at is not None:
                try:
                    exposition.add(name, outcome.points_at)
                except BaseException as unfit:  # noqa: BLE001 # what is no text, number or time is found only now
                    error = unfit
            if error is not None:
                self._log.error("failed to collect", collector=name, **_why(error))
            told += _outcome(name, outcome.seconds, success=error is None)
        told.append(Point("build_info", "Version of Stator and of Python", 1, labels=self._build))
        exposition.add(OURS, PointsAt("stator", stamp, points=told))
        return exposition.pieces()


def joined(pieces: Iterable[bytes]) -> bytes:
    """All pieces as one; each is let go of as soon as it's copied, so that there is no second whole of them."""
    whole = BytesIO()
    whole.writelines(pieces)
    return whole.getvalue()


def _is_brief(formatter: Encoder, outcomes: Iterable[Outcome]) -> bool:
    """Whether what collectors gave is formatted in no time to speak of."""
    lists = (outcome.points_at.points for outcome in outcomes if outcome.points_at)
    points = sum(len(each) for each in lists if isinstance(each, Sized))
    return points <= BRIEF and not formatter.lock.locked()


def _why(error: BaseException) -> dict[str, object]:
    """What the log is told: the reason, where that says it all."""
    return {"reason": str(error)} if isinstance(error, CollectionTimeout | PointError) else {"error": error}


def _outcome(name: str, seconds: float, *, success: bool) -> Iterator[Point]:
    labels = (("collector", name),)
    desc = "Whether the collector's last collection worked"
    yield Point("collector_success", desc, int(success), labels=labels)
    yield Point("collector_duration", "Time that the collection took", seconds, unit="seconds", labels=labels)


def _gzip(pieces: Iterable[bytes]) -> bytes:
    # Piece by piece, since zlib lets other threads run only while it's in a call.
    packer = zlib.compressobj(GZIP_LEVEL, wbits=GZIP_WBITS)
    return b"".join([*map(packer.compress, pieces), packer.flush()])
