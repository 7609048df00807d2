"""The compose file's demonstration, brought up by a container engine."""

import json
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.containers import checkout, images
from tests.containers.engine import Engine, Reply
from tests.program import ROOT

PORTS = {"consul": 8500, "prom": 9090, "stator": 8087}
# Those of the compose file are often taken, and open to the network.
OVERRIDE = "services:\n" + "".join(
    f'  {name}: {{ports: !override ["127.0.0.1::{port}"]}}\n' for name, port in PORTS.items()
)
PROXIES = [name for name in os.environ if re.fullmatch("(https?|no)_proxy", name, re.IGNORECASE)]


class Demonstration:
    """The services of docker-compose.yaml, from a copy of this checkout."""

    def __init__(self, engine: Engine, shared: Path) -> None:
        self.engine = engine
        self.project = shared / "project"
        self._override = shared / "override.yaml"
        # One for each checkout, so that what a killed run has left is found.
        self.name = f"stator-tests-{zlib.crc32(bytes(ROOT)):08x}"

    def prepare(self) -> None:
        """Makes the files, and removes what a run that was killed has left."""
        checkout.copy(self.project)
        self._override.write_text(OVERRIDE)
        self.remove()
        if self.engine.is_own:
            images.provide(self.engine, self.project, self._override.parent)

    def compose(self, *arguments: str | Path, within: float = 60.0) -> str:
        """What `docker compose` prints; it must succeed."""
        files = (f"--file={self.project / 'docker-compose.yaml'}", f"--file={self._override}")
        return self.engine.docker("compose", *files, f"--project-name={self.name}", *arguments, within=within)

    def build(self) -> None:
        """Builds every image that the compose file has a Dockerfile for."""
        arguments = [f"--build-arg={name}={os.environ[name]}" for name in PROXIES]
        arguments.append(f"--build-arg=userid={checkout.USER}")
        self.compose("--profile=*", "build", *arguments, within=480.0)

    def up(self) -> None:
        """Starts Consul, Prometheus and Stator, and waits until they are healthy."""
        self.compose("up", "--detach", "--wait", *PORTS, within=120.0)

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.compose("ps", "--all", "--quiet", service).strip()

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine knows of a service's container."""
        (about,) = json.loads(self.engine.docker("inspect", self.container(service)))
        return dict(about)

    def address(self, service: str) -> str:
        """Where a service is published."""
        return self.compose("port", service, str(PORTS[service])).strip()

    def get(self, service: str, path: str) -> Reply:
        """What a service answers."""
        return self.engine.get(self.address(service), path)

    def remove(self) -> None:
        """Removes all of it that the engine has; one of the tests' own keeps what makes the next run quick."""
        down = ("--profile=*", "down", "--remove-orphans", "--timeout=5")
        if self.engine.is_own:
            self.compose(*down, within=120.0)
            self.engine.docker("image", "prune", "--force")
            self.engine.docker("builder", "prune", "--force", "--keep-storage=1GB", within=120.0)
        else:
            self.compose(*down, "--rmi=local", "--volumes", within=120.0)


@contextmanager
def demonstrated(engine: Engine, shared: Path) -> Iterator[Demonstration]:
    """A demonstration that is ready to be started, and removed in the end."""
    demonstration = Demonstration(engine, shared)
    demonstration.prepare()
    try:
        yield demonstration
    finally:
        demonstration.remove()
