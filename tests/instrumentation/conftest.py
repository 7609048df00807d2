"""Applications and processes whose metrics are shared."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.embedding.conftest import serve_app, story
from tests.instrumentation.processes import LIBRARY, SHARE, Service, service

__all__ = ["serve_app", "story"]


class StartService(Protocol):
    """Starts a service whose metrics are shared, after which the main process runs the code that is given."""

    def __call__(self, code: str = "", *, prelude: str = f"{SHARE}\n{LIBRARY}") -> Service: ...


@pytest.fixture
def start_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartService]:
    with ExitStack() as running:

        def start(code: str = "", *, prelude: str = f"{SHARE}\n{LIBRARY}") -> Service:
            folder: Path = tmp_path_factory.mktemp("service")
            return running.enter_context(service(f"{prelude}\n{code}", folder))

        yield start
