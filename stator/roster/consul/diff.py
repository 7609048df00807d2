"""Compares a registration with what the agent reports, whatever fields the registration has."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, TypedDict

Payload: TypeAlias = Mapping[str, Any]


class AgentService(TypedDict, total=False):
    """A service as the agent reports it."""

    ID: str
    Service: str
    Tags: list[str] | None
    Meta: dict[str, str] | None
    Address: str
    Port: int
    TaggedAddresses: dict[str, dict[str, Any]] | None
    Weights: dict[str, int] | None
    ContentHash: str


class AgentCheck(TypedDict, total=False):
    """A check as the agent reports it."""

    ServiceID: str
    Type: str
    Output: str | None


def differences(registration: Payload, reported: Payload, checks: Mapping[str, Payload]) -> Iterator[str]:
    """Yields what is missing or differs in a service and its checks, by id, as the agent reports them."""
    # A registration without tags or metadata asks for none.
    wanted = {"Tags": (), "Meta": {}, **registration}
    for name, value in wanted.items():
        field = "Service" if name == "Name" else name
        # A field that the agent does not report, because it is older than the field, can't be compared.
        if field in reported and not _is_same(value, reported[field], exactly=name == "Meta"):
            yield f"{name} is {reported[field]!r} instead of {value!r}"
    id_, type_ = check_id(registration), "ttl" if "TTL" in registration["Check"] else "http"
    if id_ not in checks:
        yield f"check {id_} is missing"
    elif checks[id_].get("Type", type_) != type_:
        yield f"check {id_} is of type {checks[id_]['Type']} instead of {type_}"


def check_id(registration: Payload) -> str:
    """Returns the id of a registration's check; the agent derives it from the service's, if there is none."""
    return str(registration["Check"].get("CheckID") or f"service:{registration['ID']}")


def _is_same(wanted: Any, reported: Any, *, exactly: bool = False) -> bool:
    """Whether all that is wanted is reported: the agent adds, for example, addresses with tags of its own."""
    if isinstance(wanted, Mapping):
        reported = reported or {}
        extra = exactly and len(reported) > len(wanted)
        return not extra and all(_is_same(value, reported.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list | tuple):
        return list(wanted) == list(reported or ())
    return bool(wanted == reported)
