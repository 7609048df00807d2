"""What network protocols count, and their sockets: node_exporter's groups ``netstat`` and ``sockstat``."""

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import zip_longest

from stator.collectors.host.family import Family
from stator.collectors.host.files import Files
from stator.points import Point
from stator.processes.procfs import PAGE

# IPv6 may be switched off, and a kernel may lack either protocol; these files are then missing.
SNMP6, SOCKSTATS = "snmp6", ("sockstat", "sockstat6")
SOCKETS = Family("sockstat_sockets_used", "Sockets in use, of whatever protocol")
# Of the sockets of a protocol, as /proc/net/sockstat calls them.
STATES = {
    "inuse": "Sockets in use",
    "orphan": "Sockets that no process has open any more",
    "tw": "Sockets that wait for late packets",
    "alloc": "Sockets that exist",
    "mem": "Pages of memory that sockets take",
    "memory": "Bytes of memory that fragments take",
}


class Netstat:
    """Reads netstat, snmp and snmp6 in /proc/net: https://docs.kernel.org/networking/snmp_counter.html."""

    def __init__(self, wanted: re.Pattern[str]) -> None:
        self._wanted = wanted
        # By a line of names, which stays the same: matching them takes far longer than all other work.
        self._families: dict[bytes, list[Family | None]] = {}

    def points(self, files: Files, _now: float) -> Iterator[Point]:
        """Yields a point for each field that matches the pattern, such as ``TcpExt_ListenDrops``."""
        for file, names, values in _tables(files):
            families = self._families.get(names)
            if families is None:
                families = self._families[names] = [self._family(file, field) for field in _fields(file, names)]
            if len(families) != len(values):
                msg = f"{files.procfs}/net/{file}: {len(families)} names, {len(values)} values: {names[:60]!r}"
                raise ValueError(msg)
            for family, value in zip(families, values, strict=True):
                if family:
                    yield family.at(int(value))

    def _family(self, file: str, field: str) -> Family | None:
        wanted = self._wanted.search(field)
        return Family(f"netstat_{field}", f"{field} of /proc/net/{file}", "", "unknown") if wanted else None


def _tables(files: Files) -> Iterator[tuple[str, bytes, list[bytes]]]:
    """Yields each file's lines of names, with the values of the fields that they name."""
    for file in ("netstat", "snmp"):
        lines = files.proc(f"net/{file}").splitlines()
        for names, values in zip_longest(lines[::2], lines[1::2], fillvalue=b""):
            yield file, names, values.split()[1:]
    with suppress(FileNotFoundError):
        fields = files.proc(f"net/{SNMP6}").split()
        yield SNMP6, b" ".join(fields[::2]), fields[1::2]


def _fields(file: str, names: bytes) -> list[str]:
    """Returns the names of fields, each after its protocol: ``Tcp: InSegs`` and ``Ip6InOctets`` have it in front."""
    if file == SNMP6:
        return [name.replace("6", "6_", 1) for name in names.decode().split()]
    protocol, _, rest = names.decode().partition(":")
    return [f"{protocol}_{name}" for name in rest.split()]


def sockstat(files: Files, _now: float) -> Iterator[Point]:
    """Yields the sockets of each protocol by state, and the memory that they take."""
    for file in SOCKSTATS:
        with suppress(FileNotFoundError):
            for line in files.proc(f"net/{file}").decode().splitlines():
                protocol, _, rest = line.partition(":")
                fields = rest.split()
                yield from _sockets(protocol, dict(zip(fields[::2], map(int, fields[1::2]), strict=True)))


def _sockets(protocol: str, counts: dict[str, int]) -> Iterator[Point]:
    if protocol == "sockets":
        yield SOCKETS.at(counts["used"])
        return
    for state, desc in STATES.items():
        if state in counts:
            yield Family(f"sockstat_{protocol}_{state}", f"{desc}: {protocol}").at(counts[state])
    if "mem" in counts:
        memory = Family(f"sockstat_{protocol}_mem", f"Memory that sockets take: {protocol}", "bytes")
        yield memory.at(counts["mem"] * PAGE)
