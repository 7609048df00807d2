"""Names and label values as they are written: quoted or escaped where they need it."""

import re
from collections.abc import Sequence

# https://prometheus.io/docs/instrumenting/escaping_schemes/
_ILLEGAL_IN_METRIC = re.compile("^[0-9]|[^a-zA-Z0-9_:]")
_ILLEGAL_IN_LABEL = re.compile("^[0-9]|[^a-zA-Z0-9_]")


def metric(name: str, *, utf8: bool) -> str:
    """A metric's name: as it is if all its characters are legal, else quoted if `utf8`, else with underscores."""
    return _written(name, _ILLEGAL_IN_METRIC, utf8=utf8)


def label(name: str, *, utf8: bool) -> str:
    """A label's name; likewise."""
    return _written(name, _ILLEGAL_IN_LABEL, utf8=utf8)


def _written(name: str, illegal: re.Pattern[str], *, utf8: bool) -> str:
    if not illegal.search(name):
        return name
    return quoted(name) if utf8 else illegal.sub("_", name)


def head(name: str, pairs: Sequence[str]) -> str:
    """The text before a sample's number, out of its name and its label pairs as they are written."""
    if name.startswith('"'):
        return "{" + ",".join([name, *pairs]) + "}"
    return f"{name}{{{','.join(pairs)}}}" if pairs else name


def quoted(text: str) -> str:
    """A text between double quotes."""
    return f'"{escaped([text])[0]}"'


def escaped(texts: Sequence[str]) -> Sequence[str]:
    """Label values as they are written between quotes; fast if none has a special character."""
    together = "".join(texts)
    if not any(special in together for special in '\\"\n'):
        return texts
    return [text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for text in texts]
