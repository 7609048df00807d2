"""OpenMetrics 1.0.0."""

import re

from stator.exposition.format import Format
from stator.exposition.numbers import text
from stator.points import MetricType

# https://prometheus.io/docs/specs/om/open_metrics_spec/
_UNIT = re.compile("[a-zA-Z0-9_:]+")
MEDIA_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def _header(family: str, samples: str, type_: MetricType, desc: str, unit: str) -> str:
    help_ = desc.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    # The written name of the family must end in the unit.
    has_unit = type_ != "info" and _UNIT.fullmatch(unit) and family.strip('"').endswith(f"_{unit}")
    unit_line = f"# UNIT {family} {unit}\n" if has_unit else ""
    # The samples of a counter must end in `_total`, those of an info in `_info`.
    if type_ in ("counter", "info") and samples == family:
        type_ = "unknown"
    return f"# HELP {family} {help_}\n# TYPE {family} {type_}\n{unit_line}"


def _stamp(seconds: float) -> bytes:
    return f" {text(round(seconds, 3))}".encode()


_END = b"# EOF\n"
OPENMETRICS, OPENMETRICS_UTF8 = (
    Format(
        f"{MEDIA_TYPE}; escaping={how}",
        *(utf8, _header, _stamp, _END),
        canonical_bounds=True,
        exemplars=True,
        sums_below_zero=False,
        named_by_samples=False,
        created_apart=False,
    )
    for how, utf8 in (("underscores", False), ("allow-utf-8", True))
)
