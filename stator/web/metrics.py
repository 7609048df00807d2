"""The resource /metrics: what a scraper asks for, and the answer to it."""

import asyncio
from math import inf

import falcon.asgi
from attrs import frozen

from stator.concurrency.loops import AWAITER, InTwoIterations, awaiter, call_soon_in_trio, in_trio, result_of
from stator.exporter import Exporter, ScrapeRequest, ScrapeResponse
from stator.exposition.negotiation import Negotiator, choose_encoding

# Seconds by which an answer leaves before the scraper gives up, for the way back.
MARGIN = 0.5


@frozen(eq=False, repr=False)
class Metrics:
    """Answers scrapes in the format that the scraper prefers, over WSGI or, with the suffix ``async``, over ASGI."""

    exporter: Exporter
    negotiator: Negotiator

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answers when all collectors have returned."""
        _fill(resp, self.exporter.scrape(self._request(req)))

    async def on_get_async(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Answers; collectors run in threads, so that a slow one delays no other request."""
        AWAITER.set(awaiter())
        if in_trio():
            answer = self.exporter.submit(self._request(req), call_soon_in_trio())
            _fill(resp, (await result_of(answer.future)).unwrap())
            return
        answer = self.exporter.submit(self._request(req), InTwoIterations(asyncio.get_running_loop()))
        for _ in range(2):  # that is all it takes where no collector may block
            await asyncio.sleep(0)
        outcome = answer.result
        if outcome is None:
            outcome = await asyncio.wrap_future(answer.future)
        _fill(resp, outcome.unwrap())

    on_head, on_head_async = on_get, on_get_async

    def _request(self, req: falcon.Request) -> ScrapeRequest:
        return ScrapeRequest(
            self.negotiator.encoder_for(req.get_header("Accept", default="")),
            choose_encoding(req.get_header("Accept-Encoding", default="")),
            _timeout(req.get_header("X-Prometheus-Scrape-Timeout-Seconds", default="0")),
            _collectors(req, self.exporter.names),
        )


def _fill(resp: falcon.Response, scrape: ScrapeResponse) -> None:
    resp.content_type = scrape.content_type
    resp.data = scrape.body
    resp.set_header("Vary", "Accept, Accept-Encoding")
    if scrape.encoding != "identity":
        resp.set_header("Content-Encoding", scrape.encoding)


def _timeout(header: str) -> float:
    """Returns the seconds that a scrape may take; 0 where the scraper says no number of seconds."""
    try:
        seconds = float(header)
    except ValueError:
        return 0.0
    return max(seconds - MARGIN, seconds / 2) if 0 < seconds < inf else 0.0


def _collectors(req: falcon.Request, names: list[str]) -> frozenset[str] | None:
    """Returns the names of the collectors that a scraper wants, or None for all; refuses unknown ones."""
    collect, exclude = req.get_param_as_list("collect[]"), req.get_param_as_list("exclude[]")
    if not collect and not exclude:
        return None
    if collect and exclude:
        raise falcon.HTTPBadRequest(title="give collect[] or exclude[], not both")
    if unknown := sorted({*(collect or exclude or ())} - {*names}):
        title = f"no collector {', '.join(unknown)}; there are {', '.join(names)}"
        raise falcon.HTTPBadRequest(title=title)
    return frozenset(collect or {*names} - {*(exclude or ())})
