"""The interface between the roster and a discovery service."""

from typing import Literal, Protocol, TypeAlias, get_args

from attrs import frozen

from stator.roster.service import Service

Reason: TypeAlias = Literal[
    "unreachable", "timeout", "denied", "unavailable", "invalid", "address", "file", "unready", "other"
]
"""What a failure is counted as.

``unreachable``: no connection, or one that broke. ``timeout``: no answer in time. ``denied``: the discovery service
refuses (a status of 300 to 499). ``unavailable``: it can't answer (500 and more). ``invalid``: its answer is not valid.
``address``: our own address can't be looked up. ``file``: the file can't be written or read. ``unready``: our service
does not answer. ``other``: any other error.
"""
REASONS: tuple[Reason, ...] = get_args(Reason)


class RegistrarError(Exception):
    """A registrar failed; the message says why, and the reason what the failure is counted as."""

    def __init__(self, message: str, reason: Reason = "other") -> None:
        super().__init__(message)
        self.reason: Reason = reason


@frozen
class Observation:
    """How the service is registered at the moment."""

    # What is missing or differs, for a reader; empty if the registration is as it should be.
    problem: str = ""
    # Identifies this state, so that a registrar can wait for another; empty if it can't wait.
    version: str = ""
    # Whether re-registering must preserve existing checks, because an operator added one.
    keep_checks: bool = False


class Registrar(Protocol):
    """Registers services with a discovery service; only `cancel` may be called by several threads."""

    def register(self, service: Service, *, keep_checks: bool = True, level: str = "info") -> None:
        """Registers a service, or updates its registration; raises RegistrarError.

        Existing checks stay beside ours, or ours replace them. Requests are logged at `level`.
        """

    def unregister(self, service: Service, *, timeout: float | None = None) -> None:
        """Unregisters a service, whether it was registered or not; raises RegistrarError.

        A `timeout` in seconds counts if it is shorter than the configured one.
        """

    def observe(self, service: Service, *, since: str = "", wait: float = 0.0) -> Observation:
        """Returns how a service is registered; raises RegistrarError.

        Waits for a version other than `since`, that of an earlier observation, but at most `wait` seconds.
        """

    def cancel(self) -> None:
        """Cancels a blocked `observe` and makes later ones fail immediately. Thread-safe."""

    def close(self) -> None:
        """Closes all connections; the last call."""
