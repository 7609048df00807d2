"""The resource /metrics: what a scraper asks for, and the answer to it."""

import asyncio
from typing import TYPE_CHECKING

import falcon

from stator.exporter import Exporter, ScrapeRequest, ScrapeResponse
from stator.exposition.negotiation import Negotiator

if TYPE_CHECKING:
    from falcon import Request as WsgiRequest
    from falcon import Response as WsgiResponse
    from falcon.asgi import Request, Response

# Seconds by which an answer leaves before the scraper gives up, for the way back.
MARGIN = 0.5


class MetricsWSGI:
    """Answers scrapes over WSGI."""

    def __init__(self, exporter: Exporter, negotiator: Negotiator) -> None:
        self._exporter, self._negotiator = exporter, negotiator

    def on_get(self, req: "WsgiRequest", resp: "WsgiResponse") -> None:
        """Answers in the format that the scraper prefers."""
        _fill(resp, self._exporter.scrape(_request(req, self._exporter, self._negotiator)))

    on_head = on_get


class Metrics:
    """Answers scrapes over ASGI; collectors run in threads, so that a slow one delays no other request."""

    def __init__(self, exporter: Exporter, negotiator: Negotiator) -> None:
        self._exporter, self._negotiator = exporter, negotiator

    async def on_get(self, req: "Request", resp: "Response") -> None:
        """Answers in the format that the scraper prefers."""
        run_soon = asyncio.get_running_loop().call_soon
        answer = self._exporter.submit(_request(req, self._exporter, self._negotiator), run_soon)
        await asyncio.sleep(0)  # that is all it takes where no collector may block
        outcome = answer.result() if answer.done() else await asyncio.wrap_future(answer)
        _fill(resp, outcome.unwrap())

    on_head = on_get


def _request(req: "WsgiRequest", exporter: Exporter, negotiator: Negotiator) -> ScrapeRequest:
    """The format, encoding, time and collectors that a scraper asks for.

    Raises:
        falcon.HTTPBadRequest: It names collectors that don't exist, or both those that it wants and those that not.
    """
    collectors = None
    if req.query_string:
        collect, exclude = req.get_param_as_list("collect[]"), req.get_param_as_list("exclude[]")
        collectors = _collectors(exporter.names, collect or [], exclude or [])
    return ScrapeRequest(
        negotiator.encoder_for(req.get_header("Accept") or ""),
        negotiator.encoding(req.get_header("Accept-Encoding") or ""),
        _timeout(req.get_header("X-Prometheus-Scrape-Timeout-Seconds")),
        collectors,
    )


def _fill(resp: "WsgiResponse", scrape: ScrapeResponse) -> None:
    resp.content_type = scrape.content_type
    resp.data = scrape.body
    resp.set_header("Vary", "Accept, Accept-Encoding")
    if scrape.encoding != "identity":
        resp.set_header("Content-Encoding", scrape.encoding)


def _timeout(header: str | None) -> float:
    """Seconds for the scrape, of those that the scraper waits; 0 where it doesn't say, or nothing of use."""
    try:
        seconds = float(header or 0)
    except ValueError:
        return 0.0
    # Not a number, or for ever, is of no use either.
    return max(seconds - MARGIN, seconds / 2) if 0 < seconds < float("inf") else 0.0


def _collectors(names: list[str], collect: list[str], exclude: list[str]) -> frozenset[str] | None:
    """Names of the collectors that a scraper wants; None for all.

    Raises:
        falcon.HTTPBadRequest: One of them doesn't exist, or both filters are given.
    """
    if not collect and not exclude:
        return None
    if collect and exclude:
        raise falcon.HTTPBadRequest(title="give collect[] or exclude[], not both")
    if unknown := sorted({*collect, *exclude} - {*names}):
        title = f"no collector {', '.join(unknown)}; there are {', '.join(names)}"
        raise falcon.HTTPBadRequest(title=title)
    return frozenset(collect or {*names} - {*exclude})
