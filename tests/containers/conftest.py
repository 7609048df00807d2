"""One engine, and one demonstration, for all tests of a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.demonstration import Demonstration, demonstrated
from tests.containers.engine import Engine, answering_or_own


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the engine sees by the same name."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def engine(shared: Path) -> Iterator[Engine]:
    with answering_or_own(shared) as engine:
        yield engine


@pytest.fixture(scope="module")
def built(engine: Engine, shared: Path) -> Iterator[Demonstration]:
    """The services of the compose file, with every image built."""
    with demonstrated(engine, shared) as demonstration:
        demonstration.build()
        yield demonstration


@pytest.fixture
def demonstration(built: Demonstration) -> Demonstration:
    """The services of the compose file, healthy, whatever the test before did to them."""
    built.up()
    return built
