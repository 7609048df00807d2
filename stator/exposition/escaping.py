"""Names and label values as they are written: quoted or escaped where they need it.

https://prometheus.io/docs/instrumenting/escaping_schemes/
"""

import re
from collections.abc import Sequence

_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SPECIAL = ("\\", '"', "\n")


def metric(name: str, *, utf8: bool) -> str:
    """A metric's name: as it is if all its characters are legal, else quoted if `utf8`, else escaped."""
    if _METRIC.fullmatch(name):
        return name
    return quoted(name) if utf8 else _started(re.sub("[^a-zA-Z0-9_:]", "_", name))


def label(name: str, *, utf8: bool) -> str:
    """A label's name; likewise."""
    if _LABEL.fullmatch(name):
        return name
    return quoted(name) if utf8 else _started(re.sub("[^a-zA-Z0-9_]", "_", name))


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
    if not any(special in together for special in _SPECIAL):
        return texts
    return [text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for text in texts]


def _started(name: str) -> str:
    return "_" + name[1:] if name[:1].isdigit() else name
