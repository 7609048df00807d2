"""Files that are read again when a running service is asked to."""

from collections.abc import Mapping

from stator.settings.declare import Secret
from stator.settings.watched import read_all_again


class Reload:
    """Reads again what came from files; to be called in each process of a service."""

    def __init__(self, secrets: Mapping[str, Secret]) -> None:
        """Takes the secrets by the names of their variables; those that are in no file don't change."""
        self._secrets = {name: each for name, each in secrets.items() if each.is_from_file}
        self._known = {name: each.latest for name, each in self._secrets.items()}

    def __call__(self) -> list[str]:
        """Returns the variables of secrets, and the paths of other files, that have changed since the last call."""
        # A secret is read for each use, so it may be in use already.
        now = {name: each.reveal() for name, each in self._secrets.items()}
        before, self._known = self._known, now
        return sorted([*(name for name in now if now[name] != before[name]), *read_all_again()])
