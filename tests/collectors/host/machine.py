"""A machine that exists only as files: what its kernel and udev say of it, odd things among them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stator.collectors.host.config import HostConfig
from stator.collectors.host.files import Files
from stator.points import Point, family_name

Texts = Mapping[str, str | None]
"""Contents by path below the machine's folder; None for a file that is not there."""


def devices(**properties: str) -> dict[str, str]:
    """Files of network devices, by the properties of each: ``speed=1000``."""
    pairs = [(name, each.partition("=")) for name, text in properties.items() for each in text.split()]
    return {f"sys/class/net/{name}/{file}": f"{value}\n" for name, (file, _, value) in pairs}


FILES: dict[str, str] = {
    # cpu1 is offline; the last line is one that no kernel has yet.
    "proc/stat": """\
cpu  1500 30 420 90000 210 6 18 9 4 2
cpu0 1000 20 300 50000 150 5 10 6 3 1
cpu2 500 10 120 40000 60 1 8 3 1 1
intr 8885917 17 0 0 9 4521
ctxt 38014093
btime 1418183276
processes 26442
procs_running 3
procs_blocked 1
softirq 5057579 250191 1481983 1647 211099 186066 0 1783454 622196 12499 508444
entropy 256
""",
    "proc/loadavg": "0.21 1.37 15.39 2/719 19737\n",
    "proc/meminfo": """\
MemTotal:       24684092 kB
MemFree:        23091728 kB
MemAvailable:   24298880 kB
Buffers:           16064 kB
Active(anon):       1544 kB
Inactive(file):  1028012 kB
Zswap:                 0 kB
NFS_Unstable:          4 kB
Committed_AS:     300084 kB
VmallocTotal:   34359738367 kB
HardwareCorrupted:     8 kB
CmaTotal:          65536 kB
CmaFree:           32768 kB
HugePages_Total:       6
HugePages_Free:        5
HugePages_Rsvd:        1
HugePages_Surp:        0
Hugepagesize:       2048 kB
Hugetlb:           12288 kB
DirectMap4k:       28672 kB
PagesOfTomorrow:      16 kB
""",
    "proc/vmstat": """\
nr_free_pages 5772932
pgpgin 770261
pgpgout 2480236
pswpin 1
pswpout 2
pgalloc_dma 10
pgfault 4621634
pgmajfault 640
pgscan_direct 3
oom_kill 4
""",
    "proc/pressure/cpu": """\
some avg10=4.01 avg60=8.70 avg300=3.97 total=20131439
full avg10=0.00 avg60=0.00 avg300=0.00 total=17
""",
    "proc/pressure/io": """\
some avg10=0.06 avg60=0.09 avg300=0.07 total=1414520
full avg10=0.02 avg60=0.02 avg300=0.02 total=1157917
""",
    "proc/pressure/memory": """\
some avg10=0.00 avg60=0.00 avg300=0.00 total=12
full avg10=0.00 avg60=0.00 avg300=0.00 total=10
""",
    "proc/pressure/irq": "full avg10=0.00 avg60=0.00 avg300=0.00 total=2500\n",
    # Of kernels before 4.18, before 5.5 and after it; one name with a slash, as the kernel writes it.
    "proc/diskstats": """\
   7       0 loop0 1 0 8 0 0 0 0 0 0 0 0
   8       0 sda 25354637 34367663 1003346126 18492372 28444756 11134226 505697032 63877960 0 9653880 82621804
   8       1 sda1 250 0 2000 36 0 0 0 0 0 36 36
 253       0 dm-0 59910002 0 1003337218 46229572 39231014 0 505696880 1158557800 2 11325968 1206301256 7 8 9 10
 259       0 nvme0n1 47114 4 4643973 21650 1078320 43950 39451633 1011053 0 222766 1032546 11 12 13 14 15 16
 104       0 cciss/c0d0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19
""",
    "proc/net/dev": """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1664039048 1566805    1    2    3     4          5         6 1664039049 1566806    7    8    9     10      11          12
  eth0:68210035552 520993275    0    0    0     0          0         0 9315587528 43451486    0    0    0     0       0          0
""",  # noqa: E501 # as the kernel writes it
    # Two protocols that are no more than names, and one that no kernel has yet.
    "proc/net/netstat": """\
TcpExt: TCPRcvQDrop SyncookiesSent SyncookiesRecv SyncookiesFailed ListenOverflows ListenDrops TCPTimeouts TCPOFOQueue TCPSynRetrans
TcpExt: 9 1 2 3 4 5 6 7 8
IpExt: InNoRoutes InOctets OutOctets
IpExt: 0 17013889128 6548627092
MPTcpExt: MPCapableSYNRX
MPTcpExt: 0
QuicExt:
QuicExt:
""",  # noqa: E501 # as the kernel writes it
    "proc/net/snmp": """\
Ip: Forwarding DefaultTTL InReceives
Ip: 2 64 39421166
Icmp: InMsgs InErrors OutMsgs
Icmp: 206 1 204
IcmpMsg: InType3 OutType3
IcmpMsg: 206 204
Tcp: RtoMax MaxConn ActiveOpens PassiveOpens CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts
Tcp: 120000 -1 8501086 666189 3 39412924 39299756 2790 0 7854140
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors
Udp: 7962 204 9 8370 10 11
UdpLite: InDatagrams InErrors
UdpLite: 0 12
""",
    "proc/net/snmp6": """\
Ip6InReceives                   \t133
Ip6InOctets                     \t12372
Ip6OutOctets                    \t13276
Icmp6InMsgs                     \t2
Icmp6InErrors                   \t1
Icmp6OutMsgs                    \t11
Icmp6OutType133                 \t5
Udp6InDatagrams                 \t14
Udp6NoPorts                     \t16
Udp6InErrors                    \t17
Udp6OutDatagrams                \t18
Udp6RcvbufErrors                \t19
Udp6SndbufErrors                \t20
UdpLite6InErrors                \t15
""",
    "proc/net/sockstat": """\
sockets: used 229
TCP: inuse 4 orphan 1 tw 5 alloc 17 mem 3
UDP: inuse 2 mem 0
UDPLITE: inuse 0
RAW: inuse 0
FRAG: inuse 0 memory 6
""",
    "proc/net/sockstat6": """\
TCP6: inuse 17
UDP6: inuse 9
UDPLITE6: inuse 0
RAW6: inuse 1
FRAG6: inuse 0 memory 7
""",
    "proc/sys/fs/file-nr": "1024\t0\t9223372036854775807\n",
    "proc/1/mountinfo": """\
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
22 27 0:21 / /proc rw,relatime - proc proc rw
33 27 8:17 / /data/a\\040b ro,relatime shared:7 master:1 - xfs /dev/sd\\040b1 rw,attr2
34 27 8:18 / /data/tab\\011bed rw,relatime - ext4 /dev/sdb2 rw
35 27 0:40 / /gone rw,relatime - nfs4 server:/export rw
36 27 0:41 / /var/lib/docker/overlay2/merged rw,relatime - tmpfs none rw
37 27 8:18 / /data/tab\\011bed rw,relatime - ext4 /dev/sdb2 rw
""",
    "proc/sys/kernel/domainname": "example.net\n",
    "sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc hpet acpi_pm \n",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
    "sys/devices/system/cpu/isolated": "1-2\n",
    "sys/devices/system/cpu/cpu0/topology/core_id": "0\n",
    "sys/devices/system/cpu/cpu0/topology/physical_package_id": "0\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "5\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "30\n",
    "sys/devices/system/cpu/cpu1/online": "0\n",
    "sys/devices/system/cpu/cpu2/online": "1\n",
    "sys/devices/system/cpu/cpu2/topology/core_id": "1\n",
    "sys/devices/system/cpu/cpu2/topology/physical_package_id": "0\n",
    "sys/devices/system/cpu/cpu2/thermal_throttle/core_throttle_count": "7\n",
    "sys/devices/system/cpu/cpu2/thermal_throttle/package_throttle_count": "31\n",
    "sys/block/sda/queue/rotational": "1\n",
    "sys/block/nvme0n1/queue/rotational": "0\n",
    "sys/class/net/lo/statistics/rx_nohandler": "13\n",
    "sys/class/net/eth0/statistics/rx_nohandler": "0\n",
    **devices(
        lo="addr_assign_type=0 address=00:00:00:00:00:00 broadcast=00:00:00:00:00:00 carrier=1 carrier_changes=0"
        " carrier_down_count=0 carrier_up_count=0 dev_id=0x0 dormant=0 flags=0x9 ifalias= ifindex=1 iflink=1"
        " link_mode=0 mtu=65536 name_assign_type=2 netdev_group=0 operstate=unknown tx_queue_len=1000 type=772",
        eth0="addr_assign_type=3 address=02:fc:00:00:00:01 broadcast=ff:ff:ff:ff:ff:ff carrier=1 carrier_changes=5"
        " carrier_down_count=2 carrier_up_count=3 dev_id=0x20 dormant=0 duplex=full flags=0x1003 ifalias=to_rack_7"
        " ifindex=4 iflink=6 link_mode=1 mtu=1400 name_assign_type=4 netdev_group=7 operstate=up speed=10000"
        " tx_queue_len=1001 type=1",
        # It is down, and knows little.
        usb0="address=92:a9:66:58:f2:1a duplex=unknown flags=0x1002 ifindex=9 mtu=1500 operstate=down speed=-1",
    ),
    "sys/class/net/bonding_masters": "bond0\n",
    "udev/b8:0": """\
S:disk/by-id/ata-ST500
E:ID_ATA=1
E:ID_ATA_ROTATION_RATE_RPM=7200
E:ID_ATA_WRITE_CACHE=1
E:ID_ATA_WRITE_CACHE_ENABLED=0
E:ID_MODEL=ST500LM012
E:ID_PATH=pci-0000:00:1f.2-ata-1
E:ID_REVISION=2AR20001
E:ID_SERIAL=ST500LM012_S2X8J1
E:ID_SERIAL_SHORT=S2X8J1
E:ID_WWN=0x50004cf20a
G:systemd
""",
    "udev/b253:0": """\
E:DM_NAME=vg-root
E:DM_UUID=LVM-x
E:DM_VG_NAME=vg
E:DM_LV_NAME=root
E:ID_FS_TYPE=ext4
E:ID_FS_USAGE=filesystem
E:ID_FS_UUID=3deafd0d
E:ID_FS_VERSION=1.0
""",
    "udev/b259:0": "E:ID_SERIAL=SAMSUNG_EHFTF55\nE:SCSI_IDENT_SERIAL=EHFTF55\n",
}
FOLDERS = (
    "rootfs/data/a b",
    "rootfs/data/tab\tbed",
    "rootfs/proc",
    # What a disk's own properties are looked for in.
    "sys/block/dm-0/slaves/sda2",
)


def lay_out(folder: Path, changed: Texts | None = None) -> Path:
    """Writes a machine's files into a folder, some of them changed, and gives that."""
    texts: dict[str, str | None] = {**FILES, **(changed or {})}
    for below in FOLDERS:
        (folder / below).mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        if text is not None:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
    return folder


def hosted(machine: Path, **settings: Any) -> HostConfig:
    """The settings of a collector that reads a machine that was laid out."""
    return HostConfig(
        procfs=f"{machine}/proc", sysfs=f"{machine}/sys", rootfs=f"{machine}/rootfs", udev=f"{machine}/udev", **settings
    )


def read(machine: Path) -> Files:
    """The files of one scrape of a machine."""
    return Files(f"{machine}/proc", f"{machine}/sys")


def values(points: Iterable[Point]) -> dict[str, Any]:
    """Points' values, by the name and the label values by which they are exposed."""
    return {" ".join([_exposed(point), *dict(point.labels).values()]): point.value for point in points}


def _exposed(point: Point) -> str:
    return family_name("node", point.name, point.unit) + ("_total" if point.type == "counter" else "")
