"""Reports our health to a discovery service that does not check it, from a thread of its own."""

import threading
from collections.abc import Callable
from contextlib import closing
from urllib.parse import urlsplit

from attrs import frozen

from stator.client.config import ClientConfig
from stator.client.errors import ClientError
from stator.client.headers import header_pairs
from stator.client.probe import USER_AGENT
from stator.log.changes import ChangeLog
from stator.log.logger import Log, bind, new_id
from stator.roster.registrar import RegistrarError
from stator.roster.service import Service
from stator.settings.duration import Duration
from stator.settings.masking import Mask, mask_uris


@frozen
class Health:
    """The result of a health check; `output` is the answer, or why there was none."""

    passing: bool
    output: str


@frozen(eq=False, repr=False)
class HealthProbe:
    """Checks the health of a service of our own, and logs requests and responses at level debug."""

    timeout: Duration
    headers: tuple[str, ...]
    log: Log
    mask: Mask = mask_uris  # masks secrets in what is reported

    def __call__(self, service: Service) -> Health:
        """Returns the health of a service at this moment."""
        uri = urlsplit(service.own_url)
        config = ClientConfig(
            base_uri=f"{uri.scheme}://{uri.netloc}",
            timeout=self.timeout,
            timeout_short=self.timeout,
            # Our own: its name need not be that of the certificate.
            skip_verify=True,
            # A new connection each time, as a discovery service would make.
            headers=("Connection", "close", "User-Agent", USER_AGENT, *self.headers),
            redact_headers=tuple(name for name, _ in header_pairs(self.headers)),
        )
        try:
            with closing(config.build(self.log, self.mask)) as client:
                response = client.send("GET", uri.path, level="debug")
                body = client.excerpt(response.body, 200)
        except ClientError as error:
            return Health(passing=False, output=str(error))
        url = self.mask(service.own_url)
        return Health(passing=True, output=f"GET {url} was answered with status {response.status}: {body}")


class Heartbeat:
    """Checks the health of a registered service every `interval` seconds, and reports it."""

    def __init__(self, check: Callable[[Service], Health], interval: float, log: Log) -> None:
        self._check, self._interval, self._log = check, interval, log
        self._due, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._passing: bool | None = None
        begins, ends = "failed to report health, trying again", "reporting health again"
        self._failures = ChangeLog(log, "service", begins, ends, level="error", expected=(RegistrarError,))

    def report_now(self, service: Service, report: Callable[[Service, Health], object]) -> None:
        """Reports the health of a service that was registered just now, and from then on periodically."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, args=(service, report), name="heartbeat", daemon=True)
            self._thread.start()
        self._due.set()

    def stop(self) -> None:
        """Stops for good: no report starts after this; waits for a running one, for half a second at most."""
        self._stopping.set()
        self._due.set()
        if self._thread is not None:
            self._thread.join(0.5)
            self._thread = None

    def _work(self, service: Service, report: Callable[[Service, Health], object]) -> None:
        bind(worker_id=new_id())
        self._log.info("worker starting", name="heartbeat")
        while True:
            self._due.wait(self._interval)
            self._due.clear()
            if self._stopping.is_set():
                break
            self._report(service, report)
        self._log.info("worker stopped", name="heartbeat")

    def _report(self, service: Service, report: Callable[[Service, Health], object]) -> None:
        try:
            health = self._check(service)
            report(service, health)
        except Exception as error:  # noqa: BLE001 # whatever it is, the next report may succeed
            if not self._stopping.is_set():
                self._failures.report(service.id, error)
            return
        self._failures.report(service.id, None)
        if self._passing != health.passing:
            log = self._log.info if health.passing else self._log.warning
            log("reported health", service=service.id, passing=health.passing, output=health.output)
        self._passing = health.passing
