"""What there is to say of services that were found, as lines of text."""

import time
from collections.abc import Iterable
from typing import Any

from stator.control.finding import Service
from stator.processes.procfs import TICKS, Stat, listening_ports

# As the standard library numbers them; its import takes longer than all else here.
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def listing(found: Iterable[Service]) -> list[str]:
    """Returns a table of services, a line for each, and its head."""
    rows = [("PID", "PORT", "SERVICE", "KIND", "REGISTRATION")]
    for each in map(summary, found):
        # Why it is not registered is for `status`.
        registration = each["registration"].partition(":")[0]
        rows.append((str(each["pid"]), str(each["port"] or "-"), each["service"], each["kind"], registration))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    # Numbers end at the same place, texts begin there.
    return [
        "  ".join([row[0].rjust(widths[0]), row[1].rjust(widths[1]), *map(str.ljust, row[2:], widths[2:])]).rstrip()
        for row in rows
    ]


def details(service: Service) -> list[str]:
    """Returns the lines that say what state a service is in."""
    found = summary(service)
    workers = found["workers"]
    fields = {
        **found,
        "since": f"{found['since']} ({_duration(found['seconds'])})",
        "workers": f"{len(workers)}: {', '.join(map(str, workers))}" if workers else "none",
        "level": f"{found['level']} (changed)" if service.level else found["level"],
    }
    fields.pop("seconds")
    fields = {name: value for name, value in fields.items() if value not in ("", 0)}
    width = max(map(len, fields)) + 2
    return [f"{name.replace('_', ' ').ljust(width)}{value}" for name, value in fields.items()]


def summary(service: Service) -> dict[str, Any]:
    """Returns what there is to say of a service, in the order in which it is printed."""
    started, seconds = _since(service.main)
    return {
        "service": service.text("service"),
        "version": service.text("version"),
        "kind": service.kind,
        "program": service.text("program"),
        "child": service.child(),
        "pid": service.main,
        "port": _port(service),
        "service_port": service.port("service_port"),
        "since": started,
        "seconds": seconds,
        "state": service.text("state"),
        "registration": service.text("registration"),
        "workers": service.workers(),
        "level": level_of(service),
        "run_id": service.text("run_id"),
        "stator": service.text("stator"),
    }


def _port(service: Service) -> int:
    """Returns the port on which a service answers; of an application that is not registered, where it listens."""
    if port := service.port():
        return port
    ports = {port for pid in {service.main, *service.workers()} for port in listening_ports(pid)}
    return min(ports, default=0)


def level_of(service: Service) -> str:
    """Returns the name of the lowest level that a service logs."""
    names = {number: name for name, number in LEVELS.items()}
    return names.get(service.level) or service.text("level") or "as configured"


def _since(pid: int) -> tuple[str, int]:
    """Returns when a process started, in UTC, and how many seconds ago."""
    try:
        ago = time.clock_gettime(time.CLOCK_BOOTTIME) - Stat.of(pid).started / TICKS
    except OSError:
        return "", 0
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - ago)), int(ago)


def _duration(seconds: int) -> str:
    """Returns a time in its two largest units: 3d4h, 5m7s."""
    units = [("d", 86400), ("h", 3600), ("m", 60), ("s", 1)]
    first = next((nth for nth, (_, size) in enumerate(units) if seconds >= size), 3)
    text = ""
    for letter, size in units[first : first + 2]:
        text, seconds = f"{text}{seconds // size}{letter}", seconds % size
    return text
