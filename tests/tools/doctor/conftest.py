"""Certificates, and the site over them: made and started once."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.web.servers import Server, uvicorn


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def file(self) -> Path:
        """What a client trusts."""
        return self.folder / "ca.pem"

    def issue(self, name: str, *, days: float) -> tuple[Path, Path]:
        """A certificate for localhost that ends in so many days, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        until = now + timedelta(days=days)
        certificate = (
            _builder("localhost", self.certificate.subject, key, min(now, until) - timedelta(days=1), until)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return _write(self.folder, name, certificate, key)


def _builder(
    name: str, issuer: x509.Name | None, key: ec.EllipticCurvePrivateKey, since: datetime, until: datetime
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
    )


def _write(
    folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> tuple[Path, Path]:
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder, key = tmp_path_factory.mktemp("authority"), ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        _builder("Tests", None, key, now - timedelta(days=1), now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(folder, "ca", certificate, key)
    return Authority(folder, key, certificate)


@pytest.fixture(scope="session")
def site(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The site of `site.py`, over TLS."""
    certificate, key = authority.issue("site", days=20)
    options = [
        "--ssl-certfile",
        str(certificate),
        "--ssl-keyfile",
        str(key),
        "--no-date-header",
        "--no-proxy-headers",
        "--lifespan",
        "off",
    ]
    folder = tmp_path_factory.mktemp("site")
    with uvicorn("tests.tools.doctor.site:app", folder=folder, options=options) as server:
        yield server


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """What answers plain HTTP beside it."""
    folder = tmp_path_factory.mktemp("plain")
    with uvicorn("tests.tools.doctor.site:plain", folder=folder, options=["--lifespan", "off"]) as server:
        yield server


def server_context(files: tuple[Path, Path]) -> ssl.SSLContext:
    """For a server in this process."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*map(str, files))
    return context
