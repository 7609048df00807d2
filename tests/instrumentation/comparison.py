"""What four workers show of themselves: the tables of docs/metrics.md, which `python -m` this module writes."""

import os
import re
import signal
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeAlias

import psutil
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from stator.settings.table import markdown_table
from tests.embedding.conftest import Served
from tests.instrumentation.compared import PEERS, STATOR, Subject
from tests.instrumentation.counting import together
from tests.program import Answer, eventually

PAGE = Path(__file__).parents[2] / "docs/metrics.md"
BEGIN, END = "<!-- compared: written by `python -m tests.instrumentation.comparison` -->\n", "<!-- /compared -->"
WORKERS, CLIENTS, ROUNDS, SCRAPES = 4, 8, 5, 24
# Each client asks for these in each round, with numbers of its own.
PATHS = {"/items/{}": 200, "/shop/berlin/things/{}": 200, "/nowhere/{}": 404, "/raises": 500}
GOOD = 2 * CLIENTS * ROUNDS * 2  # those that are answered with 200, before and after a worker is killed
NO, NONE = "no", "counts none"
OURS = "Stator"
BETWEEN = "And without that variable:"

Cells: TypeAlias = dict[str, str]


class Scrape(NamedTuple):
    """What one scrape has."""

    samples: list[Sample]

    def of(self, name: str) -> list[Sample]:
        """The samples of a name."""
        return [sample for sample in self.samples if sample.name == name]

    def total(self, name: str) -> float:
        """Their sum."""
        return sum(sample.value for sample in self.of(name))


