"""Certificates for servers, made on the spot."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Signs certificates; ``bundle`` is the file of those who trust it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("an authority for tests")
        whole = x509.BasicConstraints(ca=True, path_length=None)
        usage = x509.KeyUsage(
            **dict.fromkeys(("digital_signature", "key_cert_sign", "crl_sign"), True),
            **dict.fromkeys(
                ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
                False,
            ),
            encipher_only=False,
            decipher_only=False,
        )
        own = (
            self._builder(self._name, self._key)
            .add_extension(whole, critical=True)
            .add_extension(usage, critical=True)
        )
        self.bundle = directory / "authority.pem"
        self.bundle.write_bytes(
            own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )

    def server(self, host: str, *, days: int = 1, self_signed: bool = False) -> ssl.SSLContext:
        """The context of a server with a certificate for a host; it expired if ``days`` is
        below 0.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        alternative = x509.SubjectAlternativeName([_general(host)])
        builder = self._builder(
            _named(host), key, days, issuer=_named(host) if self_signed else self._name
        )
        builder = builder.add_extension(alternative, critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            (key if self_signed else self._key).public_key()
        )
        signed = builder.add_extension(identifier, critical=False).sign(
            key if self_signed else self._key, hashes.SHA256()
        )
        files = [self._directory / name for name in ("certificate.pem", "key.pem")]
        files[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        return context

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        days: int = 1,
        issuer: x509.Name | None = None,
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
        )


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
