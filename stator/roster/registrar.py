"""What the roster needs of a registrar: that it registers, unregisters and looks."""

from typing import Literal, Protocol, TypeAlias, get_args

from attrs import frozen

from stator.roster.service import Service

Reason: TypeAlias = Literal[
    "unreachable", "timeout", "denied", "unavailable", "invalid", "address", "file", "unready", "other"
]
"""What a failure is counted as.

``unreachable``: no connection, or one that broke. ``timeout``: no answer in time. ``denied``: the discovery service
will not (a status of 300 to 499). ``unavailable``: it can not (500 and more). ``invalid``: an answer that makes no
sense. ``address``: ours is not to be found. ``file``: it can't be written or read. ``unready``: we do not answer
ourselves. ``other``: whatever nobody foresaw.
"""
REASONS: tuple[Reason, ...] = get_args(Reason)


class RegistrarError(Exception):
    """A registrar could not do what it was asked; the message says why.

    Attributes:
        reason: What it is counted as.
    """

    def __init__(self, message: str, reason: Reason = "other") -> None:
        super().__init__(message)
        self.reason: Reason = reason


@frozen
class Observation:
    """How the service is registered at the moment.

    Attributes:
        wrong: What is missing or differs, for a reader; empty where all is as it should be.
        mark: What tells this state from others, for a registrar to wait until it changes; empty where none can.
        keep: Whether checks that are there must outlive a registration: an operator's are among them.
    """

    wrong: str = ""
    mark: str = ""
    keep: bool = False


class Registrar(Protocol):
    """What knows how to tell a discovery service of us."""

    def register(
        self, service: Service, *, keep: bool = True, timeout: float | None = None, level: str = "info"
    ) -> None:
        """Registers a service, or what changed of it; raises RegistrarError.

        Checks that are there are kept beside ours, or replaced by them.
        """

    def unregister(self, service: Service, *, timeout: float | None = None, level: str = "info") -> None:
        """Takes a service out, whether it was registered or not; raises RegistrarError."""

    def look(self, service: Service, *, since: str = "", wait: float = 0.0) -> Observation:
        """How a service is registered; raises RegistrarError.

        Where the mark of an earlier sight is given, the answer comes when that no longer holds, or after so many
        seconds.
        """

    def wake(self) -> None:
        """Has a look that waits fail at once, and every later one; called by another thread."""

    def close(self) -> None:
        """Lets go of connections; called when nothing more is asked."""
