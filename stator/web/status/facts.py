"""What the page and /status say: the facts, the same whichever process of the service answers."""

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from math import inf

import msgspec
from attrs import field, frozen

from stator.concurrency.loops import Awaiter, await_alone, awaiter, result_of
from stator.concurrency.single_flight import SingleFlight
from stator.concurrency.threads import DaemonThreads
from stator.processes.procfs import PAGE, TICKS, Stat
from stator.processes.service import ServiceProcesses
from stator.version import __version__
from stator.web.checks import Checks
from stator.web.status.collections import LastCollections

PROGRAM = "program"  # the role of a wrapped program's processes


class ServiceFacts(msgspec.Struct, frozen=True):
    """The service, and what observes it."""

    name: str
    version: str  # its own; empty if unknown
    stator: str
    python: str
    run_id: str
    started: float | None  # Unix time; None if /proc can't be read


class RegistrationFacts(msgspec.Struct, frozen=True):
    """The registration; an empty text, or 0, is what is not known."""

    state: str  # registered, not registered, unregistered, or nowhere
    registrar: str = ""
    name: str = ""
    id: str = ""
    address: str = ""
    port: int = 0
    confirmed: float = 0.0  # Unix time


class CheckFacts(msgspec.Struct, frozen=True):
    """A health check, made just now."""

    name: str
    passing: bool
    state: str  # ok, or why it fails


class CollectorFacts(msgspec.Struct, frozen=True):
    """A collector, in the last scrape that asked it; None without one."""

    name: str
    at: float | None = None  # Unix time
    success: bool | None = None
    seconds: float | None = None
    points: int | None = None


class ProcessFacts(msgspec.Struct, frozen=True):
    """A process of the service."""

    pid: int
    role: str  # empty if unknown
    worker: int  # 0 for no worker
    cpu_seconds: float
    resident_bytes: int
    started: float  # Unix time


class Facts(msgspec.Struct, frozen=True):
    """All facts, of one moment."""

    at: float  # Unix time
    service: ServiceFacts
    registration: RegistrationFacts
    checks: list[CheckFacts]
    collectors: list[CollectorFacts]
    processes: list[ProcessFacts]


@frozen(eq=False, repr=False)
class About:
    """What does not change while the service runs."""

    name: str
    run_id: str
    version: str = ""


@frozen(eq=False)
class Status:
    """Gathers the facts, when somebody looks."""

    about: About
    checks: Checks
    collections: LastCollections
    processes: ServiceProcesses
    registration: Callable[[], RegistrationFacts]
    now: Callable[[], float]
    program: Callable[[], Iterable[int]] = tuple  # returns the ids of a wrapped program's processes
    _looks: SingleFlight[str, Facts] = field(factory=lambda: SingleFlight(DaemonThreads().run), init=False)

    def gather(self, await_: Awaiter = await_alone) -> Facts:
        """Makes the health checks, and returns all facts."""
        states = self.checks.states(await_)
        processes = _processes(self.processes, self.program())
        return Facts(
            self.now(),
            ServiceFacts(
                self.about.name,
                self.about.version,
                __version__,
                sys.version.split()[0],
                self.about.run_id,
                min((each.started for each in processes), default=None),
            ),
            self.registration(),
            [CheckFacts(name, state == "ok", state) for name, state in states.items()],
            _collectors(self.collections),
            processes,
        )

    async def gather_async(self) -> Facts:
        """Does the same in a thread, which all share who look at the same time."""
        call = self._looks.submit("", partial(self.gather, awaiter()), inf)
        return (await result_of(call.future)).unwrap()


def _collectors(collections: LastCollections) -> list[CollectorFacts]:
    return [
        CollectorFacts(name, *last) if last else CollectorFacts(name) for name, last in collections.latest().items()
    ]


def _processes(processes: ServiceProcesses, program: Iterable[int]) -> list[ProcessFacts]:
    """Returns the processes of the service and of the program, the oldest first; none where /proc can't be read."""
    import psutil

    try:
        found: list[tuple[int, str, int, Stat]] = [
            (each.pid, each.role, each.worker, each.stat) for each in processes.snapshot()
        ]
    except OSError:
        return []
    for pid in program:
        with suppress(OSError):  # it has ended
            found.append((pid, PROGRAM, 0, Stat.of(pid)))
    booted = psutil.boot_time()
    return [
        ProcessFacts(
            pid,
            role,
            worker,
            (stat.user + stat.system) / TICKS,
            stat.resident * PAGE,
            round(booted + stat.started / TICKS, 2),
        )
        for pid, role, worker, stat in sorted(found, key=lambda each: (each[3].started, each[0]))
        if stat.is_alive
    ]


def as_json(facts: Facts) -> bytes:
    """Returns the facts as JSON."""
    return msgspec.json.encode(facts)


def is_healthy(facts: Facts) -> bool:
    """Returns whether all checks pass."""
    return all(each.passing for each in facts.checks)
