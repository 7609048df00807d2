"""Memory and paging: node_exporter's groups ``meminfo`` and ``vmstat``.

https://docs.kernel.org/filesystems/proc.html#meminfo
"""

import re

from stator.collectors.host.family import Family
from stator.collectors.host.files import Files
from stator.points import Point

# The fields that node_exporter knows; a kernel has more, and not all of these.
SIZES = """
    Active Active(anon) Active(file) AnonHugePages AnonPages Bounce Buffers Cached CmaFree CmaTotal CommitLimit
    Committed_AS DirectMap1G DirectMap2M DirectMap4k Dirty HardwareCorrupted Hugepagesize Inactive Inactive(anon)
    Inactive(file) KernelStack Mapped MemAvailable MemFree MemTotal Mlocked NFS_Unstable PageTables Percpu SReclaimable
    SUnreclaim Shmem ShmemHugePages ShmemPmdMapped Slab SwapCached SwapFree SwapTotal Unevictable VmallocChunk
    VmallocTotal VmallocUsed Writeback WritebackTmp
""".split()  # noqa: SIM905 # one on each line would take 40 lines
COUNTS = ("HugePages_Free", "HugePages_Rsvd", "HugePages_Surp", "HugePages_Total")


class Meminfo:
    """Reads /proc/meminfo."""

    def __init__(self) -> None:
        units = {**dict.fromkeys(SIZES, "bytes"), **dict.fromkeys(COUNTS, "")}
        self._families = {field.encode(): _memory(field, unit) for field, unit in units.items()}

    def points(self, files: Files, _now: float) -> list[Point]:
        """Returns a point for each field.

        Raises:
            OSError: The file can't be read.
            ValueError: A field is no number.
        """
        points = []
        for line in files.proc("meminfo").split(b"\n"):
            field, _, rest = line.partition(b":")
            if family := self._families.get(field):
                # "kB" means 1024 bytes; only counts come without it.
                points.append(family.at(int(rest[:-3]) * 1024 if rest.endswith(b" kB") else int(rest)))
        return points


class Vmstat:
    """Reads some fields of /proc/vmstat.

    Args:
        wanted: Pattern of the names of these fields.
    """

    def __init__(self, wanted: re.Pattern[str]) -> None:
        self._wanted = wanted
        self._names: list[bytes] = []
        self._fields: list[tuple[Family, int]] = []

    def points(self, files: Files, _now: float) -> list[Point]:
        """Returns a point for each field.

        Raises:
            OSError: The file can't be read.
            ValueError: A field is no number.
        """
        words = files.proc("vmstat").split()
        names = words[::2]
        if names != self._names:
            # The positions of the wanted fields stay the same as long as this kernel runs.
            self._names = names
            known = enumerate(name.decode() for name in names)
            self._fields = [(_paging(name), 2 * nth + 1) for nth, name in known if self._wanted.search(name)]
        return [family.at(int(words[at])) for family, at in self._fields]


def _memory(field: str, unit: str) -> Family:
    name = field.replace("(", "_").removesuffix(")")
    return Family(f"memory_{name}", f"{field} of /proc/meminfo", unit, "gauge")


def _paging(field: str) -> Family:
    return Family(f"vmstat_{field}", f"{field} of /proc/vmstat", "", "unknown")
