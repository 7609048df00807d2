"""What the host collector can be told: the settings are named as node_exporter's flags.

The code that collects is imported by those who do.
"""

import re
from typing import TYPE_CHECKING

from attrs import frozen

from stator.log.changes import ChangeLog
from stator.log.logger import Log
from stator.settings.declare import Constraint, positive, section, setting
from stator.settings.duration import Duration

if TYPE_CHECKING:
    from stator.collectors.host.collector import Group, Host

GROUPS = (
    *("cpu", "diskstats", "filesystem", "loadavg", "meminfo", "netdev"),
    *("pressure", "stat", "time", "uname", "vmstat"),
)


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


PATTERN = Constraint("a regular expression", _is_pattern)


@frozen
class DiskstatsConfig:
    """Which disks are told of."""

    # As node_exporter has it: memory and files used as disks, floppies, partitions.
    device_exclude: str = setting(
        r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$",
        desc="regular expression for disks to leave out",
        check=PATTERN,
    )


@frozen
class FilesystemConfig:
    """Which filesystems are told of, and how long they are waited for."""

    # As node_exporter has them where Debian builds it: what holds no data, or none of this host's.
    mount_points_exclude: str = setting(
        "^/(dev|proc|run|sys|mnt|media|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)",
        desc="regular expression for mount points to leave out",
        check=PATTERN,
    )
    fs_types_exclude: str = setting(
        "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs"
        "|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tracefs)$",
        desc="regular expression for filesystem types to leave out",
        check=PATTERN,
    )
    mount_timeout: Duration = setting(Duration.parse("1s"), desc="longest time to wait for filesystems", check=positive)


@frozen
class NetdevConfig:
    """Which network devices are told of."""

    device_exclude: str = setting("", desc="regular expression for network devices to leave out", check=PATTERN)


@frozen
class VmstatConfig:
    """Which fields of /proc/vmstat are told."""

    fields: str = setting(
        "^(oom_kill|pgpg|pswp|pg.*fault).*", desc="regular expression for the fields of /proc/vmstat", check=PATTERN
    )


@frozen
class HostConfig:
    """What the host collector can be told."""

    collectors: tuple[str, ...] = setting(
        GROUPS,
        desc="node_exporter's collectors that host stands for",
        check=Constraint(f"names out of {', '.join(GROUPS)}", lambda names: set(names) <= set(GROUPS)),
    )
    procfs: str = setting("/proc", desc="where the host's /proc is, ex: /host/proc")
    sysfs: str = setting("/sys", desc="where the host's /sys is")
    rootfs: str = setting("/", desc="where the host's / is")
    udev: str = setting("/run/udev/data", desc="where the host's udev database is")
    diskstats: DiskstatsConfig = section(DiskstatsConfig)
    filesystem: FilesystemConfig = section(FilesystemConfig)
    netdev: NetdevConfig = section(NetdevConfig)
    vmstat: VmstatConfig = section(VmstatConfig)

    def build(self, log: Log) -> "Host":
        """A collector of these groups, each once, that tells a log what it can't read."""
        from stator.collectors.host.collector import Host  # slow to import, and off by default
        from stator.collectors.host.files import Files

        groups = {name: self._group(name, log) for name in self.collectors}
        return Host(
            groups,
            lambda: Files(self.procfs, self.sysfs),
            changes(log, "group"),
        )

    def _group(self, name: str, log: Log) -> "Group":
        from stator.collectors.host import cpu, disk, memory, network, system  # slow to import

        match name:
            case "diskstats":
                return disk.Diskstats(_excluding(self.diskstats.device_exclude), self.udev)
            case "filesystem":
                return self._filesystem(log)
            case "netdev":
                return network.Netdev(_excluding(self.netdev.device_exclude))
            case "vmstat":
                return memory.Vmstat(re.compile(self.vmstat.fields))
        # Those that have nothing to be told.
        plain: dict[str, type[Group]] = {
            "cpu": cpu.Cpu,
            "loadavg": system.Loadavg,
            "meminfo": memory.Meminfo,
            "pressure": system.Pressure,
            "stat": system.Stat,
            "time": system.Time,
            "uname": system.Uname,
        }
        return plain[name]()

    def _filesystem(self, log: Log) -> "Group":
        from stator.collectors.host.filesystem import Filesystem, Filter  # slow to import
        from stator.collectors.host.statvfs import StatvfsPool

        own = self.filesystem
        excluded = Filter(_excluding(own.mount_points_exclude), _excluding(own.fs_types_exclude))
        return Filesystem(
            excluded,
            self.rootfs,
            StatvfsPool(),
            own.mount_timeout.seconds,
            changes(log, "filesystem"),
        )


def _excluding(text: str) -> re.Pattern[str] | None:
    """What finds names to leave out; an empty text, which would be found in each, stands for none."""
    return re.compile(text) if text else None


def changes(log: Log, subject: str) -> ChangeLog:
    """Logs when a group or a filesystem begins to fail, and when it can be read again."""
    return ChangeLog(log, subject, "can't read from host", "can read from host again")
