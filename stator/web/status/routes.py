"""The routes of the page; what it takes is imported when somebody first looks: most starts are followed by no look."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import falcon

from stator.web.status.place import Place

if TYPE_CHECKING:
    from stator.web.status.facts import Status


class _LateResource:
    """Answers by the resource of a path, which is made when it is first asked; with the suffix ``async`` over ASGI."""

    def __init__(self, resources: Callable[[], Mapping[str, Any]], path: str) -> None:
        self._resources, self._path = resources, path

    def on_get(self, req: Any, resp: Any, **parts: str) -> None:
        """Answers."""
        self._resources()[self._path].on_get(req, resp, **parts)

    async def on_get_async(self, req: Any, resp: Any, **parts: str) -> None:
        """Answers."""
        await self._resources()[self._path].on_get_async(req, resp, **parts)

    on_head, on_head_async = on_get, on_get_async


def add_page_routes(
    app: "falcon.App[Any, Any]",
    status: "Callable[[], Status]",
    place: Place,
    links: Iterable[str],
    suffix: str | None = None,
) -> None:
    """Adds the page to a Falcon application; what it shows is made at the first look."""

    @cache
    def resources() -> Mapping[str, Any]:
        from stator.web.status.resources import page_resources

        return page_resources(status(), place, links)

    for path in place.paths:
        app.add_route(path, _LateResource(resources, path), suffix=suffix)
