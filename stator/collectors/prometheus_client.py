"""All that an application tells with prometheus_client, in our formats.

https://prometheus.github.io/client_python/
"""

import os
from collections.abc import Container, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from attrs import frozen

from stator.collectors import _families
from stator.points import PointsAt
from stator.settings.declare import StartError

if TYPE_CHECKING:
    from prometheus_client import Metric

# The library's own variable: the folder in which an application's processes keep their numbers.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class Registry(Protocol):
    """What gives families."""

    def collect(self) -> Iterable["Metric"]:
        """Families as they are now."""


@frozen
class PrometheusClientConfig:
    """The collector of prometheus_client's registry has no settings of ours."""

    def build(self, environ: Mapping[str, str] = os.environ, without: Container[str] = ()) -> "PrometheusClient":
        """A collector of the default registry, or of the folder of all processes where the library is told one.

        Args:
            environ: Variables, the library's own among them.
            without: Names of families that others tell.

        Raises:
            StartError: There is no such folder.
        """
        import prometheus_client  # slow to import

        if not (folder := environ.get(FOLDER)):
            return PrometheusClient(prometheus_client.REGISTRY, without)
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = prometheus_client.CollectorRegistry(support_collectors_without_names=True)
        try:
            MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call] # it has no types
        except ValueError as error:
            msg = f"{FOLDER}={folder!r}: expected a folder"
            raise StartError(msg) from error
        return PrometheusClient(registry, without)


@frozen
class PrometheusClient:
    """Collects all families of prometheus_client's registry, with the samples that the library itself exposes.

    They are the application's own, and those that the library adds by itself, which are listed here. These are missing
    where ``PROMETHEUS_MULTIPROC_DIR`` names the folder in which all processes of an application keep their numbers.
    Beside the collector ``process``, so are those of one process that it tells of the whole service.

    Attributes:
        registry: The registry.
        without: Names of families that are left out.
    """

    registry: Registry
    without: Container[str] = ()

    def collect(self, now: float) -> PointsAt:
        """Asks the registry.

        Raises:
            Exception: One of the application's own collectors failed.
        """
        told = (family for family in self.registry.collect() if family.name not in self.without)
        return PointsAt("", now, points=_families.points(told))
