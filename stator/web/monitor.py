"""The resource /monitor: whether the service is healthy."""

import asyncio
from typing import TYPE_CHECKING

import falcon

from stator.exporter import PATIENCE
from stator.web.checks import Checks, Health

if TYPE_CHECKING:
    from falcon import Request as WsgiRequest
    from falcon import Response as WsgiResponse
    from falcon.asgi import Request, Response


class MonitorWSGI:
    """Answers over WSGI: 200 where all checks pass, otherwise 503 and the state of each."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks

    def on_get(self, _req: "WsgiRequest", resp: "WsgiResponse") -> None:
        """Asks the checks."""
        _fill(resp, self._checks.begin().wait(PATIENCE, self._checks.timeout))

    on_head = on_get


class Monitor:
    """Answers over ASGI: 200 where all checks pass, otherwise 503 and the state of each."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks

    async def on_get(self, _req: "Request", resp: "Response") -> None:
        """Asks the checks."""
        _fill(resp, await self._health(asyncio.get_running_loop()))

    on_head = on_get

    async def _health(self, loop: asyncio.AbstractEventLoop) -> Health:
        round_ = self._checks.begin(loop)
        if round_.answer.done():
            return round_.answer.result()
        timers = (loop.call_later(PATIENCE, round_.hurry), loop.call_later(self._checks.timeout, round_.close))
        try:
            return await asyncio.wrap_future(round_.answer)
        finally:
            for timer in timers:
                timer.cancel()


def _fill(resp: "WsgiResponse", health: Health) -> None:
    resp.status = falcon.HTTP_200 if health.ok else falcon.HTTP_503
    resp.data = health.body
