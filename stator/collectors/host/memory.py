"""Memory and paging: node_exporter's groups ``meminfo`` and ``vmstat``."""

import re
from collections.abc import Iterator

from stator.collectors.host.family import Family
from stator.collectors.host.files import Files
from stator.points import Point

# Those of https://docs.kernel.org/filesystems/proc.html#meminfo that node_exporter knows; a kernel may lack some.
SIZES = """
    Active Active(anon) Active(file) AnonHugePages AnonPages Bounce Buffers Cached CmaFree CmaTotal CommitLimit
    Committed_AS DirectMap1G DirectMap2M DirectMap4k Dirty HardwareCorrupted Hugepagesize Inactive Inactive(anon)
    Inactive(file) KernelStack Mapped MemAvailable MemFree MemTotal Mlocked NFS_Unstable PageTables Percpu SReclaimable
    SUnreclaim Shmem ShmemHugePages ShmemPmdMapped Slab SwapCached SwapFree SwapTotal Unevictable VmallocChunk
    VmallocTotal VmallocUsed Writeback WritebackTmp
""".split()  # noqa: SIM905 # one on each line would take 40 lines
COUNTS = ("HugePages_Free", "HugePages_Rsvd", "HugePages_Surp", "HugePages_Total")


def _family(field: str, unit: str = "") -> Family:
    name = field.replace("(", "_").removesuffix(")")
    return Family(f"memory_{name}", f"{field} of /proc/meminfo", unit)


FAMILIES = {each.encode(): _family(each, "bytes") for each in SIZES} | {each.encode(): _family(each) for each in COUNTS}


def meminfo(files: Files, _now: float) -> Iterator[Point]:
    """Yields a point for each field of /proc/meminfo."""
    for line in files.proc("meminfo").split(b"\n"):
        field, _, rest = line.partition(b":")
        if family := FAMILIES.get(field):
            # "kB" means 1024 bytes; only counts come without it.
            yield family.at(int(rest[:-3]) * 1024 if rest.endswith(b" kB") else int(rest))


def vmstat(wanted: re.Pattern[str], files: Files, _now: float) -> Iterator[Point]:
    """Yields a point for each field of /proc/vmstat whose name matches a pattern."""
    for line in files.proc("vmstat").decode().splitlines():
        field, _, value = line.partition(" ")
        if wanted.search(field):
            yield Point(f"vmstat_{field}", f"{field} of /proc/vmstat", int(value), type="unknown")
