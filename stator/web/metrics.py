"""The resource /metrics: what a scraper may ask for, and its answer."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import falcon

from stator.concurrency.gather import Round
from stator.exporter import PATIENCE, Encoder, Encoding, Exporter, ScrapeRequest, ScrapeResponse

if TYPE_CHECKING:
    from falcon import Request as WsgiRequest
    from falcon import Response as WsgiResponse
    from falcon.asgi import Request, Response

# How many of the things that scrapers asked for are remembered.
KEPT_ASKS = 64
# Seconds by which we answer before the scraper gives up, for the way back.
MARGIN = 0.5
# Seconds that a scrape waits, at most, for others that ask for the same and are about to come.
GATHERING = 0.001


class Negotiator(Protocol):
    """What a scraper can be answered in."""

    def encoder_for(self, accept: str) -> Encoder:
        """What writes the format that an Accept header likes best."""

    def encoding(self, accept_encoding: str) -> Encoding:
        """How an Accept-Encoding header likes the body."""


class _Scrapes:
    """What scrapers ask, read from requests, and answered in responses."""

    def __init__(self, exporter: Exporter, formats: Negotiator) -> None:
        self._exporter, self._formats = exporter, formats
        # A scraper asks for the same again and again.
        self._wanted = lru_cache(KEPT_ASKS)(self._ask)

    def _asked(self, req: "WsgiRequest") -> ScrapeRequest:
        """The format, encoding and time that a scraper wants, and the collectors that it names."""
        only = None
        if req.query_string:
            collect, exclude = req.get_param_as_list("collect[]"), req.get_param_as_list("exclude[]")
            only = _only(self._exporter.names, collect, exclude)
        accept, accept_encoding = req.get_header("Accept") or "", req.get_header("Accept-Encoding") or ""
        return self._wanted(accept, accept_encoding, req.get_header("X-Prometheus-Scrape-Timeout-Seconds"), only)

    def _ask(
        self, accept: str, accept_encoding: str, timeout: str | None, only: frozenset[str] | None
    ) -> ScrapeRequest:
        return ScrapeRequest(
            self._formats.encoder_for(accept), self._formats.encoding(accept_encoding), _timeout(timeout), only
        )

    def _fill(self, resp: "WsgiResponse", scrape: ScrapeResponse) -> None:
        resp.content_type = scrape.content_type
        resp.data = scrape.body
        resp.set_header("Vary", "Accept, Accept-Encoding")
        if scrape.encoding != "identity":
            resp.set_header("Content-Encoding", scrape.encoding)


class MetricsWSGI(_Scrapes):
    """Answers scrapes over WSGI."""

    def on_get(self, req: "WsgiRequest", resp: "WsgiResponse") -> None:
        """Answers as the scraper wants it."""
        self._fill(resp, self._exporter.scrape(self._asked(req)))

    on_head = on_get


class Metrics(_Scrapes):
    """Answers scrapes over ASGI; collectors run in threads, so a slow one holds up nobody else."""

    def __init__(self, exporter: Exporter, formats: Negotiator) -> None:
        super().__init__(exporter, formats)
        # Applications may be served by several event loops, each in a thread of its own.
        self._gathering: dict[tuple[asyncio.AbstractEventLoop, ScrapeRequest], _Gathering] = {}

    async def on_get(self, req: "Request", resp: "Response") -> None:
        """Answers as the scraper wants it."""
        self._fill(resp, await self._answer(self._asked(req)))

    on_head = on_get

    def _answer(self, ask: ScrapeRequest) -> "asyncio.Future[ScrapeResponse]":
        """An answer to come, the same for all who ask for the same before it's begun."""
        loop = asyncio.get_running_loop()
        gathering = self._gathering.get((loop, ask))
        if gathering is None:
            gathering = self._gathering[loop, ask] = _Gathering(loop)
            loop.call_soon(self._begin, gathering, ask, loop.time() + GATHERING)
        return gathering.join()

    def _begin(self, gathering: "_Gathering", ask: ScrapeRequest, latest: float, came: int = 0) -> None:
        """Begins as soon as a turn of the event loop has brought nobody else, or at the latest at a time."""
        if came < gathering.size and gathering.loop.time() < latest:
            gathering.loop.call_soon(self._begin, gathering, ask, latest, gathering.size)
            return
        del self._gathering[gathering.loop, ask]
        try:
            gathering.follow(self._exporter.begin(ask), self._exporter.timeout(ask))
        except Exception as error:  # noqa: BLE001 # no thread could be started, say: whoever waits is told
            gathering.fail(error)


class _Gathering:
    """Those who wait for one round: each can leave without taking the answer from the others."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiters: list[asyncio.Future[ScrapeResponse]] = []

    @property
    def size(self) -> int:
        return len(self._waiters)

    def join(self) -> "asyncio.Future[ScrapeResponse]":
        waiter: asyncio.Future[ScrapeResponse] = self.loop.create_future()
        self._waiters.append(waiter)
        return waiter

    def follow(self, round_: Round[ScrapeResponse], timeout: float) -> None:
        """Passes on a round's answer, and sees to it that there is one in time."""
        if round_.answer.done():
            self._pass_on(round_.answer, ())
            return
        timers = (self.loop.call_later(PATIENCE, round_.hurry), self.loop.call_later(timeout, round_.close))

        def answered(answer: "Future[ScrapeResponse]") -> None:
            # The loop may be gone when a collector comes back late.
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._pass_on, answer, timers)

        round_.answer.add_done_callback(answered)

    def _pass_on(self, answer: "Future[ScrapeResponse]", timers: Iterable[asyncio.TimerHandle]) -> None:
        for timer in timers:
            timer.cancel()
        if error := answer.exception():
            self.fail(error)
            return
        scrape = answer.result()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(scrape)

    def fail(self, error: BaseException) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error)


def _timeout(header: str | None) -> float:
    """Seconds for the scrape, from what the scraper says of its own; 0 where it says nothing of use."""
    try:
        seconds = float(header or 0)
    except ValueError:
        return 0.0
    # Not a number, or for ever, is of no use either.
    return max(seconds - MARGIN, seconds / 2) if 0 < seconds < float("inf") else 0.0


def _only(names: list[str], collect: list[str] | None, exclude: list[str] | None) -> frozenset[str] | None:
    """The collectors that are asked for; None for all.

    Raises:
        falcon.HTTPBadRequest: One of them doesn't exist, or both filters are given.
    """
    if not collect and not exclude:
        return None
    if collect and exclude:
        raise falcon.HTTPBadRequest(title="give collect[] or exclude[], not both")
    if unknown := sorted({*(collect or ()), *(exclude or ())} - {*names}):
        title = f"no collector {', '.join(unknown)}; there are {', '.join(names)}"
        raise falcon.HTTPBadRequest(title=title)
    return frozenset(collect) if collect else frozenset(names) - {*(exclude or ())}
