"""How a request fails."""

from typing import Literal, TypeAlias

ErrorKind: TypeAlias = Literal["unreachable", "timeout", "invalid", "status"]
"""No connection or one that broke, no answer in time, an answer that is not valid, an error status."""


class ClientError(Exception):
    """A request got no usable answer; `status` and `body` are those of an answer with an error status."""

    def __init__(self, message: str, kind: ErrorKind, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(message)
        self.kind, self.status, self.body = kind, status, body
