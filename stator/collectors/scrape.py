"""The metrics of other exporters, scraped when we are and exposed with ours."""

from collections.abc import Iterator, Mapping
from functools import partial

from attrs import frozen

from stator.client.errors import ClientError
from stator.collectors._scraper import Scraped, ScrapeError, Scrapers
from stator.collectors._targets import OptionsError, Target, problems
from stator.collectors.process import EXPOSED_BY
from stator.concurrency.gather import gather, time_left
from stator.concurrency.single_flight import CollectionTimeout, Outcome, SingleFlight
from stator.concurrency.threads import DaemonThreads
from stator.exposition.encoder import Encoder
from stator.exposition.text import TEXT_0_0_4
from stator.log.changes import ChangeLog
from stator.log.logger import Log
from stator.points import CollectorContext, Point, PointsAt
from stator.settings.declare import StartError, positive, setting
from stator.settings.duration import Duration

MARGIN = 0.5  # seconds that are left for our own answer when the last target's time is up
FAMILIES_LOGGED = 3


@frozen(eq=False, repr=False)
class ScrapeConfig:
    """Settings of the `scrape` collector."""

    targets: tuple[str, ...] = setting(
        (),
        desc="exporters whose metrics are exposed with ours: http://host:port/path, or name=http://...",
    )
    timeout: Duration = setting(Duration.parse("5s"), desc="longest time for a target", check=positive)
    config_file: str = setting("", desc="TOML file of the targets' credentials and authorities")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields what is wrong with the targets or with the file."""
        yield from problems(self.targets, self.config_file)

    def build(self, context: CollectorContext) -> "ScrapedTargets":
        """Returns a collector of the targets' metrics."""
        failed, recovered = "failed to read the targets' options", "can read the targets' options again"
        changes = ChangeLog(context.log, "file", failed, recovered)
        try:
            targets = [Target.parse(text) for text in self.targets]
            scrapers = Scrapers(targets, self.config_file, self.timeout.seconds, changes)
        except OptionsError as error:
            msg = f"the collector scrape can't be built: {error}"
            raise StartError(msg) from error
        drops = EXPOSED_BY & {*context.collectors}
        return ScrapedTargets(scrapers, self.timeout.seconds, context.log, without_processes=bool(drops))


class ScrapedTargets:
    """Reports the metrics of the targets in `STTR_SCRAPE_TARGETS`, which it asks for them when it is asked itself.

    Samples of a target with a name get a label ``target`` with that name. Those of a target without a name stay as they
    are; where the collector ``process`` runs, its families ``process_*`` are left out. Families of the same name become
    one. A family that conflicts with another collector's, or with an earlier target's, is left out alone, and logged
    once.

    All targets are asked at the same time. One that does not answer in time, answers with another status than 200 or
    with more than 16 MiB, or sends what can't be read fails alone: ``stator_scrape_success`` is 0, and the log says
    why, once.
    """

    def __init__(self, scrapers: Scrapers, timeout: float, log: Log, *, without_processes: bool) -> None:
        self._scrapers, self._timeout, self._without_processes = scrapers, timeout, without_processes
        self._flights: SingleFlight[str, Scraped] = SingleFlight(DaemonThreads().run)
        self._encoder = Encoder(TEXT_0_0_4, timestamps=False)
        expected = (ScrapeError, ClientError, CollectionTimeout)
        self._failures = ChangeLog(
            log, "target", "failed to scrape a target", "scrapes a target again", expected=expected
        )
        begins, ends = "left out families of a target", "exposes all families of a target again"
        self._conflicts = ChangeLog(log, "target", begins, ends)

    def close(self) -> None:
        """Closes all connections: what is asked now or later fails."""
        self._scrapers.close()

    def collect(self, now: float) -> PointsAt:
        """Asks all targets, and returns the points of those that answer."""
        left = time_left()
        limit = min(self._timeout, max(left - MARGIN, left / 2))
        # The rest is for what was received to be parsed.
        timeout = limit - min(0.25, limit / 4)
        scrapers = {each.target.label: each for each in self._scrapers.current()}
        calls = {
            label: partial(each.scrape, timeout, without_processes=self._without_processes)
            for label, each in scrapers.items()
        }
        outcomes = gather(self._flights, calls, limit)
        points = [*_own(outcomes)]
        exposition = self._encoder.exposition()
        exposition.add("", PointsAt("", now, points=points))
        for label, outcome in outcomes.items():
            self._failures.report(label, outcome.error)
            if outcome.value is not None:
                fitting, errors = exposition.add_fitting(label, PointsAt("", now, points=outcome.value.points))
                points += fitting
                errors = [*outcome.value.errors, *errors]
                self._conflicts.report(label, scrapers[label].masked(_first(errors)) if errors else None)
        return PointsAt("", now, points=points)


def _own(outcomes: Mapping[str, Outcome[Scraped]]) -> Iterator[Point]:
    for label, outcome in outcomes.items():
        labels = (("target", label),)
        yield Point(
            "stator_scrape_success", "Whether the target could be scraped", int(outcome.error is None), labels=labels
        )
        name, desc = "stator_scrape_duration_seconds", "Time that the target took"
        yield Point(name, desc, outcome.seconds, unit="seconds", labels=labels)


def _first(errors: list[Exception]) -> str:
    more = f"; and {len(errors) - FAMILIES_LOGGED} more" if len(errors) > FAMILIES_LOGGED else ""
    return "; ".join(map(str, errors[:FAMILIES_LOGGED])) + more
