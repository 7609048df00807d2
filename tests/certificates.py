"""Certificates for tests, made in this process."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import trustme

DAY = timedelta(days=1)


class Certificate(NamedTuple):
    """The files of a certificate and its key."""

    cert: Path
    key: Path

    def replace_by(self, other: "Certificate") -> None:
        """Puts another in its place, one file after the other."""
        for mine, its in zip(self, other, strict=True):
            fresh = mine.with_suffix(".fresh")
            shutil.copy(its, fresh)
            fresh.rename(mine)


class Authority:
    """An authority of its own.

    Attributes:
        cert: The file of its certificate.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self._ca, self._issued = folder, trustme.CA(), 0
        self.cert = folder / "authority.pem"
        self._ca.cert_pem.write_to_path(str(self.cert))

    def issue(
        self, *names: str, common_name: str | None = None, begins: timedelta = -DAY, ends: timedelta = DAY
    ) -> Certificate:
        """Issues a certificate for names, which begins and ends so long from now; without names for 127.0.0.1."""
        now = datetime.now(UTC)
        made = self._ca.issue_cert(
            *(names or ("127.0.0.1", "localhost")),
            common_name=common_name,
            not_before=now + begins,
            not_after=now + ends,
        )
        self._issued += 1
        files = Certificate(self._folder / f"{self._issued}.pem", self._folder / f"{self._issued}.key")
        files.cert.write_bytes(b"".join(each.bytes() for each in made.cert_chain_pems))
        made.private_key_pem.write_to_path(str(files.key))
        return files
