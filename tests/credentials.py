"""Users and tokens for tests, with hashes that take a millisecond, and the headers that they send."""

from base64 import b64encode
from pathlib import Path

PASSWORD, OTHER_PASSWORD = "correct horse", "hunter2"
TOKEN, OTHER_TOKEN = "geheim-token-0123456789", "geheim-token-9876543210"
HASH = "$2y$04$i9MQrI/4ULTtwM1x6iH0OefYpxfIsqSg3oQkYpYNELxeBjKX2o8p2"
OTHER_HASH = "$2y$04$asf2MQvsuxuO0eoK4N10puwcxDPFDPBV2Iu.g9u.n55RSZgrbeEla"
USERS = f"prom:{HASH}\nother:{OTHER_HASH}\n"


def basic(user: str = "prom", password: str = PASSWORD) -> dict[str, str]:
    """Returns the header of a user."""
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


def bearer(token: str = TOKEN) -> dict[str, str]:
    """Returns the header of a token."""
    return {"Authorization": f"Bearer {token}"}


def write_private(path: Path, text: str) -> Path:
    """Writes a file that nobody else can read, in place of one that may be there, in one step."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.touch(0o600)
    fresh.write_text(text)
    fresh.replace(path)
    return path


def settings(folder: Path) -> dict[str, str]:
    """Returns the settings of a users file and a tokens file in a folder."""
    return {
        "STTR_SERVER_USERSFILE": str(write_private(folder / "users", USERS)),
        "STTR_SERVER_TOKENSFILE": str(write_private(folder / "tokens", f"{TOKEN}\n")),
    }
