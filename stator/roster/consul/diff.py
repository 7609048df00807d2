"""What an agent shows of a service, beside what it was told.

Works on whatever a registration holds, so that a further field is compared too.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

Payload: TypeAlias = Mapping[str, Any]

# Fields that the agent shows by another name than it takes them.
SHOWN_AS = {"Name": "Service"}
CHECKS = ("Check", "Checks")
# What the agent shows as a check's type, by the field of a registration that makes it one.
CHECK_TYPES = {"HTTP": "http", "TCP": "tcp", "TTL": "ttl", "GRPC": "grpc"}


def differences(registration: Payload, shown: Payload, checks: Mapping[str, Payload]) -> Iterator[str]:
    """What is missing or differs, for a reader.

    Args:
        registration: What the agent was told, in the words of its register endpoint.
        shown: The service as the agent shows it.
        checks: The service's checks as the agent shows them, by id.
    """
    # Whoever registered the service without any means none.
    wanted = {"Tags": (), "Meta": {}, **registration}
    for name, value in wanted.items():
        shown_as = SHOWN_AS.get(name, name)
        # What an agent does not show, as one does not that is too old to know of it, can't be compared.
        if name not in CHECKS and shown_as in shown and not _is_same(value, shown[shown_as], exactly=name == "Meta"):
            yield f"{name} is {shown[shown_as]!r} instead of {value!r}"
    for id_, check in wanted_checks(registration):
        yield from _check_differences(id_, check, checks.get(id_))


def wanted_checks(registration: Payload) -> Iterator[tuple[str, Payload]]:
    """Ids under which the agent holds a registration's checks, and the checks."""
    checks = [*registration.get("Checks", ())]
    if "Check" in registration:
        checks = [registration["Check"], *checks]
    for nth, check in enumerate(checks, start=1):
        numbered = f":{nth}" if len(checks) > 1 else ""
        yield check.get("CheckID") or f"service:{registration['ID']}{numbered}", check


def _check_differences(id_: str, wanted: Payload, shown: Payload | None) -> Iterator[str]:
    if shown is None:
        yield f"check {id_} is missing"
        return
    (type_,) = {type_ for field, type_ in CHECK_TYPES.items() if wanted.get(field)} or {""}
    if type_ and shown.get("Type", type_) != type_:
        yield f"check {id_} is of type {shown['Type']} instead of {type_}"


def _is_same(wanted: Any, shown: Any, *, exactly: bool = False) -> bool:
    """Whether what is shown has all that is wanted; the agent adds to what it is told, as addresses with tags."""
    match wanted:
        case Mapping():
            shown = shown or {}
            extra = exactly and len(shown) > len(wanted)
            return not extra and all(_is_same(value, shown.get(key)) for key, value in wanted.items())
        case str():
            return bool(wanted == shown)
        case Sequence():
            return list(wanted) == list(shown or ())
    return bool(wanted == shown)
