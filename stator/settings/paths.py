"""Sets of request paths, as settings such as ``STTR_LOGGER_QUIETPATHS`` name them."""

from collections.abc import Iterable


class PathSet:
    """Some paths, with and without a slash at their end; ``/monitor/*`` stands for all below ``/monitor/``."""

    def __init__(self, paths: Iterable[str] = ()) -> None:
        paths = list(paths)
        self._exact = frozenset(each for path in paths for each in (path, f"{path}/"))
        self._prefixes = tuple(path.removesuffix("*") for path in paths if path.endswith("/*"))

    def __contains__(self, path: str) -> bool:
        return path in self._exact or path.startswith(self._prefixes)
