"""Signatures of deliveries, after the Standard Webhooks specification 1.0.0.

The specification signs ``id.timestamp.body`` with HMAC-SHA256. The key of a delivery to the app's
own routes binds it to more: it is derived from the secret and from method, path, queue and attempt,
so that a captured delivery fits no other route and no other attempt. Each other host has its own
key, so that the key it is given signs nothing that another host accepts. Keys are derived per
purpose (HKDF, RFC 5869); the secret itself never signs anything.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping, Sequence

from ..urls import named_receiver

HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
TOLERANCE = 300
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)
_MOST_SIGNATURES = 8


def derive(secret: str | bytes, purpose: str) -> bytes:
    """Return a 32-byte key for one purpose (HKDF with SHA-256)."""
    material = secret.encode() if isinstance(secret, str) else secret
    extracted = hmac.digest(b"flask-taskqueue", material, "sha256")
    return hmac.digest(extracted, purpose.encode() + b"\x01", "sha256")


def webhook_keys(secrets: Iterable[str | bytes]) -> list[bytes]:
    """Return the keys from which the keys of other hosts are derived, newest first.

    No host is given one of these.
    """
    return [derive(secret, "flask-taskqueue/webhook/v2") for secret in secrets]


def receiver_keys(keys: Iterable[bytes], receiver: str) -> list[bytes]:
    """Return the keys that sign deliveries to one host and port, newest first."""
    return [hmac.digest(key, receiver.encode(), "sha256") for key in keys]


def route_keys(secrets: Iterable[str | bytes]) -> list[bytes]:
    """Return the keys from which those of the app's own routes are derived, newest first."""
    return [derive(secret, "flask-taskqueue/route/v1") for secret in secrets]


def verdict_keys(secrets: Iterable[str | bytes]) -> list[bytes]:
    """Return the keys that sign the verdicts of the app's own routes, newest first."""
    return [derive(secret, "flask-taskqueue/verdict/v1") for secret in secrets]


def fingerprints(secrets: Iterable[str | bytes]) -> tuple[str, ...]:
    """Return values that identify secrets in the tables without revealing them, newest first."""
    return tuple(derive(secret, "flask-taskqueue/owner/v1").hex()[:32] for secret in secrets)


def attempt_keys(
    keys: Iterable[bytes], method: str, path: str, queue: str, attempt: int, host: str = ""
) -> list[bytes]:
    """Return the keys of one route, queue and attempt.

    ``host`` is where the route is, if the app has a target there.
    """
    words = "\n".join((method, path, queue, str(attempt), *([host] if host else ()))).encode()
    return [hmac.digest(key, words, "sha256") for key in keys]


def webhook_secret(keys: Sequence[bytes], target: str) -> str:
    """Return the newest secret of one receiver.

    ``target`` is the URL at which the receiver is called, or its host and port. Raises
    `InvalidUrlError` for anything else.
    """
    return whsec(receiver_keys(keys, named_receiver(target))[0])


def whsec(key: bytes) -> str:
    """Return a key in the form that receivers are given (``whsec_`` and base64)."""
    return "whsec_" + b64encode(key).decode()


def sign(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of ``webhook-signature``: one ``v1`` signature per key, newest first."""
    signed = b"%s.%d." % (message_id.encode("ascii"), timestamp) + body
    return " ".join("v1," + b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)


def fresh_message_id(headers: Mapping[str, str], now: float) -> str | None:
    """Return the message id, if the headers carry a well-formed, fresh set of signature headers.

    This does not check the signature itself; it lets the app refuse a stranger before reading a
    body. ``now`` is in seconds since 1970; five minutes either way are tolerated.
    """
    message_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not _ID.fullmatch(message_id) or not _TIMESTAMP.fullmatch(timestamp):
        return None
    if abs(now - int(timestamp)) > TOLERANCE or not headers.get("webhook-signature"):
        return None
    return message_id


def verify(keys: Sequence[bytes], headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Return whether one of the signatures was made with one of the keys.

    Malformed input is False, never an error.
    """
    message_id = fresh_message_id(headers, now)
    if message_id is None:
        return False
    return matches(
        keys, message_id, int(headers["webhook-timestamp"]), body, headers["webhook-signature"]
    )


def matches(
    keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes, given: str
) -> bool:
    """Return whether one of the ``given`` signatures, as `sign` writes them, is by one of the keys.

    Malformed input is False.
    """
    expected = [
        _decode(signature) for signature in sign(keys, message_id, timestamp, body).split(" ")
    ]
    found = False
    for mac in map(_decode, given.split(" ")[:_MOST_SIGNATURES]):
        for wanted in expected:
            found |= bool(mac) and hmac.compare_digest(mac, wanted)
    return found


def _decode(signature: str) -> bytes:
    version, _, encoded = signature.partition(",")
    if version != "v1":
        return b""
    try:
        return b64decode(encoded.encode("ascii"), validate=True)
    except (Base64Error, UnicodeEncodeError):
        return b""
