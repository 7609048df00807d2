"""The key by which the service knows requests of its own."""

# The header that has it.
KEY_HEADER = "X-Stator-Probe"


def is_key(given: str, key: str) -> bool:
    """Returns whether a request's key is ours; an empty one is none."""
    from hmac import compare_digest  # slow to import, and the main process needs the header alone

    return bool(given and key) and compare_digest(given.encode(errors="replace"), key.encode())
