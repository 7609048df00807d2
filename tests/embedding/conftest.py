"""Applications with Stator in them, each served by a process of its own."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.captured_log import CapturedLog
from tests.embedding.applications import EMBEDDINGS, FILES, Command, is_installed
from tests.integration.programs import Consul, free_ports
from tests.program import Answer, Program, cannot, eventually

if TYPE_CHECKING:
    from tests.embedding.registering import Shops


class Served(Program):
    """An application with Stator in it.

    Attributes:
        folder: Where it runs.
        where: Path below which Stator answers.
    """

    def __init__(
        self,
        code: str,
        command: Command,
        folder: Path,
        *,
        where: str = "",
        env: Mapping[str, str] | None = None,
        port: int = 0,
        files: Mapping[str, str] | None = None,
    ) -> None:
        for name, text in {**FILES, "example.py": code, **(files or {})}.items():
            (folder / name).write_text(text)
        self.folder, self.where = folder, where
        port = port or free_ports(1)[0]
        variables = {
            "STTR_SERVER_PORT": str(port),
            "DJANGO_SETTINGS_MODULE": "settings",
            "TMPDIR": str(folder),
            **(env or {}),
        }
        super().__init__(variables, folder, command=command(port))

    def ready(self) -> bool:
        """Whether it answers."""
        assert self._process.poll() is None, self.errors
        try:
            return bool(self.monitor())
        except OSError:
            return False

    def metrics(self) -> str:
        """The body of a scrape's response."""
        answer = self.get(f"{self.where}/metrics", {"Accept": "text/plain"})
        assert answer.status == 200, answer
        return answer.body.decode()

    def monitor(self) -> Answer:
        """The response to a health check."""
        return self.get(f"{self.where}/monitor")

    def let(self, check: str, act: str) -> None:
        """Makes one of its checks `pass`, `raise`, `refuse` or `hang`."""
        fresh = self.folder / f"next-{check}"
        fresh.write_text(act)
        fresh.rename(self.folder / f"check-{check}")

    def asked(self, check: str) -> int:
        """How often a check was asked so far."""
        return len((self.folder / f"asked-{check}").read_text())

    def at_work(self, check: str) -> int:
        """How often it was asked and has not come back."""
        return self.asked(check) - len((self.folder / f"done-{check}").read_text())


class ServeApp(Protocol):
    """Serves an application."""

    def __call__(
        self,
        code: str,
        command: Command,
        *,
        where: str = "",
        env: Mapping[str, str] | None = None,
        port: int = 0,
        files: Mapping[str, str] | None = None,
    ) -> Served: ...


@pytest.fixture
def serve_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeApp]:
    with ExitStack() as running:

        def serve(
            code: str,
            command: Command,
            *,
            where: str = "",
            env: Mapping[str, str] | None = None,
            port: int = 0,
            files: Mapping[str, str] | None = None,
        ) -> Served:
            folder = tmp_path_factory.mktemp("embedding")
            app = Served(code, command, folder, where=where, env=env, port=port, files=files)
            running.push(app)
            eventually(app.ready, within=30)
            return app

        yield serve


@pytest.fixture(scope="module", params=EMBEDDINGS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Each of the embeddings."""
    embedding = EMBEDDINGS[request.param]
    if not is_installed(embedding.command):
        cannot("hypercorn is not installed: make test installs it")
    folder = tmp_path_factory.mktemp("embedding")
    with Served(embedding.code, embedding.command, folder, where=embedding.where) as running:
        eventually(running.ready, within=30)
        yield running


@pytest.fixture
def shop(serve_app: ServeApp, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Shops"]:
    """Applications beside an agent of Consul's."""
    from tests.embedding.registering import Shops  # it imports this file

    with Consul(tmp_path_factory.mktemp("consul")) as consul:
        yield Shops(serve_app, consul)


@pytest.fixture
def story(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as captured:
        yield captured
