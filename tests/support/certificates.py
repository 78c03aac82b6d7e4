"""Valid and invalid certificates for TLS tests.

certificates = Certificates(folder)
certificates.authority              # PEM file of the issuing authority
certificates.issue("broker.test")   # one PEM file with certificate and key
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Collection, Mapping
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = dt.timedelta(days=1)
_USES = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


class Certificates:
    """Creates certificates in a folder, by one authority unless stated otherwise."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        self._authority = trustme.CA()
        self.authority = self._write(self._authority.cert_pem.bytes())

    def _write(self, pem: bytes) -> Path:
        path = self._folder / f"{next(self._numbers)}.pem"
        path.write_bytes(pem)
        return path

    def issue(
        self, name: str, *, days: int = 30, from_days: int = -60, password: bytes | None = None
    ) -> Path:
        """Issue a certificate that expires in `days` days, with its key, encrypted or not."""
        now = dt.datetime.now(dt.UTC)
        begin, end = now + from_days * _DAY, now + days * _DAY
        leaf = self._authority.issue_cert(name, common_name=name, not_before=begin, not_after=end)
        key = leaf.private_key_pem.bytes()
        if password is not None:
            key = serialization.load_pem_private_key(key, None).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password),
            )
        return self._write(key + b"".join(pem.bytes() for pem in leaf.cert_chain_pems))

    def split(self, file: Path) -> tuple[Path, Path]:
        """Split a file with certificate and key into two files."""
        key, begin, chain = file.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
        return self._write(begin + chain), self._write(key)

    def of_another_authority(self, name: str) -> Path:
        """Issue a certificate of an unknown authority, with its key."""
        leaf = trustme.CA().issue_cert(name)
        return self._write(leaf.private_key_and_cert_chain_pem.bytes())

    def self_signed(self, name: str) -> Path:
        """Create a self-signed certificate, with its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + 30 * _DAY)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_USES, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        return self._write(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + certificate.public_bytes(pem)
        )


def tls_options(
    authority: Path, certificates: Mapping[str, Path], client_certificate_for: Collection[str]
) -> str:
    """Return the `ssl_options` of a RabbitMQ with a certificate per server name (SNI).

    Args:
        authority: Authority of client certificates.
        certificates: Certificates by server name; the first is the default.
        client_certificate_for: Server names that require a client certificate.
    """

    def options(name: str) -> str:
        verify = ", {verify, verify_peer}, {fail_if_no_peer_cert, true}"
        file = certificates[name]
        return (
            f'[{{cacertfile, "{authority}"}}, {{certfile, "{file}"}}, {{keyfile, "{file}"}}'
            f"{verify if name in client_certificate_for else ''}]"
        )

    hosts = ", ".join(f'{{"{name}", {options(name)}}}' for name in certificates)
    return f"{options(next(iter(certificates)))[:-1]}, {{sni_hosts, [{hosts}]}}]"
