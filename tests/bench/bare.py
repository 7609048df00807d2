"""What a service costs that is nothing but gunicorn and Falcon: the peer of the start and memory benchmarks."""

import falcon.asgi


class Monitor:
    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.media = {"status": "ok"}


app: falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response] = falcon.asgi.App()
app.add_route("/monitor", Monitor())
