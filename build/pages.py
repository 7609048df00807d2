"""Writes the pages in docs/collectors/: ``make docs``.

What they list is what the collectors expose: each is run and scraped, and the answer read back by prometheus_client's
parser. What depends on the machine is asked of one that has all of it, and exists only as files.
"""

import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from stator.collectors.catalog import BUILT_IN, DEFAULT, Collectors
from stator.collectors.host import memory
from stator.collectors.host.config import GROUPS
from stator.collectors.scrape import ScrapeConfig
from stator.collectors.textfile import TextfileConfig
from stator.config import Config
from stator.exporter import Exporter, MetricsConfig, ScrapeRequest
from stator.exposition.encoder import Encoder
from stator.exposition.openmetrics import OPENMETRICS
from stator.log.logger import Log, LoggerConfig
from stator.log.writer import Sink
from stator.main import APP_ID
from stator.points import Collector, CollectorContext
from stator.processes.service import ServiceProcesses
from stator.roster.metrics import RosterMetrics
from stator.settings.declare import iter_settings
from stator.settings.table import markdown, markdown_table, rows
from stator.version import build_labels
from tests.collectors.host.machine import hosted, lay_out

FOLDER = Path(__file__).parents[1] / "docs" / "collectors"
HEADINGS = ("NAME", "TYPE", "UNIT", "LABELS", "HELP")
# Success and duration of a group, which each of the host's groups reports.
OF_EACH_GROUP = "node_scrape_collector_"
# What is about us, by how names begin.
OURS = {
    "stator_collector_": ("Collectors", "Of each collector that was asked, your own among them."),
    "stator_build_": ("The build", "Always there."),
    "stator_roster_": (
        "The registration",
        "Where there is something to register with: [more](../consul.md#how-the-registration-stays-true).",
    ),
}
INDEX = """\
`STTR_COLLECTORS` says which of them run. A page lists a collector's settings, and its families under the names that
they are exposed with. Types are those of OpenMetrics; in the text format an `info` is a `gauge`, and what is `unknown`
is `untyped`. Not every series of a family has all of its labels."""

Families: TypeAlias = Sequence[tuple[str, ...]]
"""A row a family, with what stands under `HEADINGS`."""


class PageError(Exception):
    """A collector failed; the message names it."""


def main(folder: Path) -> None:
    """Writes all pages into a folder.

    Raises:
        PageError: A collector failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = LoggerConfig(level="error").build(Sink(2), terminal=True)
    index = []
    for name in BUILT_IN:
        with TemporaryDirectory() as machine:
            about = docstring(make(name, Path(machine), log))
            blocks = ["## Families", *tables(name, Path(machine), log), "## Settings", settings(name)]
        _write(folder / f"{name}.md", name, about, *blocks)
        runs = "unless others are named" if name in DEFAULT else "where it is named"
        index.append((f"[{name}]({name}.md)", runs, about.partition("\n\n")[0].replace("\n", " ")))
    title, about = "Stator itself", "What Stator reports of itself, whichever collectors run."
    _write(folder / "stator.md", title, about, *ours(log))
    index.append((f"[{title}](stator.md)", "always", about))
    _write(folder / "README.md", "Collectors", INDEX, markdown_table(("COLLECTOR", "RUNS", "WHAT IT DOES"), index))


def _write(file: Path, title: str, *blocks: str) -> None:
    file.write_text("\n\n".join([f"# {title}", "<!-- written by `make docs` -->", *blocks]) + "\n", "utf-8")


def make(name: str, folder: Path, log: Log, groups: tuple[str, ...] = GROUPS) -> Collector:
    """Returns a built-in collector that finds everything that it can report.

    Args:
        name: What it's called.
        folder: Where the files of its machine are written.
        log: Where it logs.
        groups: The host's groups that it reports.
    """
    meminfo = [f"{field}: 1 kB\n" for field in memory.SIZES] + [f"{field}: 1\n" for field in memory.COUNTS]
    online = "sys/devices/system/cpu/cpu0/online"
    lay_out(folder, {"proc/meminfo": "".join(meminfo), online: "1\n", "textfile/empty.prom": ""})
    processes = ServiceProcesses(1)
    processes.register("worker", 1)
    texts = TextfileConfig((str(folder / "textfile"),))
    # Nothing answers there, and what does would have families of its own.
    scrape = ScrapeConfig(("shop=http://127.0.0.1:9",))
    chosen = Collectors(enabled=(name,), host=hosted(folder, collectors=groups), text_files=texts, scrape=scrape)
    return chosen.build(CollectorContext(APP_ID, "", processes, log))[name]


def tables(name: str, folder: Path, log: Log) -> Iterator[str]:
    """The families of a collector: one table, or for the host one a group."""
    if name != "host":
        families = _without(exposed({name: make(name, folder, log)}, log), tuple(OURS))
        yield markdown_table(HEADINGS, families)
        return
    for group in GROUPS:
        families = _without(exposed({name: make(name, folder, log, (group,))}, log), tuple(OURS))
        if group == GROUPS[0]:
            yield "### Each group"
            yield markdown_table(HEADINGS, _beginning(families, OF_EACH_GROUP))
        yield f"### {group}"
        yield markdown_table(HEADINGS, _without(families, (OF_EACH_GROUP,)))


def ours(log: Log) -> Iterator[str]:
    """The families about Stator itself, under headings."""
    families = exposed({"roster": RosterMetrics(log)}, log)
    for prefix, (title, text) in OURS.items():
        yield f"## {title}"
        yield text
        yield markdown_table(HEADINGS, _beginning(families, prefix))


def settings(name: str) -> str:
    """The table of a collector's settings."""
    own = [row for row in rows(iter_settings(Config, "STTR")) if row[0].startswith(f"STTR_{name.upper()}_")]
    return markdown(own) if own else "None."


def exposed(collectors: Mapping[str, Collector], log: Log) -> Families:
    """All families of a scrape.

    Raises:
        PageError: A collector, or a group of the host's, failed.
    """
    exporter = Exporter(collectors, MetricsConfig(), build_labels(), log)
    text = exporter.scrape(ScrapeRequest(Encoder(OPENMETRICS, timestamps=False))).body.decode()
    families = list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call] # it has no types
    samples = [sample for family in families for sample in family.samples]
    if failed := [each.labels for each in samples if each.name.endswith("_collector_success") and not each.value]:
        msg = f"can't write the pages: failed to collect {failed}"
        raise PageError(msg)
    return [_row(family) for family in families]


def _row(family: Metric) -> tuple[str, ...]:
    names = {sample.name for sample in family.samples}
    labels = dict.fromkeys(f"`{label}`" for sample in family.samples for label in sample.labels)
    # A counter's and an info's samples have a suffix; those of a histogram have several.
    name = names.pop() if len(names) == 1 else family.name
    return f"`{name}`", family.type, family.unit, ", ".join(labels), family.documentation


def _beginning(families: Families, prefix: str) -> Families:
    return [row for row in families if row[0].startswith(f"`{prefix}")]


def _without(families: Families, prefixes: tuple[str, ...]) -> Families:
    return [row for row in families if not row[0].strip("`").startswith(prefixes)]


def docstring(collector: Collector) -> str:
    """What a collector's class says of itself for all readers, as Markdown."""
    text = re.split(r"\n\n(?=Args:|Attributes:|Raises:)", inspect.getdoc(type(collector)) or "")[0]
    return text.replace("``", "`")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
