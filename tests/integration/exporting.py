"""A program with metrics of every type that prometheus_client has: ``python -m tests.integration.exporting PORT``."""

import signal
import sys

from prometheus_client import Counter, Enum, Gauge, Histogram, Info, Summary, start_http_server


def main(port: int) -> None:
    """Answers with metrics that no longer change, until it is ended."""
    jobs = Counter("jobs", 'Jobs "done"\nso far \\', ["queue"])
    jobs.labels("mail").inc(3, {"trace_id": "4bf92f35"})
    jobs.labels('a "quoted" \\ one\n').inc(1e20)
    Gauge("shop_depth", "", ["target"]).labels("db").set(float("nan"))
    wait = Histogram("shop_wait_seconds", "Waiting", ["host"], buckets=(0.1, 1, 2.5e6))
    wait.labels("ü").observe(0.5, {"trace_id": "0af7"})
    wait.labels("ü").observe(1e9)
    Summary("shop_size_bytes", "Sizes", unit="bytes").observe(7)
    Info("shop_build", "The build").info({"version": "1.2"})
    Enum("shop_state", "The state", states=["open", "shut"]).state("shut")
    start_http_server(port, "127.0.0.1")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(int(sys.argv[1]))
