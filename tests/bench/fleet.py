"""What a thousand of us cost one agent: to register, to watch, and to come back when it has forgotten them all."""

import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import evolve, field, frozen

from stator.client.client import Client, Request, Response
from stator.client.config import ClientConfig
from stator.client.errors import ClientError
from stator.log.logger import Log, LoggerConfig
from stator.log.writer import Sink
from stator.roster.consul.registrar import ConsulConfig
from stator.roster.roster import Roster, RosterConfig
from stator.roster.service import Endpoint, ServiceConfig
from tests.bench.figures import Figure
from tests.integration.programs import Consul, eventually

ROSTERS = 1000
# An agent lets 200 connections in from one address, unless it's told otherwise; the fleet has but one.
LIMITS = "-hcl=limits { http_max_conns_per_client = 4000 }"
FILES = 8192
# Seconds of the calm that is measured, and of the agent's absence.
CALM, ABSENCE = 60.0, 5.0
GIVE_UP = 120.0
AT_ONCE = 100  # that stop: each gives up after 5 s, and one process has but so much time


@frozen
class Tally:
    """Requests by the second in which they were made.

    Attributes:
        answered: Those that the agent answered.
        refused: Those that did not reach it.
    """

    answered: Counter[int] = field(factory=Counter)
    refused: Counter[int] = field(factory=Counter)

    def clear(self) -> None:
        """Begins anew."""
        self.answered.clear()
        self.refused.clear()


class Counted(Client):
    """A client whose requests are counted."""

    def __init__(self, client: Client, tally: Tally) -> None:
        self.client, self.tally, self.uri, self.mask = client, tally, client.uri, client.mask

    def send(self, request: Request, **how: Any) -> Response:
        """Sends a request, as the client does."""
        second = int(time.monotonic())
        try:
            response = self.client.send(request, **how)
        except ClientError:
            self.tally.refused[second] += 1
            raise
        self.tally.answered[second] += 1
        return response

    def clone(self) -> "Counted":
        """A client with connections of its own, counted along."""
        return Counted(self.client.clone(), self.tally)

    def close(self) -> None:
        """Closes all connections."""
        self.client.close()


def run() -> Iterator[Figure]:
    """Measures how long it takes until all are registered, and until all are back, and the requests for that."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Each thread that waits for the interpreter wakes so often: a thousand would keep the machine busy with that.
    sys.setswitchinterval(0.05)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, most), most))
    log = LoggerConfig(level="error").build(Sink(os.open(os.devnull, os.O_WRONLY)), terminal=False)
    tally = Tally()
    with TemporaryDirectory() as folder, Consul(Path(folder), LIMITS) as agent:
        fleet = [roster(number, agent, tally, log) for number in range(ROSTERS)]
        try:
            yield from measure(fleet, agent, tally)
        finally:
            begin = time.monotonic()
            for first in range(0, len(fleet), AT_ONCE):
                for each in fleet[first : first + AT_ONCE]:
                    each.stop()
                for each in fleet[first : first + AT_ONCE]:
                    eventually(lambda each=each: each.wait_stopped(0.1))  # type: ignore[misc]
            left = time.monotonic() - begin
            listed = len(agent.services())
        yield Figure(f"all unregistered, {AT_ONCE} at once", f"after {left:.1f} s; {listed} are still listed")


def roster(number: int, agent: Consul, tally: Tally, log: Log) -> Roster:
    """One of the fleet, whose health check asks the agent itself."""
    client = ClientConfig(base_uri=agent.url).build(log)
    client = evolve(client, client=Counted(client.client, tally))
    spec = f"{agent.url}/v1/status/leader?of=%s:%d"
    service = ServiceConfig(id=str(number), ip_address="127.0.0.1", monitor_spec=spec)
    return RosterConfig(service=service).build(
        ConsulConfig().build(client), agent.url, Endpoint("127.0.0.1", 1 + number), lambda: True, log
    )


def measure(fleet: list[Roster], agent: Consul, tally: Tally) -> Iterator[Figure]:
    """Gives each figure as soon as it is known."""
    seconds = until(lambda: begin(fleet), agent)
    yield Figure(f"{ROSTERS:,} instances, one agent: all registered", f"after {seconds:.1f} s{peak(tally.answered)}")
    time.sleep(5)
    tally.clear()
    time.sleep(CALM)
    yield Figure("at rest", f"{tally.answered.total() / CALM:.1f} requests a second from all")
    tally.clear()
    agent.kill()
    time.sleep(ABSENCE)
    tries = tally.refused.total() / ABSENCE / ROSTERS
    yield Figure(f"agent away for {ABSENCE:.0f} s", f"{tries:.1f} tries a second from each")
    seconds = until(agent.start, agent)
    yield Figure("agent started again, its data gone: all registered", f"after {seconds:.1f} s{peak(tally.answered)}")


def begin(fleet: list[Roster]) -> None:
    """Starts all."""
    for each in fleet:
        each.start()


def until(begin: Callable[[], object], agent: Consul) -> float:
    """Seconds from a beginning until the agent lists all."""
    start = time.monotonic()
    begin()
    eventually(lambda: len(agent.services()) == ROSTERS, GIVE_UP, every=0.2)
    return time.monotonic() - start


def peak(answered: Mapping[int, int]) -> str:
    """What is said of the requests of the busiest second."""
    return f", at most {max(answered.values()):,} requests a second, {sum(answered.values()):,} in all"
