"""Asks the targets of the collector `scrape`, and reads what they answer."""

import os
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from attrs import frozen

from stator.collectors import _families
from stator.collectors._targets import Options, OptionsError, Target, load
from stator.collectors._texts import BadTextError, decoded, openmetrics_families, text_families
from stator.exposition.columns import label_pairs
from stator.log.changes import ChangeLog
from stator.points import LabelPairs, Point, PointError

if TYPE_CHECKING:
    from prometheus_client import Metric

    from stator.client.client import Client, Response

# Longest answer in bytes, decompressed. It takes seconds to parse one of this size, during which little else runs.
LARGEST = 16 << 20
# As Prometheus 3 asks: OpenMetrics has exemplars and units, and names beyond the legacy character set may stay.
ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1"
)
# Letters of a reason that are masked, and that are logged: a parser quotes whole lines of what a target sent.
LONGEST_READ, LONGEST_REASON = 8192, 300


class ScrapeError(Exception):
    """A target's metrics can't be had; the message says why, without secrets."""


class Scraped(NamedTuple):
    """The points of a target, and what is wrong with the families that are left out."""

    points: list[Point]
    errors: list[Exception]


@frozen(eq=False, repr=False)
class Scraper:
    """Asks one target."""

    target: Target
    client: "Client"
    options: Options

    def scrape(self, timeout: float, *, without_processes: bool) -> Scraped:
        """Returns the points of a target that answers in time; raises ScrapeError or ClientError."""
        try:
            response = self._fetch(timeout)
            families = _families_of(response)
        except (BadTextError, OptionsError) as error:
            raise ScrapeError(self.masked(str(error))) from error
        if without_processes and not self.target.name:
            families = [family for family in families if not family.name.startswith("process_")]
        points: list[Point] = []
        errors: list[Exception] = []
        for family in families:
            try:
                points += _families.points([family])
            except PointError as error:  # an exemplar that is none
                errors.append(error)
        points = [_labelled(point, self.target.name) for point in points] if self.target.name else points
        return Scraped(points, errors)

    def masked(self, text: str) -> str:
        """Returns a text that may quote the target, without secrets and not too long."""
        return self.client.mask(text[:LONGEST_READ])[:LONGEST_REASON]

    def _fetch(self, timeout: float) -> "Response":
        from stator.client.client import Request

        own = {"Accept": ACCEPT, "Accept-Encoding": "gzip", "User-Agent": "stator"}
        own["X-Prometheus-Scrape-Timeout-Seconds"] = f"{timeout:.3f}"
        request = Request("GET", self.target.uri, own | self.options.headers())
        response = self.client.send(request, timeout=timeout)
        if response.status != HTTPStatus.OK:
            hint = "; redirects are not followed" if response.status // 100 == 3 else ""
            msg = f"it answered with status {response.status}{hint}"
            raise ScrapeError(msg)
        return response


class Scrapers:
    """What asks each target, made anew when the file of options changes; its last good content counts.

    Raises:
        OptionsError: The file can't be used at the start.
    """

    def __init__(self, targets: list[Target], path: str, timeout: float, changes: ChangeLog) -> None:
        self._targets, self._path, self._timeout, self._changes = targets, path, timeout, changes
        self._version = self._stat()
        self._scrapers = self._made()

    def current(self) -> list[Scraper]:
        """Returns them with the options as they are now."""
        version = self._stat()
        if version != self._version:
            try:
                made = self._made()
            except OptionsError as error:
                self._changes.report(self._path, str(error))
            else:
                self._changes.report(self._path, None)
                self.close()
                self._scrapers, self._version = made, version
        return self._scrapers

    def close(self) -> None:
        """Closes all connections."""
        for each in self._scrapers:
            each.client.close()

    def _stat(self) -> tuple[int, ...]:
        try:
            about = os.stat(self._path)  # noqa: PTH116
        except OSError:
            return ()
        return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns

    def _made(self) -> list[Scraper]:
        options = load(self._path, self._targets) if self._path else {}
        return [self._scraper(target, options.get(target.key, Options())) for target in self._targets]

    def _scraper(self, target: Target, options: Options) -> Scraper:
        from stator.client.client import Client, TLSHints

        hints = TLSHints(
            "ca_file in STTR_SCRAPE_CONFIGFILE names the authorities to trust",
            "it requires a certificate that it trusts: cert_file and key_file in STTR_SCRAPE_CONFIGFILE",
        )
        client = Client(
            target.uri,
            options.tls,
            self._timeout,
            self._timeout,
            options.mask(),
            max_answer=LARGEST,
            tls_hints=hints,
        )
        return Scraper(target, client, options)


def _families_of(response: "Response") -> list["Metric"]:
    text = decoded(response.body)
    # What says nothing else is taken for text, as Prometheus 2 does.
    is_openmetrics = response.headers.get_content_type() == "application/openmetrics-text"
    return openmetrics_families(text) if is_openmetrics else text_families(text)


def _labelled(point: Point, name: str) -> Point:
    return Point(
        point.name,
        point.desc,
        point.value,
        point.type,
        point.unit,
        _with_target(label_pairs(point.labels), name),
        point.exemplars,
    )


def _with_target(labels: LabelPairs, name: str) -> LabelPairs:
    """Returns labels with that of the target; one of theirs that is called so gets another name."""
    taken, other = {key for key, _ in labels}, "target"
    while other in taken:
        other = f"exported_{other}"
    renamed = tuple((other if key == "target" else key, value) for key, value in labels)
    return (("target", name), *renamed)
