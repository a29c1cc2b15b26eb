"""Webhooks of other senders: the proof that each scheme asks for, and the event it names."""

from __future__ import annotations

import hmac
import json
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from ..delivery import signatures
from ..errors import ConfigurationError, shown
from ..names import WEBHOOK

TOLERANCE = signatures.TOLERANCE
"""The seconds that a timestamp may be from this machine's clock, either way."""

_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)
_ID = re.compile(r"[\x21-\x7e]{1,256}", re.ASCII)
_MOST_SIGNATURES = 8


class Refusal(ValueError):
    """A request that proves nothing; the text, which tells no secret, says what it lacks."""


@dataclass(frozen=True, slots=True)
class Event:
    """The event that a genuine request brings.

    ``id`` is the same however often the sender repeats the event. ``challenge`` is the text that a
    sender's handshake wants back; such a request brings no event.
    """

    id: str
    challenge: str | None = None


Verify = Callable[[Mapping[str, str], bytes, Sequence[bytes], float], Event]
"""A function of lower-case headers, raw body, keys and now (seconds since 1970).

It returns the event, or raises `Refusal`.
"""


@dataclass(frozen=True, slots=True)
class Scheme:
    """The way in which a sender signs; ``kept`` are the headers that the handler gets as well."""

    name: str
    verify: Verify
    key: Callable[[str | bytes], bytes]
    kept: frozenset[str] = frozenset()


def standard(headers: Mapping[str, str], body: bytes, keys: Sequence[bytes], now: float) -> Event:
    """Verify a request by Standard Webhooks 1.0.0, with symmetric (``v1``) signatures.

    The id may have no full stop, which separates it from the timestamp in what is signed.
    """
    event_id = _id(_needed(headers, "webhook-id"), "webhook-id")
    if "." in event_id:
        raise Refusal("webhook-id has a full stop, which Standard Webhooks does not allow")
    timestamp = _fresh(_needed(headers, "webhook-timestamp"), "webhook-timestamp", now)
    given = _needed(headers, "webhook-signature")
    if not signatures.matches(keys, event_id, int(timestamp), body, given):
        raise _unsigned("webhook-signature")
    return Event(event_id)


def stripe(headers: Mapping[str, str], body: bytes, keys: Sequence[bytes], now: float) -> Event:
    """Verify an event of Stripe: ``Stripe-Signature: t=…,v1=…``; the event's id is in its body."""
    parts = [
        part.strip().partition("=")[::2] for part in _needed(headers, "stripe-signature").split(",")
    ]
    times = [value for name, value in parts if name == "t"]
    if len(times) != 1:
        raise Refusal("Stripe-Signature must have one timestamp, t=…")
    timestamp = _fresh(times[0], "the timestamp of Stripe-Signature", now)
    signed = timestamp.encode() + b"." + body
    _check([value for name, value in parts if name == "v1"], keys, signed, "Stripe-Signature")
    return Event(_id(_field(body, "id"), "the id of the event"))


def github(headers: Mapping[str, str], body: bytes, keys: Sequence[bytes], now: float) -> Event:
    """Verify a delivery of GitHub: ``X-Hub-Signature-256: sha256=…``.

    GitHub signs the body only. ``X-GitHub-Delivery``, the id, and the time are not signed, so
    whoever has got hold of a signed delivery can send it with another id.
    """
    event_id = _id(_needed(headers, "x-github-delivery"), "X-GitHub-Delivery")
    scheme, _, given = _needed(headers, "x-hub-signature-256").partition("=")
    if scheme != "sha256":
        raise Refusal("X-Hub-Signature-256 must begin with sha256=")
    _check([given], keys, body, "X-Hub-Signature-256")
    return Event(event_id)


def slack(headers: Mapping[str, str], body: bytes, keys: Sequence[bytes], now: float) -> Event:
    """Verify a request of Slack: ``X-Slack-Signature: v0=…`` by ``X-Slack-Request-Timestamp``.

    The id is the ``event_id`` of the Events API; anything else is known by what was signed, which
    includes the time. The challenge of ``url_verification`` is to be sent back.
    """
    timestamp = _fresh(
        _needed(headers, "x-slack-request-timestamp"), "X-Slack-Request-Timestamp", now
    )
    version, _, given = _needed(headers, "x-slack-signature").partition("=")
    if version != "v0":
        raise Refusal("X-Slack-Signature must begin with v0=")
    signed = b"v0:" + timestamp.encode() + b":" + body
    _check([given], keys, signed, "X-Slack-Signature")
    if _field(body, "type") == "url_verification" and (challenge := _field(body, "challenge")):
        return Event("", challenge)
    event_id = _field(body, "event_id")
    return Event(_id(event_id, "event_id") if event_id else sha256(signed).hexdigest())


