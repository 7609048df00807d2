"""What the settings of TLS accept, and what they refuse before the start."""

import os
from pathlib import Path

import pytest

from stator.server.config import ServerConfig
from stator.server.tls import TLSOptions
from stator.server.tls_extension import alternative_names, distinguished_name, names
from tests.certificates import DAY, Authority, Certificate


@pytest.fixture(scope="module")
def good(authority: Authority) -> Certificate:
    return authority.issue()


def problems(**settings: object) -> list[tuple[str, str]]:
    texts = {name: value if isinstance(value, tuple) else str(value) for name, value in settings.items()}
    return list(ServerConfig(**texts).problems())  # type: ignore[arg-type]


def test_a_certificate_with_its_key_is_good_in_two_files_and_in_one(good: Certificate, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(good.key.read_bytes() + good.cert.read_bytes())
    assert problems(cert_file=good.cert, key_file=good.key) == []
    assert problems(cert_file=both) == []
    assert problems(cert_file=both, client_ca_file=good.cert, client_names=("a",), tls_min_version="1.3") == []
    assert problems() == []


def test_all_mistakes_are_reported_at_once(good: Certificate, authority: Authority, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    found = problems(cert_file=good.cert, key_file=missing, client_ca_file=missing)
    assert found == [
        ("key_file", "a readable PEM file (No such file or directory)"),
        ("client_ca_file", "a readable file of PEM certificates (No such file or directory)"),
    ]
    assert problems(key_file=good.key, client_ca_file=authority.cert, client_names=("a",)) == [
        ("key_file", "STTR_SERVER_CERTFILE to be set too"),
        ("client_ca_file", "STTR_SERVER_CERTFILE to be set too"),
    ]
    assert problems(cert_file=good.cert, key_file=good.key, client_names=("a",)) == [
        ("client_names", "STTR_SERVER_CLIENTCAFILE to be set too")
    ]


def test_each_file_that_cannot_be_used_is_named_with_the_reason(
    good: Certificate, authority: Authority, tmp_path: Path
) -> None:
    empty, encrypted = tmp_path / "empty", tmp_path / "encrypted"
    empty.touch()
    encrypted.write_bytes(_encrypted(good.key))
    assert problems(cert_file=good.cert, key_file=authority.issue().key) == [
        ("key_file", "the key that belongs to the certificate, and not another's")
    ]
    assert problems(cert_file=good.cert, key_file=encrypted) == [("key_file", "a key that is not encrypted")]
    ((name, text),) = problems(cert_file=good.cert, key_file=empty)
    assert (name, text.startswith("a PEM file of a key (")) == ("key_file", True)
    ((name, text),) = problems(cert_file=empty, key_file=good.key)
    assert (name, text.startswith("a PEM file of a certificate (")) == ("cert_file", True)
    ((name, text),) = problems(cert_file=good.cert)
    assert (name, "with its key unless STTR_SERVER_KEYFILE names that" in text) == ("cert_file", True)
    ((name, text),) = problems(cert_file=good.cert, key_file=good.key, client_ca_file=good.key)
    assert name == "client_ca_file"
    assert problems(cert_file=tmp_path) == [("cert_file", "a readable PEM file (not a regular file)")]
    os.mkfifo(tmp_path / "pipe")
    assert problems(cert_file=good.cert, key_file=tmp_path / "pipe") == [
        ("key_file", "a readable PEM file (not a regular file)")
    ]


def test_a_certificate_out_of_its_time_is_a_warning(authority: Authority, good: Certificate) -> None:
    def warnings(certificate: Certificate) -> list[str]:
        return list(TLSOptions(str(certificate.cert), str(certificate.key), str(authority.cert)).warnings())

    assert warnings(good) == []
    (expired,) = warnings(authority.issue(begins=-3 * DAY, ends=-DAY))
    assert "it expired at 20" in expired
    (early,) = warnings(authority.issue(begins=DAY, ends=3 * DAY))
    assert "it is not valid before 20" in early


def test_names_are_the_common_name_and_the_alternative_names() -> None:
    certificate = {
        "subject": ((("organizationName", "Example, Inc."),), (("commonName", " shop#1"),)),
        "subjectAltName": (
            ("DNS", "shop.example"),
            ("URI", "spiffe://example.org/shop"),
            ("IP Address", "10.0.0.1"),
            ("email", "shop@example.org"),
            ("DirName", (("commonName", "other"),)),
        ),
    }
    assert [*names(certificate)] == [
        *(" shop#1", "shop.example", "spiffe://example.org/shop", "10.0.0.1", "shop@example.org")
    ]
    assert distinguished_name(certificate) == r"CN=\ shop#1,O=Example\, Inc."
    assert [*names({})] == []


def _encrypted(key: Path) -> bytes:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    loaded = load_pem_private_key(key.read_bytes(), None)
    return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


def test_a_client_s_alternative_names_are_those_of_all_kinds_and_no_common_name() -> None:
    kinds = (("DNS", "a.example"), ("IP Address", "2001:DB8:0:0:0:0:0:7"), ("URI", "spiffe://a"), ("email", "a@b"))
    certificate = {"subject": ((("commonName", "common"),),), "subjectAltName": (*kinds, ("DirName", "other"))}
    assert [*alternative_names(certificate)] == ["a.example", "2001:db8::7", "spiffe://a", "a@b"]
