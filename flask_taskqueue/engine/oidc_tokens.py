"""OpenID Connect tokens, with which deliveries prove to other services who sends them."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flask import Flask

from ..core.delivery.surface import Surface
from ..core.errors import ConfigurationError
from ..core.settings.app import Settings
from ..core.states import Record
from ..core.urls import is_absolute
from .own_address import server_url

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

_LIFETIME = 3600
_SMALLEST = 2048
_MOST_KEPT = 1024
JWKS_PATH = "/.well-known/jwks.json"
CONFIGURATION_PATH = "/.well-known/openid-configuration"


class OidcTokens:
    """A maker of tokens: JWTs signed by RS256 (RFC 7519, RFC 7518), valid for an hour.

    ``issuer`` is the URL of the app, below which its public keys are found. A token is kept for
    each account and audience until half of its time is over, because signing costs more than the
    rest of a delivery.
    """

    def __init__(self, keys: Sequence[str], issuer: str) -> None:
        """Take RSA keys in PEM, newest first; the newest signs, and all are published.

        Raises `ConfigurationError` for a key that cannot be used.
        """
        self._keys = [_load(key) for key in keys]
        self._issuer = issuer
        self._kept: dict[tuple[str, str], tuple[float, str]] = {}

    def token(self, account: str, audience: str) -> str:
        """Return a token that says who calls, an account, and who is called."""
        now = time.time()
        until, token = self._kept.get((account, audience), (0.0, ""))
        if now < until:
            return token
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        token = self._sign(account, audience, int(now))
        self._kept[account, audience] = now + _LIFETIME / 2, token
        return token

    def bearer(self, record: Record, surface: Surface) -> str | None:
        """Return the Authorization header of a delivery; None if its task asks for no token.

        Without an audience of the task's own, it is the URL that the task was added with.
        """
        if surface.oidc is None:
            return None
        base = "" if is_absolute(record.url) else record.target or self._issuer
        url = base + record.url
        account = surface.oidc.get("email", "")
        return f"Bearer {self.token(account, surface.oidc.get('audience') or url)}"

    @property
    def public_keys(self) -> dict[str, Any]:
        """The public keys as a JSON Web Key Set (RFC 7517)."""
        return {"keys": [_public(key) for key in self._keys]}

    @property
    def configuration(self) -> dict[str, Any]:
        """The document by which OpenID Connect finds the keys (Discovery 1.0, 3)."""
        return {
            "issuer": self._issuer,
            "jwks_uri": self._issuer + JWKS_PATH,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "claims_supported": ["aud", "email", "email_verified", "exp", "iat", "iss", "sub"],
        }

    def _sign(self, account: str, audience: str, now: int) -> str:
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        key = self._keys[0]
        claims = {
            "iss": self._issuer,
            "sub": account,
            "email": account,
            "email_verified": True,
            "aud": audience,
            "iat": now,
            "exp": now + _LIFETIME,
        }
        header = {"alg": "RS256", "kid": _name(key), "typ": "JWT"}
        signed = b".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
        return (signed + b"." + _encoded(key.sign(signed, PKCS1v15(), SHA256()))).decode()


def find_oidc_tokens(app: Flask, settings: Settings) -> OidcTokens | None:
    """Return the maker of the app's tokens; None without a key.

    Raises `ConfigurationError` for a key that cannot be used, or if nothing says where the app
    answers.
    """
    if not settings.oidc_key:
        return None
    issuer = settings.base_url or server_url(app)
    if issuer is None:
        raise ConfigurationError(
            "TASKQUEUE_OIDC_KEY needs TASKQUEUE_BASE_URL, because receivers look there for the "
            "public key"
        )
    return OidcTokens(settings.oidc_key, issuer.rstrip("/"))


def _load(pem: str) -> RSAPrivateKey:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise ConfigurationError(
            "TASKQUEUE_OIDC_KEY needs cryptography: pip install 'Flask-TaskQueue[cloudtasks]'"
        ) from error
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(
            "TASKQUEUE_OIDC_KEY holds a key that cannot be read; it must be an RSA key in PEM, "
            "without a password, as openssl genrsa makes it"
        ) from None  # whose text may hold a part of the key
    if not isinstance(key, RSAPrivateKey) or key.key_size < _SMALLEST:
        raise ConfigurationError(
            f"TASKQUEUE_OIDC_KEY must be an RSA key of at least {_SMALLEST} bits"
        )
    return key


def _public(key: RSAPrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    return {
        "kty": "RSA",
        "use": "sig",
        "alg": "RS256",
        "kid": _name(key),
        "n": _number(numbers.n),
        "e": _number(numbers.e),
    }


def _name(key: RSAPrivateKey) -> str:
    """Return the id of a key, which its public part determines."""
    numbers = key.public_key().public_numbers()
    return hashlib.sha256(f"{numbers.n}:{numbers.e}".encode()).hexdigest()[:32]


def _number(value: int) -> str:
    return _encoded(value.to_bytes((value.bit_length() + 7) // 8, "big")).decode()


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
