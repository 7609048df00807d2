"""The same application in each framework: its code, its server, and the templates of its routes as it spells them."""

from collections.abc import Mapping
from typing import NamedTuple

from tests.embedding.applications import Command, gunicorn, uvicorn, wsgiref

STARLETTE = """
import asyncio
import stator
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route


async def item(request):
    return PlainTextResponse("item")


async def broken(request):
    return PlainTextResponse("broken", 500)


async def raises(request):
    raise LookupError("no such shelf")


async def stream(request):
    async def parts():
        for _ in range(3):
            await asyncio.sleep(0.01)
            yield b"part"
    return StreamingResponse(parts())


async def endless(request):
    async def parts():
        while True:
            yield b"part" * 1000
            await asyncio.sleep(0)
    return StreamingResponse(parts())


shop = Starlette(routes=[Route("/things/{name}", item)])
routes = [
    Route("/items/{id:int}", item),
    Route("/broken", broken),
    Route("/raises", raises),
    Route("/stream", stream),
    Route("/endless", endless),
    Mount("/shop/{town}", shop),
    Mount("/market/{town}", shop),
]
app = stator.asgi_app(Starlette(routes=routes))
"""
FASTAPI = """
import asyncio
import stator
from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import StreamingResponse

app = FastAPI()
app.add_middleware(stator.asgi_app)
things, shop = APIRouter(prefix="/things"), FastAPI()


@app.get("/items/{id}")
@app.head("/items/{id}")
def item(id: int):
    return "item"


@app.get("/broken")
def broken():
    return Response("broken", 500)


@app.get("/raises")
def raises():
    raise LookupError("no such shelf")


@app.get("/stream")
async def stream():
    async def parts():
        for _ in range(3):
            await asyncio.sleep(0.01)
            yield b"part"
    return StreamingResponse(parts())


@app.get("/endless")
async def endless():
    async def parts():
        while True:
            yield b"part" * 1000
            await asyncio.sleep(0)
    return StreamingResponse(parts())


@things.get("/{name}")
def thing(name):
    return "thing"


shop.include_router(things)
app.mount("/shop/{town}", shop)
app.include_router(things, prefix="/market/{town}")
app.include_router(things, prefix="/fair")
"""
FLASK = """
import time
import stator
from flask import Blueprint, Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

app, market = Flask(__name__), Flask("market")
shop = Blueprint("shop", __name__)


@app.get("/items/<int:id>")
def item(id):
    return "item"


@app.get("/broken")
def broken():
    return "broken", 500


@app.get("/raises")
def raises():
    raise LookupError("no such shelf")


@app.get("/stream")
def stream():
    def parts():
        for _ in range(3):
            time.sleep(0.01)
            yield b"part"
    return parts()


@app.get("/endless")
def endless():
    def parts():
        while True:
            yield b"part" * 1000
    return parts()


@shop.get("/things/<name>")
@market.get("/things/<name>")
def thing(name, town=""):
    return "thing"


app.register_blueprint(shop, url_prefix="/shop/<town>")
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/market": market})
app = stator.wsgi_app(app)
"""
DJANGO_URLS = """
import asyncio
import time
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import include, path, re_path
from django.views.decorators.http import require_safe


@require_safe
def item(request, **_):
    return HttpResponse("item")


def broken(request):
    return HttpResponse("broken", status=500)


def raises(request):
    raise LookupError("no such shelf")


def stream(request):
    def parts():
        for _ in range(3):
            time.sleep(0.01)
            yield b"part"
    async def awaited():
        for part in parts():
            yield part
    return StreamingHttpResponse(awaited() if hasattr(request, "scope") else parts())


def endless(request):
    def parts():
        while True:
            yield b"part" * 1000
    async def awaited():
        while True:
            await asyncio.sleep(0)
            yield b"part" * 1000
    return StreamingHttpResponse(awaited() if hasattr(request, "scope") else parts())


urlpatterns = [
    path("items/<int:id>", item),
    path("broken", broken),
    path("raises", raises),
    path("stream", stream),
    path("endless", endless),
    path("shop/<town>/", include([path("things/<name>", item)])),
    re_path(r"^market/(?P<town>\\w+)/things/(?P<name>\\w+)$", item),
]
"""
DJANGO_WSGI = """
import stator
from django.core.wsgi import get_wsgi_application

app = stator.wsgi_app(get_wsgi_application())
"""
FALCON_ASGI = """
import asyncio
import falcon.asgi
import stator


class Item:
    async def on_get(self, req, resp, **_):
        resp.text = "item"

    on_head = on_get


class Broken:
    async def on_get(self, req, resp):
        resp.status = 500


class Raises:
    async def on_get(self, req, resp):
        raise LookupError("no such shelf")


class Stream:
    async def on_get(self, req, resp):
        async def parts():
            for _ in range(3):
                await asyncio.sleep(0.01)
                yield b"part"
        resp.stream = parts()


class Endless:
    async def on_get(self, req, resp):
        async def parts():  # Falcon notices no client that leaves
            for _ in range(2000):
                await asyncio.sleep(0)
                yield b"part" * 1000
        resp.stream = parts()


app = falcon.asgi.App()
app.add_route("/items/{id:int}", Item())
app.add_route("/broken", Broken())
app.add_route("/raises", Raises())
app.add_route("/stream", Stream())
app.add_route("/endless", Endless())
app.add_route("/shop/{town}/things/{name}", Item())
app.add_route("/market/{town}/things/{name}", Item())
app = stator.asgi_app(app)
"""
FALCON_WSGI = (
    FALCON_ASGI.replace("falcon.asgi", "falcon")
    .replace("asgi", "wsgi")
    .replace("import asyncio", "import time")
    .replace("async ", "")
    .replace("await asyncio.sleep", "time.sleep")
)


