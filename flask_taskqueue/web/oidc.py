"""OIDC tokens: the proof that a request comes from Cloud Tasks, as the service account we named."""

from __future__ import annotations

import json
import re
import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from typing import Any

from ..process.logs import get_logger

_logger = get_logger()

ISSUERS = ("https://accounts.google.com", "accounts.google.com")
_SKEW = 30
"""The seconds by which clocks may differ."""
_KEPT = 300.0
"""The seconds for which certificates are kept if the reply does not say."""
_AGAIN = 60.0
"""The seconds that pass at least between two fetches; a failed one is repeated sooner."""
_AFTER_FAILURE = 2.0
_PATIENCE = 10.0
_LONGEST = 16_384
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?:$|[\s,])", re.ASCII)


class TokenRefusedError(Exception):
    """The token proves nothing."""


class Certificates:
    """The certificates of the keys that may sign, kept as long as their reply's Cache-Control says.

    For a key that is not among them they are fetched anew, at most once a minute. Whoever comes
    while they are being fetched waits for that.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._known: Mapping[str, str] = {}
        self._kept_until = -1.0
        self._fetched_at: float | None = None
        self._fetching = threading.Lock()

    def get(self, kid: str) -> str:
        """Return the certificate of a key. Raises `TokenRefusedError` if there is none."""
        with self._fetching:
            if kid not in self._known or self._clock() >= self._kept_until:
                self._fetch()
            fresh = self._clock() < self._kept_until
            known = self._known.get(kid) if fresh else None
        if not fresh:
            raise TokenRefusedError("Google's certificates cannot be fetched now")
        if known is None:
            raise TokenRefusedError("its key is not known")
        return known

    def _fetch(self) -> None:
        import requests

        now = self._clock()
        if self._fetched_at is not None and now - self._fetched_at < _AGAIN:
            return
        self._fetched_at = now
        try:
            reply = requests.get(self._url, timeout=_PATIENCE)
            reply.raise_for_status()
            found = reply.json()
        except (requests.RequestException, ValueError) as error:
            _logger.error("the certificates at %s cannot be fetched: %s", self._url, error)
            self._fetched_at = now - _AGAIN + _AFTER_FAILURE
            return
        if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
            self._known = found
            age = _MAX_AGE.search(reply.headers.get("Cache-Control", ""))
            self._kept_until = now + (float(age[1]) if age else _KEPT)


class TokenVerifier:
    """A verifier of tokens for one audience, of one service account."""

    def __init__(self, certificates: Certificates, *, audience: str, email: str) -> None:
        self._certificates = certificates
        self._audience = audience
        self._email = email

    def verify(self, authorization: str | None) -> None:
        """Check the bearer token of a request.

        It must be signed by RS256 with a key that is known, within its time, and have Google as
        its issuer, our audience and our service account, whose email address is verified. Raises
        `TokenRefusedError`, which says what is wrong and nothing of the token.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > _LONGEST:
            raise TokenRefusedError("there is no bearer token")
        head = _head(token)
        if head.get("alg") != "RS256":
            raise TokenRefusedError("it is not signed by RS256")
        kid = head.get("kid")
        if not isinstance(kid, str):
            raise TokenRefusedError("it names no key")
        self._check(self._claims(token, kid))

    def _claims(self, token: str, kid: str) -> Mapping[str, Any]:
        from google.auth import jwt

        decode: Callable[..., Mapping[str, Any]] = jwt.decode
        certificate = self._certificates.get(kid)
        try:
            return decode(
                token,
                certs={kid: certificate},
                audience=self._audience,
                clock_skew_in_seconds=_SKEW,
            )
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise TokenRefusedError(
                "its signature, its audience or its time is not right"
            ) from error

    def _check(self, claims: Mapping[str, Any]) -> None:
        if claims.get("iss") not in ISSUERS:
            raise TokenRefusedError("its issuer is not Google")
        if claims.get("email") != self._email or claims.get("email_verified") is not True:
            raise TokenRefusedError(
                "it is not of the service account that TASKQUEUE_CLOUDTASKS_SERVICE_ACCOUNT names"
            )
        begins = claims.get("nbf", 0)
        if not isinstance(begins, int | float) or begins > time.time() + _SKEW:
            raise TokenRefusedError("it is not valid yet")


def _head(token: str) -> Mapping[str, Any]:
    part = token.partition(".")[0]
    try:
        head = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        head = None
    if not isinstance(head, dict):
        raise TokenRefusedError("it is malformed")
    return head
