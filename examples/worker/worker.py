"""A worker that takes jobs from a queue, and answers no requests: python worker.py."""

import logging
import os
import time

import stator

stator.configure_logging(service="mailer")

from prometheus_client import Counter, Histogram  # noqa: E402

SENT = Counter("mailer_sent", "Mails sent")
DURATION = Histogram("mailer_duration_seconds", "Time to send a mail")
log = logging.getLogger("mailer")


def send(number: int) -> None:
    with DURATION.time():
        time.sleep(0.01)  # the work
    SENT.inc()
    log.info("mail sent", extra={"number": number})


def main() -> None:
    observability = stator.Stator(service="mailer", collectors=["runtime", "prometheus_client"])
    with observability.serve(int(os.environ.get("PORT", "9100"))):
        for number in range(int(os.environ.get("MAILS", "1000"))):
            send(number)


if __name__ == "__main__":
    main()
