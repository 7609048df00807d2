"""OpenMetrics 1.0.0.

https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

import re

from stator.entity import Type
from stator.formatters.dialect import Dialect
from stator.formatters.numbers import text

_UNIT = re.compile("[a-zA-Z0-9_:]+")
MEDIA_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def _header(family: str, _samples: str, type_: Type, desc: str, unit: str) -> str:
    help_ = desc.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    # A unit must end the family's name, as it's written: one that does not, as `total` of a counter, is none.
    told = type_ != "info" and _UNIT.fullmatch(unit) and family.strip('"').endswith(f"_{unit}")
    unit_line = f"# UNIT {family} {unit}\n" if told else ""
    return f"# HELP {family} {help_}\n# TYPE {family} {type_}\n{unit_line}"


def _stamp(seconds: float) -> bytes:
    return f" {text(round(seconds, 3))}".encode()


OPENMETRICS = Dialect(f"{MEDIA_TYPE}; escaping=underscores", False, _header, _stamp, b"# EOF\n", sums_below_zero=False)
OPENMETRICS_UTF8 = Dialect(
    f"{MEDIA_TYPE}; escaping=allow-utf-8", True, _header, _stamp, b"# EOF\n", sums_below_zero=False
)