class Wrapped(NamedTuple):
    """An application that Stator wraps, and the templates of its routes by what they are for."""

    code: str
    command: Command
    item: str = "/items/{id}"
    shop: str = "/shop/{town}/things/{name}"
    market: str = "/market/{town}/things/{name}"
    error: str = "LookupError"  # of the route that raises
    files: Mapping[str, str] = {}


_STARLETTE = Wrapped(STARLETTE, uvicorn(), item="/items/{id:int}")
_FLASK = Wrapped(
    FLASK, wsgiref, item="/items/<int:id>", shop="/shop/<town>/things/<name>", market="/market/things/<name>"
)
_DJANGO = Wrapped(
    DJANGO_WSGI,
    gunicorn("-k=sync"),
    item="/items/<int:id>",
    shop="/shop/<town>/things/<name>",
    market=r"^market/(?P<town>\w+)/things/(?P<name>\w+)$",
    files={"urls.py": DJANGO_URLS},
)
# Falcon answers errors by handlers of its own, and has no signal of them.
_FALCON = Wrapped(FALCON_ASGI, uvicorn(), item="/items/{id:int}", error="")
WRAPPED = {
    "Starlette, uvicorn": _STARLETTE,
    "Starlette, gunicorn asgi": _STARLETTE._replace(command=gunicorn("-k=asgi")),
    "FastAPI, uvicorn with a root path": Wrapped(FASTAPI, uvicorn("--root-path=/svc")),
    "Flask, wsgiref": _FLASK,
    "Flask, gunicorn gthread": _FLASK._replace(command=gunicorn("-k=gthread", "--threads=4")),
    "Django WSGI, gunicorn sync": _DJANGO,
    "Django ASGI, uvicorn": _DJANGO._replace(
        code=DJANGO_WSGI.replace("wsgi", "asgi"), command=uvicorn("--lifespan=off")
    ),
    "Falcon ASGI, uvicorn": _FALCON,
    "Falcon WSGI, gunicorn sync": _FALCON._replace(code=FALCON_WSGI, command=gunicorn("-k=sync")),
}
