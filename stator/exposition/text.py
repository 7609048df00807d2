"""Prometheus' own text formats."""

from stator.exposition.format import Format
from stator.points import MetricType

# https://prometheus.io/docs/instrumenting/exposition_formats/
_TYPES = {"info": "gauge", "unknown": "untyped"}


def _header(_family: str, samples: str, type_: MetricType, desc: str, _unit: str) -> str:
    # Unlike in OpenMetrics, a family has the name of its samples, `_total` and `_info` included.
    help_ = desc.replace("\\", "\\\\").replace("\n", "\\n")
    return f"\n# HELP {samples} {help_}\n# TYPE {samples} {_TYPES.get(type_, type_)}\n"


def _stamp(seconds: float) -> bytes:
    return b" %d" % round(seconds * 1000)


TEXT_0_0_4 = Format("text/plain; version=0.0.4; charset=utf-8", False, _header, _stamp)
TEXT_1_0_0 = Format("text/plain; version=1.0.0; charset=utf-8; escaping=underscores", False, _header, _stamp)
TEXT_1_0_0_UTF8 = Format("text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8", True, _header, _stamp)
