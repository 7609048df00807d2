"""Settings of the `host` collector, named as node_exporter's flags."""

import re
from functools import partial
from typing import TYPE_CHECKING

from attrs import frozen

from stator.log.changes import ChangeLog
from stator.log.logger import Log
from stator.points import CollectorContext
from stator.settings.declare import Constraint, positive, section, setting
from stator.settings.duration import Duration

if TYPE_CHECKING:
    from stator.collectors.host.collector import Group, Host

GROUPS = (
    *("cpu", "diskstats", "filefd", "filesystem", "loadavg", "meminfo", "netclass", "netdev", "netstat"),
    *("pressure", "sockstat", "stat", "time", "uname", "vmstat"),
)
# As in node_exporter: memory and files used as disks, floppies, partitions.
DISKS = r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$"
# As in Debian's node_exporter: filesystems without data, or without data of this host.
MOUNTS = "^/(dev|proc|run|sys|mnt|media|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
TYPES = (
    "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs"
    "|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tracefs)$"
)

# As in node_exporter: what dashboards and alerts about traffic, errors and connections ask for.
NETSTAT = (
    "^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)"
    "|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)"
    "|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)"
    "|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$"
)


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


PATTERN = Constraint("a regular expression", _is_pattern)


@frozen(eq=False, repr=False)
class DiskstatsConfig:
    """Which disks are reported."""

    device_exclude: str = setting(DISKS, desc="regular expression for disks to leave out", check=PATTERN)


@frozen(eq=False, repr=False)
class FilesystemConfig:
    """Which filesystems are reported, and how long a scrape waits for them."""

    mount_points_exclude: str = setting(MOUNTS, desc="regular expression for mount points to leave out", check=PATTERN)
    fs_types_exclude: str = setting(TYPES, desc="regular expression for filesystem types to leave out", check=PATTERN)
    mount_timeout: Duration = setting(Duration.parse("1s"), desc="longest time to wait for filesystems", check=positive)


@frozen(eq=False, repr=False)
class NetclassConfig:
    """Of which network devices it is reported what they are."""

    ignored_devices: str = setting(
        "", desc="regular expression for network devices whose state to leave out", check=PATTERN
    )
    ignore_invalid_speed: bool = setting(default=False, desc="leave out the speed -1 of devices that do not know it")


@frozen(eq=False, repr=False)
class NetdevConfig:
    """Of which network devices the traffic is reported."""

    device_exclude: str = setting("", desc="regular expression for network devices to leave out", check=PATTERN)


@frozen(eq=False, repr=False)
class NetstatConfig:
    """Which fields of /proc/net/netstat, snmp and snmp6 are reported."""

    fields: str = setting(
        NETSTAT, desc="regular expression for the fields of /proc/net/netstat, snmp and snmp6", check=PATTERN
    )


@frozen(eq=False, repr=False)
class VmstatConfig:
    """Which fields of /proc/vmstat are reported."""

    fields: str = setting(
        "^(oom_kill|pgpg|pswp|pg.*fault).*", desc="regular expression for the fields of /proc/vmstat", check=PATTERN
    )


@frozen(eq=False, repr=False)
class HostConfig:
    """Settings of the `host` collector."""

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
    netclass: NetclassConfig = section(NetclassConfig)
    netdev: NetdevConfig = section(NetdevConfig)
    netstat: NetstatConfig = section(NetstatConfig)
    vmstat: VmstatConfig = section(VmstatConfig)

    def build(self, context: CollectorContext) -> "Host":
        """Returns a collector of these groups, each once."""
        from stator.collectors.host import cpu, disk, memory, network, protocols, system
        from stator.collectors.host.collector import Host
        from stator.collectors.host.files import Files
        from stator.collectors.host.filesystem import Filesystem
        from stator.collectors.host.netclass import Netclass
        from stator.collectors.host.statvfs import StatvfsPool

        filesystem = Filesystem(
            _excluding(self.filesystem.mount_points_exclude),
            _excluding(self.filesystem.fs_types_exclude),
            self.rootfs.rstrip("/").encode(),
            StatvfsPool(),
            self.filesystem.mount_timeout.seconds,
            change_log(context.log, "filesystem"),
        )
        netclass = Netclass(
            _excluding(self.netclass.ignored_devices),
            self.netclass.ignore_invalid_speed,
            change_log(context.log, "device"),
        )
        groups: dict[str, Group] = {
            "cpu": cpu.Cpu().points,
            "diskstats": disk.Diskstats(_excluding(self.diskstats.device_exclude), self.udev).points,
            "filefd": system.filefd,
            "filesystem": filesystem.points,
            "loadavg": system.loadavg,
            "meminfo": memory.meminfo,
            "netclass": netclass.points,
            "netdev": partial(network.netdev, _excluding(self.netdev.device_exclude)),
            "netstat": protocols.Netstat(re.compile(self.netstat.fields)).points,
            "pressure": system.pressure,
            "sockstat": protocols.sockstat,
            "stat": system.stat,
            "time": system.clocks,
            "uname": system.uname,
            "vmstat": partial(memory.vmstat, re.compile(self.vmstat.fields)),
        }
        chosen = {name: groups[name] for name in self.collectors}
        return Host(chosen, lambda: Files(self.procfs, self.sysfs), change_log(context.log, "group"))


def _excluding(text: str) -> re.Pattern[str]:
    """Returns the pattern of names to leave out: none for an empty text."""
    return re.compile(text or "(?!)")


def change_log(log: Log, subject: str) -> ChangeLog:
    """Returns what logs that a group, a filesystem or a network device begins to fail, or can be read again."""
    return ChangeLog(log, subject, "can't read from host", "can read from host again")