def standard_key(secret: str | bytes) -> bytes:
    """Return the key of a secret of Standard Webhooks: ``whsec_`` and base64, or the bytes.

    Raises `ConfigurationError` for any other text, without showing it.
    """
    if isinstance(secret, bytes):
        return secret
    try:
        return b64decode(secret.removeprefix("whsec_").encode("ascii"), validate=True)
    except (Base64Error, UnicodeEncodeError) as error:
        raise ConfigurationError(
            "a secret of Standard Webhooks is 'whsec_' followed by base64, and one that was given "
            "is something else: copy it from the sender, or name the scheme that it is for"
        ) from error


def plain_key(secret: str | bytes) -> bytes:
    """Return the key of a secret that is used as it is written."""
    return secret.encode() if isinstance(secret, str) else secret


SCHEMES: Mapping[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("standard", standard, standard_key),
        Scheme("stripe", stripe, plain_key),
        Scheme(
            "github",
            github,
            plain_key,
            frozenset(
                {
                    "x-github-event",
                    "x-github-delivery",
                    "x-github-hook-id",
                    "x-github-hook-installation-target-id",
                    "x-github-hook-installation-target-type",
                }
            ),
        ),
        Scheme("slack", slack, plain_key, frozenset({"x-slack-retry-num", "x-slack-retry-reason"})),
    )
}


def check_scheme(name: object) -> Scheme:
    """Return the scheme of this name. Raises `ConfigurationError` for one that is unknown."""
    if not isinstance(name, str) or name not in SCHEMES:
        raise ConfigurationError(
            f"there is no webhook scheme {shown(name)}; it must be one of {', '.join(SCHEMES)}"
        )
    return SCHEMES[name]


def keys_of(scheme: Scheme, given: object, place: str) -> tuple[bytes, ...]:
    """Return the keys of a secret, or of several.

    Raises `ConfigurationError` for anything else, and for an empty one; ``place`` is whose they
    are.
    """
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        given = (given,)
    keys = tuple(_key(scheme, secret, place) for secret in given)
    return keys or (_key(scheme, None, place),)


def _key(scheme: Scheme, secret: object, place: str) -> bytes:
    if isinstance(secret, str | bytes) and secret and (key := scheme.key(secret)):
        return key
    found = "empty" if isinstance(secret, str | bytes) else f"of type {type(secret).__name__}"
    raise ConfigurationError(
        f"{place} has a secret that is {found}: give secret= the text that the sender shows, "
        "several of them while one replaces another, or a function that returns them when a "
        "request comes"
    )


def event_name(endpoint: str, event_id: str) -> str:
    """Return the name of the task of an event, which no other event of the webhook has."""
    return WEBHOOK + sha256(f"{endpoint}\n{event_id}".encode()).hexdigest()


def _needed(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value:
        raise Refusal(f"the header {name} is missing")
    return value


def _fresh(timestamp: str, what: str, now: float) -> str:
    if not _TIMESTAMP.fullmatch(timestamp):
        raise Refusal(f"{what} is not a number of seconds")
    if abs(now - int(timestamp)) > TOLERANCE:
        raise Refusal(f"{what} is more than {TOLERANCE} seconds from this server's clock")
    return timestamp


def _check(given: Sequence[str], keys: Sequence[bytes], signed: bytes, header: str) -> None:
    """Check that one of the hexadecimal signatures was made with one of the keys."""
    found = False
    for key in keys:
        wanted = hmac.digest(key, signed, "sha256").hex().encode()
        for signature in given[:_MOST_SIGNATURES]:
            found |= hmac.compare_digest(signature.encode("utf-8", "replace"), wanted)
    if not found:
        raise _unsigned(header)


def _unsigned(header: str) -> Refusal:
    return Refusal(
        f"no signature in {header} was made for this body with the secret of this webhook"
    )


def _id(value: str, what: str) -> str:
    if not _ID.fullmatch(value):
        raise Refusal(f"{what} must be 1 to 256 printable ASCII characters")
    return value


def _field(body: bytes, name: str) -> str:
    """Return a text in the JSON object that is the body, or "" if there is none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    value = document.get(name) if isinstance(document, dict) else None
    return value if isinstance(value, str) else ""
