"""The resources /monitor and /monitor/ready, whether the service is healthy, and /monitor/live, without checks."""

import falcon.asgi
from attrs import frozen

from stator.web.checks import Checks, Health

# A key of ASGI's scope and WSGI's environ: whoever asks may know whether the service is healthy, and no more.
BRIEF = "stator.brief"


@frozen(eq=False, repr=False)
class Monitor:
    """Answers 200 where all checks pass, otherwise 503 and the state of each; over ASGI with the suffix ``async``."""

    checks: Checks

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Makes the checks."""
        _fill(resp, self.checks.run(), is_brief=BRIEF in req.env)

    async def on_get_async(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Makes the checks."""
        _fill(resp, await self.checks.run_async(), is_brief=BRIEF in req.scope)

    on_head, on_head_async = on_get, on_get_async


def _fill(resp: falcon.Response, health: Health, *, is_brief: bool) -> None:
    resp.status = falcon.HTTP_200 if health.ok else falcon.HTTP_503
    resp.data = health.brief if is_brief else health.body
