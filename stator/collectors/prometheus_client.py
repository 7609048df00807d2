"""The metrics that an application has in prometheus_client's registry."""

import os
from collections.abc import Container, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from attrs import frozen

from stator.collectors import _families, process
from stator.collectors._process_files import ProcessFiles
from stator.log.changes import ChangeLog
from stator.points import CollectorContext, IncompleteError, Point, PointsAt
from stator.settings.declare import StartError

if TYPE_CHECKING:
    from prometheus_client import Metric

# The library's own variable: the folder in which an application's processes keep their values.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class Registry(Protocol):
    """A registry of prometheus_client, or a look-alike."""

    def collect(self) -> Iterable["Metric"]:
        """Returns the current families."""


@frozen(eq=False, repr=False)
class PrometheusClientConfig:
    """The `prometheus_client` collector has no settings, but the library has."""

    def build(self, context: CollectorContext) -> "PrometheusClient":
        """Returns a collector of the default registry, or of the folder of all processes where the library has one."""
        import prometheus_client

        without = process.FAMILIES if process.EXPOSED_BY & {*context.collectors} else ()
        if not (folder := os.environ.get(FOLDER)):
            return PrometheusClient(prometheus_client.REGISTRY, without)
        if not Path(folder).is_dir():
            msg = f"{FOLDER}={folder!r}: expected a folder"
            raise StartError(msg)
        skipped, back = "skipped a file of prometheus_client that can't be read", "can read a file of prometheus_client"
        changes = ChangeLog(context.log, "file", skipped, back)
        return PrometheusClient(ProcessFiles(folder, changes), without)


@frozen(eq=False, repr=False)
class PrometheusClient:
    """Reports all families of prometheus_client's registry, with the samples that the library itself exposes.

    They are the application's, and those that the library adds by itself, which are listed here. The latter are missing
    where ``PROMETHEUS_MULTIPROC_DIR`` names the folder in which all processes of an application keep their values; a
    file there that can't be read, such as a killed worker may leave, is skipped, and logged once. When
    the collector ``process`` is enabled, the library's own ``process_*`` families are dropped: they describe a single
    process. A family that can't be written is left out alone. If one of the application's own collectors raises, those
    that were registered after it are missing too.

    Attributes:
        without: Names of families that are dropped.
    """

    registry: Registry
    without: Container[str] = ()

    def collect(self, now: float) -> PointsAt:
        """Collects the registry; raises IncompleteError where an application's own collector raises, or is no good."""
        points: list[Point] = []
        errors: list[Exception] = []
        try:
            for family in self.registry.collect():
                try:
                    if family.name not in self.without:
                        points += _families.points([family])
                except Exception as error:  # noqa: BLE001 # whatever the family has in place of texts and numbers
                    errors.append(error)
        except Exception as error:  # noqa: BLE001 # a collector's own
            errors.append(error)
        points_at = PointsAt("", now, points=points)
        if errors:
            raise IncompleteError(points_at) from errors[0]
        return points_at
