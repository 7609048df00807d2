"""The resource /monitor: whether the service is healthy."""

from typing import TYPE_CHECKING

import falcon

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
        """Makes the checks."""
        _fill(resp, self._checks.run())

    on_head = on_get


class Monitor:
    """Answers over ASGI: 200 where all checks pass, otherwise 503 and the state of each."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks

    async def on_get(self, _req: "Request", resp: "Response") -> None:
        """Makes the checks."""
        _fill(resp, await self._checks.run_async())

    on_head = on_get


def _fill(resp: "WsgiResponse", health: Health) -> None:
    resp.status = falcon.HTTP_200 if health.ok else falcon.HTTP_503
    resp.data = health.body
