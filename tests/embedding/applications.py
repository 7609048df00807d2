"""The docs' own examples of applications with Stator in them, as files that servers can run."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [(ROOT / name).read_text("utf-8") for name in ("README.md", "docs/embedding.md")]

# Stands for a reader's own code. A file says what a check does, as long as the file is there.
SHOP = """
import asyncio
import time
from contextlib import contextmanager
from pathlib import Path

from stator import Point, PointsAt


class Orders:
    def collect(self, now):
        return PointsAt("orders", now, points=[Point("open", "Orders not sent yet", 7)])


def act(name):
    file = Path(f"check-{name}")
    return file.read_text() if file.exists() else "pass"


def note(event, name):
    with Path(f"{event}-{name}").open("a") as file:
        file.write(".")


@contextmanager
def noted(name):
    note("asked", name)
    try:
        yield
    finally:
        note("done", name)


def end(name):
    if act(name) == "raise":
        raise ConnectionError("no route to postgres://shop:geheim@db/shop" if name == "db" else "nobody listens")
    return act(name) != "refuse"


def ping_db():
    with noted("db"):
        while act("db") == "hang":
            time.sleep(0.01)
        return end("db")


async def ping_queue():
    with noted("queue"):
        while act("queue") == "hang":
            await asyncio.sleep(0.01)
        return end("queue")
"""

DJANGO_SETTINGS = """
SECRET_KEY = "not one"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
"""
DJANGO_URLS = """
from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("hello", lambda request: HttpResponse("hello"))]
"""
WSGIREF = """
import sys
from wsgiref.simple_server import make_server

from example import app

with make_server("127.0.0.1", int(sys.argv[1]), app) as server:
    server.serve_forever()
"""
FILES = {"shop.py": SHOP, "settings.py": DJANGO_SETTINGS, "urls.py": DJANGO_URLS, "serve.py": WSGIREF}


def example(title: str) -> str:
    """The docs' block of code that begins with a comment."""
    blocks: list[str] = [code for page in PAGES for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL)]
    (code,) = (code for code in blocks if code.startswith(f"# {title}"))
    return code


Command = Callable[[int], list[str]]


class Embedding(NamedTuple):
    """An application with Stator in it, and its server.

    Attributes:
        code: The application.
        command: The server's command line, for a port.
        where: Path below which Stator answers.
    """

    code: str
    command: Command
    where: str = ""


def uvicorn(*args: str) -> Command:
    return lambda port: [sys.executable, "-m", "uvicorn", "--host=127.0.0.1", f"--port={port}", *args, "example:app"]


def gunicorn(*args: str) -> Command:
    # A worker that gets its stop signal before it has its handlers misses it, and gunicorn kills it after this time.
    own = [sys.executable, "-m", "gunicorn", "--no-control-socket", "--graceful-timeout=5"]
    return lambda port: [*own, f"--bind=127.0.0.1:{port}", *args, "example:app"]


def uwsgi(*args: str) -> Command:
    own = [
        str(Path(sys.executable).with_name("uwsgi")),
        "--master",
        "--die-on-term",
        "--worker-reload-mercy=3",  # a worker to which two stop signals come at once may hang in uWSGI's own exit
        "--need-app",
        "--module=example:app",
    ]
    return lambda port: [*own, f"--http-socket=127.0.0.1:{port}", *args]


def hypercorn(*args: str) -> Command:
    own = [str(Path(sys.executable).with_name("hypercorn")), *args]
    return lambda port: [*own, f"--bind=127.0.0.1:{port}", "example:app"]


def is_installed(command: Command) -> bool:
    """Whether the program of a command is there."""
    return Path(command(0)[0]).exists()


def wsgiref(port: int) -> list[str]:
    return [sys.executable, "serve.py", str(port)]


ALL_IN_ONE = example("All in one")
FASTAPI = example("FastAPI, Starlette and others on ASGI: mounted")
FLASK = example("Flask and others on WSGI: mounted")
FALCON_ASGI = example("Falcon")
FALCON_WSGI = FALCON_ASGI.replace("falcon.asgi", "falcon")
DJANGO_WSGI = example("Django's wsgi.py").replace("application =", "app =")
DJANGO_ASGI = DJANGO_WSGI.replace("wsgi", "asgi")
WRAPPED = example("FastAPI, Starlette: wrapped")
TWO_PRELOADED = ("--preload", "--workers=2")

ON_TRIO = f"""{FASTAPI}
import shop
import trio

shop.asyncio = trio  # whose sleep() the coroutine function there awaits
"""

EMBEDDINGS = {
    "all in one, uvicorn": Embedding(ALL_IN_ONE, uvicorn(), "/internal"),
    "FastAPI, uvicorn": Embedding(FASTAPI, uvicorn(), "/internal"),
    "FastAPI, uvicorn with two workers": Embedding(FASTAPI, uvicorn("--workers=2"), "/internal"),
    "FastAPI, gunicorn asgi, preloaded": Embedding(FASTAPI, gunicorn("-k=asgi", *TWO_PRELOADED), "/internal"),
    "FastAPI wrapped, uvicorn": Embedding(WRAPPED, uvicorn()),
    "Flask, wsgiref": Embedding(FLASK, wsgiref, "/internal"),
    "Flask, gunicorn sync, preloaded": Embedding(FLASK, gunicorn("-k=sync", *TWO_PRELOADED), "/internal"),
    "Flask, gunicorn gthread": Embedding(FLASK, gunicorn("-k=gthread", "--threads=4"), "/internal"),
    "Django WSGI, gunicorn gthread, preloaded": Embedding(
        DJANGO_WSGI, gunicorn("-k=gthread", "--threads=4", *TWO_PRELOADED)
    ),
    "Django ASGI, uvicorn": Embedding(DJANGO_ASGI, uvicorn("--lifespan=off")),
    "Django ASGI, gunicorn asgi": Embedding(DJANGO_ASGI, gunicorn("-k=asgi", "--workers=2")),
    "Falcon ASGI, uvicorn": Embedding(FALCON_ASGI, uvicorn()),
    "Falcon ASGI, hypercorn": Embedding(FALCON_ASGI, hypercorn("--worker-class=asyncio")),
    "FastAPI, hypercorn with trio": Embedding(ON_TRIO, hypercorn("--worker-class=trio"), "/internal"),
    "Falcon WSGI, gunicorn sync, preloaded": Embedding(FALCON_WSGI, gunicorn("-k=sync", *TWO_PRELOADED)),
    "Falcon WSGI, wsgiref": Embedding(FALCON_WSGI, wsgiref),
}
