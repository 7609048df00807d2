"""Paths whose successful requests are logged at debug, as ``STTR_LOGGER_QUIETPATHS`` names them."""

from collections.abc import Iterable
from http import HTTPStatus


class QuietPaths:
    """Some paths, with and without a slash at their end; ``/monitor/*`` stands for all below ``/monitor/``."""

    def __init__(self, paths: Iterable[str] = ()) -> None:
        paths = list(paths)
        self._exact = frozenset(each for path in paths for each in (path, f"{path}/"))
        self._prefixes = tuple(path.removesuffix("*") for path in paths if path.endswith("/*"))

    def __contains__(self, path: str) -> bool:
        return path in self._exact or path.startswith(self._prefixes)


def is_success(status: int) -> bool:
    """Whether a status says that a request was answered as it should be; 0 is for no answer."""
    return 0 < status < HTTPStatus.BAD_REQUEST
