"""The real programs as fixtures: each is started for one test and stopped after it, however the test ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Protocol

import pytest

from tests.integration.programs import Consul, Prometheus, Promtool, VictoriaMetrics, eventually


class States(Protocol):
    """Waits until something is shown, and takes note of the seconds from now; TimeoutError where it takes too long."""

    def __call__(self, event: str, shown: Callable[[], object], within: float) -> None: ...


@pytest.fixture
def stated(record_property: Callable[[str, object], None]) -> States:
    def wait(event: str, shown: Callable[[], object], within: float) -> None:
        begin = time.monotonic()
        eventually(shown, within, every=0.01)
        record_property(event, f"{time.monotonic() - begin:.2f} s")

    return wait


class StartsPrometheus(Protocol):
    """Starts Prometheus with a configuration."""

    def __call__(self, config: str, version: str = "2.24") -> Prometheus: ...


class StartsVictoriaMetrics(Protocol):
    """Starts VictoriaMetrics with a scrape configuration."""

    def __call__(self, config: str) -> VictoriaMetrics: ...


@pytest.fixture
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    with Consul(tmp_path_factory.mktemp("consul")) as running:
        yield running


@pytest.fixture
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartsPrometheus]:
    with ExitStack() as running:

        def start(config: str, version: str = "2.24") -> Prometheus:
            return running.enter_context(Prometheus(version, config, tmp_path_factory.mktemp("prometheus")))

        yield start


@pytest.fixture
def victoria_metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartsVictoriaMetrics]:
    with ExitStack() as running:

        def start(config: str) -> VictoriaMetrics:
            return running.enter_context(VictoriaMetrics(config, tmp_path_factory.mktemp("victoria_metrics")))

        yield start


@pytest.fixture
def promtool() -> Promtool:
    return Promtool()
