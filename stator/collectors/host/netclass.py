"""What network devices are, and whether they are up: node_exporter's group ``netclass``."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TypeAlias

from attrs import define, field

from stator.collectors.host.family import Family, device_labels
from stator.collectors.host.files import Files
from stator.concurrency.gather import gather
from stator.concurrency.single_flight import SingleFlight
from stator.concurrency.threads import DaemonThreads
from stator.log.changes import ChangeLog
from stator.points import LabelPairs, MetricType, Point

Device: TypeAlias = Mapping[str, str]
"""What a device's files say, by their names."""

FOLDER = "class/net"
# Seconds: a device may ask its firmware for the speed, and all of them wait while one is being configured.
PATIENCE = 1.0
# Bit of a device that is switched on: https://man7.org/linux/man-pages/man7/netdevice.7.html
IFF_UP = 1
# What the kernel has for a speed in Mbit/s, in bytes per second.
MEGABIT = 1_000_000 // 8


def _property(name: str, desc: str, unit: str = "", type_: MetricType = "gauge") -> Family:
    return Family(f"network_{name}", desc, unit, type_)


UP = _property("up", "Whether a device is operational")
INFO = _property("info", "Addresses, states and alias of a device")
SPEED = _property("speed", "Speed of a device per second; negative: it does not know it", "bytes")
TEXTS = ("address", "broadcast", "duplex", "operstate", "ifalias")
# By file: https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-class-net
NUMBERS = {
    "addr_assign_type": _property("address_assign_type", "Where its address is from; 0: the device itself"),
    "carrier": _property("carrier", "Whether a device has a link"),
    "carrier_changes": _property("carrier_changes", "Times that a link came or went", type_="counter"),
    "carrier_up_count": _property("carrier_up_changes", "Times that a link came", type_="counter"),
    "carrier_down_count": _property("carrier_down_changes", "Times that a link went", type_="counter"),
    "dev_id": _property("device_id", "Which of the devices of one card it is"),
    "dormant": _property("dormant", "Whether a device waits for something else, such as a login"),
    "flags": _property("flags", "Flags of a device"),
    "iflink": _property("iface_link", "Index of the device that carries its traffic"),
    "link_mode": _property("iface_link_mode", "Link mode of a device; 1: it may be dormant"),
    "mtu": _property("mtu", "Largest packet that a device sends", "bytes"),
    "name_assign_type": _property("name_assign_type", "Where its name is from; 4: it was renamed"),
    "netdev_group": _property("net_dev_group", "Group of a device"),
    "tx_queue_len": _property("transmit_queue_length", "Packets that may wait to be sent"),
    "type": _property("protocol_type", "Protocol of a device; 1: Ethernet"),
    "ifindex": _property("iface_id", "Index of a device"),
}
# The last one is read last: a device that has none then has been removed meanwhile, or is none.
FILES = (*TEXTS, "speed", *NUMBERS)


@define(eq=False)
class Netclass:
    """Reads /sys/class/net; a device that does not answer is left out, and not waited for."""

    ignored: re.Pattern[str]
    ignore_invalid_speed: bool
    changes: ChangeLog
    _flights: "SingleFlight[str, dict[str, Device]]" = field(
        factory=lambda: SingleFlight(DaemonThreads().run), init=False
    )

    def points(self, files: Files, _now: float) -> Iterator[Point]:
        """Yields all points of the group."""
        names = files.listed(FOLDER)
        if not names:
            msg = f"no network device in {files.sysfs}/{FOLDER}"
            raise OSError(msg)
        known = {name: device_labels(os.fsencode(name), self.ignored) for name in names}
        chosen = {name: labels for name, labels in known.items() if labels}
        for name, device in self._devices(files, chosen).items():
            if "ifindex" in device:
                yield from self._about(device, chosen[name])

    def _devices(self, files: Files, names: Mapping[str, LabelPairs]) -> dict[str, Device]:
        """Returns what devices say, by name; those that take too long are missing."""
        # Threads cost more than reading, so it is one for all of them until one does not answer.
        together = gather(self._flights, {"": partial(_read, files, names)}, PATIENCE)[""]
        if together.value is not None:
            self.changes.update({})
            return together.value
        alone = gather(self._flights, {name: partial(_read, files, [name]) for name in names}, PATIENCE)
        self.changes.update({names[name][0][1]: str(each.error) for name, each in alone.items() if each.error})
        return {name: device for each in alone.values() for name, device in (each.value or {}).items()}

    def _about(self, device: Device, labels: LabelPairs) -> Iterator[Point]:
        state, flags, speed = device.get("operstate", ""), _number(device, "flags"), _number(device, "speed")
        yield UP.at(int(state == "up"), labels)
        admin = "unknown" if flags is None else "up" if flags & IFF_UP else "down"
        yield INFO.at(1, (*labels, *((name, device.get(name, "")) for name in TEXTS), ("adminstate", admin)))
        if speed is not None and not (speed < 0 and self.ignore_invalid_speed):
            yield SPEED.at(speed * MEGABIT, labels)
        for name, family in NUMBERS.items():
            if (number := _number(device, name)) is not None:
                yield family.at(number, labels)


def _read(files: Files, names: Iterable[str]) -> dict[str, Device]:
    """Returns what devices say, by name; those that have been removed since are missing."""
    devices: dict[str, Device] = {}
    for name in names:
        try:
            devices[name] = files.attributes(f"{FOLDER}/{name}", FILES)
        except OSError:  # it has been removed since, or is no device, such as bonding_masters
            continue
    return devices


def _number(device: Device, name: str) -> int | None:
    """Returns a number that may be hexadecimal, as 0x1003; None where the device has none."""
    try:
        return int(device[name], 0)
    except (KeyError, ValueError):
        return None
