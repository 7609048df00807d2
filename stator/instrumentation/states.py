"""Infos and enums, for which prometheus_client has no values that processes could share."""

import json
from collections.abc import Mapping, Sequence

from prometheus_client import Metric

from stator.instrumentation.layout import FamilyKey
from stator.instrumentation.memory import Memory
from stator.instrumentation.values import SharedValue, make_value

Labels = tuple[tuple[str, ...], tuple[str, ...]]
"""Names and values of a metric's own labels."""


def info_value(memory: Memory, family: Metric, labels: Labels, info: Mapping[str, str]) -> SharedValue:
    """Returns a value whose series has what an info says as labels, and which is there while this process has it."""
    names, label_values = labels
    key = FamilyKey("info", family.name, f"{family.name}_info", (*names, *info), family.documentation, "all")
    value = make_value(memory, key, (*label_values, *map(str, info.values())))
    value.set(1)
    return value


def enum_value(memory: Memory, family: Metric, labels: Labels, states: Sequence[str]) -> SharedValue:
    """Returns the value of an enum: the number of its state; all states are in the label of the enum's name."""
    names, label_values = labels
    key = FamilyKey("stateset", family.name, family.name, (*names, family.name), family.documentation, "all")
    return make_value(memory, key, (*label_values, json.dumps(states)))
