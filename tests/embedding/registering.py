"""Applications that register themselves as the README shows, and what an observer sees of them in Consul."""

import json
import threading
import time
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

import psutil

from tests.embedding.applications import Command, example
from tests.embedding.conftest import ServeApp, Served
from tests.integration.programs import Consul, free_ports
from tests.program import eventually

LIFESPAN = example("FastAPI, Starlette: in the lifespan")
GUNICORN_CONF = {"gunicorn.conf.py": example("gunicorn.conf.py")}
SLOW_FASTAPI = """

@app.get("/slow")
async def slow():
    import asyncio

    await asyncio.sleep(3)
    return "done"
"""
SLOW_FLASK = """

@app.get("/slow")
def slow():
    import time

    time.sleep(3)
    return "done"
"""
# Without Stator in the workers.
PLAIN_FLASK = """
from flask import Flask

app = Flask(__name__)


@app.get("/")
@app.get("/internal/monitor")
def home():
    return "home"
"""


class Shops:
    """Starts applications that register as `shop`, each at its own port."""

    def __init__(self, serve_app: ServeApp, consul: Consul) -> None:
        self._serve_app, self.consul = serve_app, consul

    def start(
        self,
        code: str,
        command: Command,
        files: Mapping[str, str] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        where: str = "/internal",
    ) -> Served:
        (port,) = free_ports(1)
        ported = {name: text.replace("8000", str(port)) for name, text in {"example.py": code, **(files or {})}.items()}
        variables = {
            "STTR_CLIENT_BASEURI": self.consul.url,
            "STTR_ROSTER_SERVICE_NAME": "shop",
            "STTR_CONSUL_CHECKINTERVAL": "1s",
            **(env or {}),
        }
        return self._serve_app(ported.pop("example.py"), command, where=where, env=variables, port=port, files=ported)

    def registered(self) -> dict[str, Any] | None:
        """The service as Consul has it."""
        return next((each for each in self.consul.services().values() if each["Service"] == "shop"), None)


class Observer:
    """Asks Consul each 20 ms whether `shop` is registered, from a thread of its own, inside its context.

    Attributes:
        changes: Times at which it was seen to be registered or not, from the first that was seen on.
    """

    def __init__(self, consul: Consul) -> None:
        self._consul = consul
        self.changes: list[tuple[float, bool]] = []
        self.looks = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._observe)

    def __enter__(self) -> Self:
        self._thread.start()
        eventually(lambda: self.changes)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    @property
    def is_registered(self) -> bool:
        """Whether it was when Consul was last asked."""
        return self.changes[-1][1]

    @property
    def absences(self) -> list[float]:
        """Times at which it was seen to be no longer registered."""
        return [when for when, is_registered in self.changes[1:] if not is_registered]

    def _observe(self) -> None:
        connection = HTTPConnection(self._consul.host, self._consul.http_port, timeout=10)
        while not self._is_over.wait(0.02):
            connection.request("GET", "/v1/agent/services")
            services = json.loads(connection.getresponse().read())
            is_registered = any(each["Service"] == "shop" for each in services.values())
            self.looks += 1
            if not self.changes or self.is_registered != is_registered:
                self.changes.append((time.monotonic(), is_registered))
        connection.close()


def keepers(folder: Path) -> list[psutil.Process]:
    """The keeper processes of applications that were started in a folder."""
    return [each for each in psutil.process_iter() if _is_keeper(each, folder)]


def _is_keeper(process: psutil.Process, folder: Path) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE or "stator.embedding.keeper" not in process.cmdline():
            return False
        return process.environ().get("TMPDIR") == str(folder)
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # it has ended, or is another user's
        return False


def leaves_nothing(served: Served) -> None:
    """Asserts that soon after an application's end neither a keeper nor a file of it is left."""
    eventually(lambda: not keepers(served.folder))
    assert not list(served.folder.glob("stator-*"))
