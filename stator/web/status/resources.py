"""The resources of the page: the page itself, /status, and the page's files."""

import gzip
from collections.abc import Iterable
from typing import Any

import falcon.asgi
from attrs import field, frozen

from stator.exposition.negotiation import choose_encoding
from stator.web.status.assets import Assets
from stator.web.status.facts import Facts, Status, as_json
from stator.web.status.page import Page
from stator.web.status.place import Place


@frozen(eq=False, repr=False)
class StatusResource:
    """Answers with the facts as JSON, over WSGI or, with the suffix ``async``, over ASGI."""

    status: Status

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answers."""
        self._fill(resp, self.status.gather())

    async def on_get_async(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Answers."""
        self._fill(resp, await self.status.gather_async())

    on_head, on_head_async = on_get, on_get_async

    def _fill(self, resp: falcon.Response, facts: Facts) -> None:
        resp.data = as_json(facts)
        resp.cache_control = ["no-store"]


@frozen(eq=False, repr=False)
class PageResource:
    """Answers with the page, over WSGI or, with the suffix ``async``, over ASGI."""

    status: Status
    page: Page = field()

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answers whoever accepts HTML."""
        self._check(req)
        self._fill(req, resp, self.status.gather())

    async def on_get_async(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Answers whoever accepts HTML."""
        self._check(req)
        self._fill(req, resp, await self.status.gather_async())

    on_head, on_head_async = on_get, on_get_async

    def _check(self, req: falcon.Request) -> None:
        if not req.client_accepts("text/html"):
            raise falcon.HTTPRouteNotFound()

    def _fill(self, req: falcon.Request, resp: falcon.Response, facts: Facts) -> None:
        resp.content_type = "text/html; charset=utf-8"
        resp.data = self.page.render(facts)
        if choose_encoding(req.get_header("Accept-Encoding", default="")) == "gzip":
            resp.data = gzip.compress(resp.data, compresslevel=6)
            resp.set_header("Content-Encoding", "gzip")
        resp.cache_control = ["no-store"]
        resp.set_header("Vary", "Accept, Accept-Encoding")


def page_resources(status: Status, place: Place, links: Iterable[str]) -> dict[str, Any]:
    """Returns the resources by path; `links` are the names of other paths that answer."""
    resources = PageResource(status, Page(place.root, links)), StatusResource(status), Assets()
    return dict(zip(place.paths, resources, strict=True))