class Shop(Served):
    """One of the applications, with the folder of its values if it has one."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        self.subject, self.values = subject, folder / "values"
        env = {"PROMETHEUS_MULTIPROC_DIR": str(self.values)} if subject.has_folder else {}
        if subject.has_folder:
            self.values.mkdir()
        super().__init__(subject.code, subject.command, folder, env=env, files=subject.files())
        self.answering: set[int] = set()
        self.wrong: list[Answer] = []

    def ready(self) -> bool:
        """Whether all workers have the application, and it answers."""
        assert self._process.poll() is None, self.errors
        with suppress(OSError):
            return len(self.loaded) >= WORKERS and self.get("/metrics").status == 200
        return False

    @property
    def loaded(self) -> list[int]:
        """All workers that have loaded the application so far."""
        return [int(pid) for pid in re.findall(r"worker (\d+) is ready", self.errors)]

    def scrape(self) -> Scrape:
        """The samples of a scrape; in OpenMetrics, where it's had, as exemplars are there alone."""
        answer = self.get("/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
        assert answer.status == 200, self.errors
        is_open = "openmetrics" in {name.lower(): value for name, value in answer.headers.items()}["content-type"]
        families = (parse_openmetrics if is_open else parse_text)(answer.body.decode())
        return Scrape([sample for family in families for sample in family.samples])

    def scrapes(self) -> list[Scrape]:
        """Many, at the same time, so that several workers answer."""
        found: list[Scrape] = []
        together([lambda: found.extend(self.scrape() for _ in range(SCRAPES // CLIENTS))] * CLIENTS)
        return found

    def ask(self) -> None:
        """Lets all clients ask for all paths."""

        def client(number: int) -> None:
            for nth in range(ROUNDS):
                for path, status in PATHS.items():
                    answer = self.get(path.format(number * ROUNDS + nth), {"Connection": "close"})
                    with lock:
                        self.wrong += [answer] if answer.status != status else []
                        self.answering |= {int(answer.body)} if status == 200 else set()

        lock = threading.Lock()
        together([partial(client, number) for number in range(CLIENTS)])
        assert self.wrong == []

    def kill_worker(self) -> int:
        """Kills a worker that has answered, and returns its id when another stands in its place."""
        victim = min(self.answering)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: len(self.loaded) == WORKERS + 1, within=30)
        return victim


def measured(subject: Subject, folder: Path) -> Cells:
    """What a user sees of a shop that was asked by several clients, and lost a worker halfway."""
    with Shop(subject, folder) as shop:
        eventually(shop.ready, within=60)
        for _ in range(2):
            shop.ask()
            if len(shop.loaded) == WORKERS:
                dead = shop.kill_worker()
        assert len(shop.answering) > 1
        with suppress(TimeoutError):  # peers count a request after it is answered
            eventually(lambda: all(each.total("shop_orders_total") == GOOD for each in shop.scrapes()), within=2)
        scrapes = shop.scrapes()
        memory = psutil.Process(shop.loaded[-1]).memory_info().rss
        files = sorted(path.name for path in shop.values.glob("*"))
    return {
        **of_requests(subject, scrapes),
        **of_metrics(scrapes),
        **of_processes(scrapes, memory),
        **left(files, dead),
    }


def of_requests(subject: Subject, scrapes: list[Scrape]) -> Cells:
    """How requests are counted."""
    name, label = subject.requests

    def good(scrape: Scrape) -> float:
        return sum(each.value for each in scrape.of(name) if re.match("/items/|/shop/", each.labels.get(label, "")))

    def spelled(path: str) -> str:
        """The route of some paths, as any worker has it."""
        routes = {each.labels.get(label, "") for scrape in scrapes for each in scrape.of(name)}
        found = [route for route in routes if re.fullmatch(path, route)]
        if len(found) > 1:
            return "each path a series"
        return "not counted" if not found else f"`{found[0]}`" if found[0] else "an empty route"

    every = (sample for scrape in scrapes for sample in scrape.of(name))
    raised = [sample for sample in every if sample.labels.get(label) == "/raises"]
    return {
        "requests: each scrape has all of them": yes(all(good(each) == GOOD for each in scrapes)) if name else NONE,
        "route of `/items/1`": spelled("/items/.*") if name else NONE,
        "route in a mounted application or a blueprint": spelled("/shop/.*") if name else NONE,
        "paths that do not exist": spelled("|none|/nowhere/.*|_OTHER") if name else NONE,
        "a view that raises an exception": status_of(raised) if name else NONE,
    }


def status_of(raised: list[Sample]) -> str:
    """As what failed requests are counted."""
    found = {value for each in raised for value in each.labels.values() if value.startswith("5")}
    errors = {each.labels["error_type"] for each in raised if "error_type" in each.labels}
    return ", ".join(f"`{each}`" for each in (*sorted(found), *sorted(errors))) or "not counted"


def of_metrics(scrapes: list[Scrape]) -> Cells:
    """How the application's own metrics are shown."""

    def each_has(name: str) -> str:
        return yes(all(each.of(name) for each in scrapes))

    exemplars = [sample.exemplar for each in scrapes for sample in each.of("shop_orders_total") if sample.exemplar]
    return {
        "the application's counters: each scrape has all": yes(
            all(each.total("shop_orders_total") == GOOD for each in scrapes)
        ),
        "`Info`": each_has("shop_build_info"),
        "`Enum`": each_has("shop_state"),
        "exemplars": yes(bool(exemplars)),
        "custom collectors": each_has("shop_stock"),
        "gauges of mode `liveall`, when a worker was killed": series(scrapes, "shop_busy"),
        "gauges of mode `all`, when a worker was killed": series(scrapes, "shop_seen"),
    }


def series(scrapes: list[Scrape], gauge: str) -> str:
    """Of how many workers a gauge is shown."""
    found = {len(each.of(gauge)) for each in scrapes}
    return "of the worker that answers" if found == {1} else " or ".join(f"{number} series" for number in sorted(found))


def of_processes(scrapes: list[Scrape], memory: int) -> Cells:
    """What is told of the processes; `memory` is that of one worker."""
    resident = [each.total("process_resident_memory_bytes") for each in scrapes]
    collections = [
        {sample.labels.get("process_id") for sample in each.samples if sample.name.endswith("gc_collections_total")}
        for each in scrapes
    ]
    one = "of the worker that answers"
    return {
        "`process_*`": NO if not all(resident) else "of all processes" if min(resident) > 2 * memory else one,
        "garbage collections": NO if not all(collections) else "of each process" if len(collections[0]) > 1 else one,
    }


def left(files: list[str], dead: int) -> Cells:
    """What lies in a folder."""
    has_dead = any(name.endswith(f"_{dead}.db") for name in files)
    return {"files": "none" if not files else "yes, those of dead workers too" if has_dead else "yes"}


def yes(holds: bool) -> str:
    """A cell."""
    return "yes" if holds else NO


def column(title: str, folder: Path, *, has_folder: bool) -> Cells:
    """Measures a column of a table: of Stator, the applications on both frameworks."""
    subjects = STATOR.values() if title == OURS else [PEERS[title]._replace(has_folder=has_folder)]
    cells = []
    for subject in subjects:
        with TemporaryDirectory(dir=folder) as own:
            cells.append(measured(subject, Path(own)))
    return {row: ", ".join(dict.fromkeys(each[row] for each in cells)) for row in cells[0]}


def table(columns: Mapping[str, Cells]) -> str:
    """Columns as Markdown."""
    rows = next(iter(columns.values()))
    return markdown_table(
        ("of four workers", *columns), [(row, *(each[row] for each in columns.values())) for row in rows]
    )


def shown(page: str) -> list[dict[str, Cells]]:
    """The columns of the tables on a page."""
    tables = page.partition(BEGIN)[2].partition(END)[0].strip().split("\n\n")
    found = []
    for each in tables[::2]:
        (_, *titles), _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in each.splitlines())
        found.append({title: {row[0]: row[nth] for row in rows} for nth, title in enumerate(titles, 1)})
    return found


def main(folder: Path) -> None:
    """Measures all, and writes the tables."""
    columns = [{title: column(title, folder, has_folder=True) for title in (OURS, *PEERS)}]
    columns.append({title: column(title, folder, has_folder=False) for title in PEERS})
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    text = f"\n\n{BETWEEN}\n\n".join(map(table, columns))
    PAGE.write_text(f"{before}{BEGIN}{text}\n{END}{rest.partition(END)[2]}", "utf-8")


if __name__ == "__main__":
    with TemporaryDirectory() as scratch:
        main(Path(scratch))
