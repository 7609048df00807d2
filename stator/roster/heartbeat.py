"""Reports our health to a discovery service that can't ask for it, from a thread of its own.

The thread lives from the first registration until we leave. When it ends without a word, by a crash say, the discovery
service misses its reports and takes us for critical by itself.
"""

import threading
from collections.abc import Callable
from contextlib import closing
from urllib.parse import urlsplit

from attrs import frozen

from stator.client.client import ClientConfig, ClientError
from stator.client.headers import header_pairs
from stator.log.logger import Log, bind, new_id
from stator.roster.metrics import why
from stator.roster.service import Service
from stator.settings.duration import Duration

# Longest wait in seconds for a report that is under way when we leave.
GRACE = 0.5


@frozen
class Health:
    """How a service is.

    Attributes:
        passing: Whether it answers as it should.
        output: What it answered, or why it did not.
    """

    passing: bool
    output: str


@frozen
class Monitor:
    """Asks a service of our own for its health.

    Attributes:
        timeout: Longest time for an answer.
        headers: name,value,name,value to send along.
        log: Where requests and responses are told, for who looks closely.
    """

    timeout: Duration
    headers: tuple[str, ...]
    log: Log

    def __call__(self, service: Service) -> Health:
        """Health as it is now: passing is a status from 200 to 299, in time."""
        uri = urlsplit(service.own_url)
        config = ClientConfig(
            base_uri=f"{uri.scheme}://{uri.netloc}",
            timeout=self.timeout,
            timeout_short=self.timeout,
            # A connection each time, as somebody who comes from outside would make.
            headers=("Connection", "close", *self.headers),
            redact_headers=tuple(name for name, _ in header_pairs(self.headers)),
        )
        try:
            with closing(config.build(self.log)) as client:
                answer = client.send("GET", uri.path, level="debug")
        except ClientError as error:
            return Health(passing=False, output=str(error))
        body = answer.body[:200].decode(errors="replace")
        return Health(passing=True, output=f"GET {service.own_url} was answered with status {answer.status}: {body}")


class Heartbeat:
    """Asks for the health of a registered service again and again, and reports it.

    Args:
        ask: Gives the health of a service.
        interval: Seconds between two reports.
        log: Where the story is told: each change, and not each report.
    """

    def __init__(self, ask: Callable[[Service], Health], interval: float, log: Log) -> None:
        self._ask, self._interval, self._log = ask, interval, log
        self._due, self._ending = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._passing: bool | None = None
        self._failure = ""

    def beat(self, service: Service, report: Callable[[Service, Health], object]) -> None:
        """Begins to report a service, or where that has begun, reports it at once: it was registered anew.

        Args:
            service: What is registered.
            report: Tells the discovery service; raises RegistrarError.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, args=(service, report), name="heartbeat", daemon=True)
            self._thread.start()
        self._due.set()

    def end(self) -> None:
        """Ends the reports for good: none begins after this, and one under way is waited for, but not for long."""
        self._ending.set()
        self._due.set()
        if self._thread is not None:
            self._thread.join(GRACE)
            self._thread = None

    def _work(self, service: Service, report: Callable[[Service, Health], object]) -> None:
        bind(worker_id=new_id())
        self._log.info("worker starting", name="heartbeat")
        while True:
            self._due.wait(self._interval)
            self._due.clear()
            if self._ending.is_set():
                break
            self._report(service, report)
        self._log.info("worker stopped", name="heartbeat")

    def _report(self, service: Service, report: Callable[[Service, Health], object]) -> None:
        """Asks and tells once; what goes wrong is told when it begins, when its reason changes and when it ends."""
        try:
            health = self._ask(service)
            report(service, health)
        except Exception as error:  # noqa: BLE001 # whatever it is, the next report may go well
            if self._failure != str(error) and not self._ending.is_set():
                self._failure = str(error)
                self._log.error("failed to report health, trying again", service=service.id, **why(error))
            return
        if self._failure or self._passing != health.passing:
            tell = self._log.info if health.passing else self._log.warning
            tell("reported health", service=service.id, passing=health.passing, output=health.output)
        self._passing, self._failure = health.passing, ""
