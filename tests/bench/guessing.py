"""What credentials cost a scrape, and what scrapes take while another address guesses passwords.

As a program, ``python -m tests.bench.guessing PORT``, it guesses.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory, TemporaryFile

import bcrypt

from tests.bench.clients import PROMETHEUS, load
from tests.bench.figures import Figure
from tests.bench.processes import ROOT, stator
from tests.bench.scraping import described, loaded
from tests.credentials import PASSWORD, TOKEN, basic, bearer, write_private

GUESSES, SECONDS = 10_000, 20.0
GUESSER = "127.0.0.2"
COST = 10  # of a password's hash, as most tools have it
ROUNDS, SCRAPES = 7, 300
PAUSE = 0.05  # seconds between two scrapes


def run() -> Iterator[Figure]:
    """Measures what credentials cost, and what guesses do."""
    with TemporaryDirectory() as folder:
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(COST)).decode()
        variables = {
            "STTR_SERVER_USERSFILE": str(write_private(Path(folder, "users"), f"prom:{hashed}\n")),
            "STTR_SERVER_TOKENSFILE": str(write_private(Path(folder, "tokens"), f"{TOKEN}\n")),
        }
        yield from _costs(variables)
        yield _under_attack(variables)


def _costs(variables: dict[str, str]) -> Iterator[Figure]:
    with stator() as plain, stator(variables) as guarded:
        for name, credentials in (("a password", basic()), ("a token", bearer())):
            headers = PROMETHEUS + _lines(credentials)
            loaded(plain, 1), loaded(guarded, 1, headers=headers)  # warm
            pairs = [(loaded(guarded, 1, headers=headers), loaded(plain, 1)) for _ in range(ROUNDS)]
            ratio = median(mine.cpu / theirs.cpu for mine, theirs in pairs)
            sides = zip(("with", "without"), zip(*pairs, strict=True), strict=True)
            yield Figure(
                f"CPU time of a scrape of the default collectors with {name}",
                f"{ratio:.2f} times that of one without",
                "",
                "; ".join(described(side, loads) for side, loads in sides),
            )


def _under_attack(variables: dict[str, str]) -> Figure:
    headers = PROMETHEUS + _lines(basic())
    with TemporaryFile() as log, stator(variables, log) as service:
        load(service.port, SCRAPES, 1, headers)  # warm
        quiet = _paced(service.port, headers, lambda: False)
        command = [sys.executable, "-m", "tests.bench.guessing", str(service.port)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as guesser:
            time.sleep(1)
            busy = _paced(service.port, headers, lambda: guesser.poll() is not None)
            statuses = guesser.communicate()[0]
        quiet += _paced(service.port, headers, lambda: False)
        log.seek(0)
        lines = sum(json.loads(line).get("remote_ip") == GUESSER for line in log if line.startswith(b"{"))
    times = (f"{name}: {_milliseconds(each)}" for name, each in (("without", quiet), ("with", busy)))
    return Figure(
        f"a scrape with a password while another address guesses {GUESSES:,} in {SECONDS:g} s",
        f"{median(busy) / median(quiet):.2f} times as long as without",
        "less than 2",
        f"{'; '.join(times)}; answers to the guesser: {statuses.strip()}; lines of the log about it: {lines}",
    )


def _milliseconds(taken: list[float]) -> str:
    return f"p50 {median(taken) * 1e3:.2f} ms, p95 {sorted(taken)[len(taken) * 95 // 100] * 1e3:.2f} ms"


def _paced(port: int, headers: str, is_over: Callable[[], bool]) -> list[float]:
    """Scrapes with pauses, on a new connection each time, as scrapers do; returns the seconds of each."""
    taken: list[float] = []
    while len(taken) < SCRAPES and not is_over():
        taken += load(port, 1, 1, headers).latencies
        time.sleep(PAUSE)
    return taken


def _lines(headers: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


def guess(port: int) -> None:
    """Guesses at a steady pace, and writes how many of each status there were."""
    statuses: dict[int, int] = {}
    begin = time.monotonic()
    with closing(HTTPConnection("127.0.0.1", port, source_address=(GUESSER, 0))) as connection:
        for nth in range(GUESSES):
            time.sleep(max(0.0, begin + nth * SECONDS / GUESSES - time.monotonic()))
            connection.request("GET", "/metrics", headers=basic("prom", f"guess {nth}"))
            response = connection.getresponse()
            response.read()
            statuses[response.status] = statuses.get(response.status, 0) + 1
    print(f"{statuses} in {time.monotonic() - begin:.1f} s")


if __name__ == "__main__":
    guess(int(sys.argv[1]))
