"""Signatures of webhooks, by the schemes of their senders."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from flask_taskqueue import ConfigurationError
from flask_taskqueue.core.security.webhooks import (
    SCHEMES,
    TOLERANCE,
    Event,
    Refusal,
    check_scheme,
    event_name,
    keys_of,
)

NOW = 1_531_420_700
SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes or").decode()
OTHER = "whsec_" + base64.b64encode(b"another one, as long as").decode()
BODY = b'{"id": "evt_1", "event_id": "Ev1", "type": "event_callback"}'
Headers = dict[str, str]


def mac(secret: str, signed: bytes) -> str:
    """An HMAC in hexadecimal, with the standard library's other interface."""
    return hmac.new(secret.encode(), signed, "sha256").hexdigest()


def standard(secret: str, body: bytes, at: int) -> Headers:
    """The headers that the official package makes."""
    signature = Webhook(secret).sign("msg_1", datetime.fromtimestamp(at, UTC), body.decode())
    return {"webhook-id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": signature}


def stripe(secret: str, body: bytes, at: int) -> Headers:
    """As https://docs.stripe.com/webhooks#verify-manually says, with a signature of mode v0."""
    right = mac(secret, f"{at}.".encode() + body)
    return {"stripe-signature": f"t={at},v0={'0' * 64},v1={right}"}


def github(secret: str, body: bytes, at: int) -> Headers:
    """As https://docs.github.com/webhooks says, which signs no time."""
    return {
        "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "x-github-event": "push",
        "x-hub-signature-256": f"sha256={mac(secret, body)}",
    }


def slack(secret: str, body: bytes, at: int) -> Headers:
    """As https://docs.slack.dev/authentication/verifying-requests-from-slack says."""
    return {
        "x-slack-request-timestamp": str(at),
        "x-slack-signature": "v0=" + mac(secret, f"v0:{at}:".encode() + body),
    }


@dataclass(frozen=True)
class Sender:
    """What a sender's request has: headers, the id, and which headers are the proof."""

    sign: Callable[[str, bytes, int], Headers]
    id: str
    signature: str
    timestamp: str | None


SENDERS = {
    "standard": Sender(standard, "msg_1", "webhook-signature", "webhook-timestamp"),
    "stripe": Sender(stripe, "evt_1", "stripe-signature", None),
    "github": Sender(github, "72d3162e-cc78-11e3-81ab-4c9367dc0958", "x-hub-signature-256", None),
    "slack": Sender(slack, "Ev1", "x-slack-signature", "x-slack-request-timestamp"),
}


def verify(
    name: str,
    headers: Mapping[str, str],
    body: bytes = BODY,
    secrets: Sequence[str] = (SECRET,),
    now: float = NOW,
) -> Event:
    """The event of a request."""
    scheme = SCHEMES[name]
    return scheme.verify(headers, body, keys_of(scheme, secrets, "webhook 'test'"), now)


@pytest.mark.parametrize("name", SENDERS)
def test_a_genuine_request_tells_its_event(name: str) -> None:
    """By the id that stays the same when the sender repeats it."""
    sender = SENDERS[name]
    for at in (NOW, NOW - TOLERANCE, NOW + TOLERANCE):
        assert verify(name, sender.sign(SECRET, BODY, at)) == Event(sender.id)


@pytest.mark.parametrize("name", SENDERS)
def test_another_body_or_secret_is_refused(name: str) -> None:
    """The sentence holds neither the secret nor the signature that would fit."""
    sender = SENDERS[name]
    genuine = sender.sign(SECRET, BODY, NOW)
    for headers, body in (
        (genuine, BODY + b" "),
        (sender.sign(OTHER, BODY, NOW), BODY),
        ({**genuine, sender.signature: genuine[sender.signature][:-8]}, BODY),
        ({**genuine, sender.signature: "v1,é v1, sha256=é"}, BODY),
    ):
        with pytest.raises(Refusal) as refused:
            verify(name, headers, body)
        told = str(refused.value)
        assert SECRET not in told
        assert genuine[sender.signature][-40:] not in told


@pytest.mark.parametrize("name", SENDERS)
def test_each_header_is_needed(name: str) -> None:
    """The sentence names the one that is missing."""
    headers = SENDERS[name].sign(SECRET, BODY, NOW)
    for missing in headers.keys() - {"x-github-event"}:
        rest = {key: value for key, value in headers.items() if key != missing}
        with pytest.raises(Refusal, match=missing):
            verify(name, rest)


@pytest.mark.parametrize("name", ["standard", "stripe", "slack"])
@pytest.mark.parametrize("late", [-TOLERANCE - 1, TOLERANCE + 1, -86_400])
def test_an_outdated_request_is_refused(name: str, late: int) -> None:
    """Though its signature is right; five minutes either way are tolerated."""
    with pytest.raises(Refusal, match="300 seconds"):
        verify(name, SENDERS[name].sign(SECRET, BODY, NOW + late))


@pytest.mark.parametrize("name", SENDERS)
def test_while_secrets_rotate_either_is_good(name: str) -> None:
    """And no longer when the old one is taken away."""
    old = SENDERS[name].sign(OTHER, BODY, NOW)
    assert verify(name, old, secrets=[SECRET, OTHER]).id == SENDERS[name].id
    with pytest.raises(Refusal):
        verify(name, old, secrets=[SECRET])


def test_a_sender_that_rotates_signs_with_both() -> None:
    """Standard Webhooks and Stripe send several signatures then."""
    one, two = standard(OTHER, BODY, NOW), standard(SECRET, BODY, NOW)
    both = f"{one['webhook-signature']} {two['webhook-signature']}"
    assert verify("standard", {**one, "webhook-signature": both}).id == "msg_1"
    wrong, right = (stripe(one, BODY, NOW)["stripe-signature"] for one in (OTHER, SECRET))
    joined = f"{wrong},{right.partition(',')[2]}"
    assert verify("stripe", {"stripe-signature": joined}).id == "evt_1"


def test_the_example_in_githubs_documentation_fits() -> None:
    """With its secret, its payload and its signature."""
    headers = {
        "x-github-delivery": "1",
        "x-hub-signature-256": "sha256="
        "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
    }
    found = verify("github", headers, b"Hello, World!", ["It's a Secret to Everybody"])
    assert found == Event("1")


def test_the_example_in_slacks_documentation_fits() -> None:
    """A command, which has no event_id: it is known by what was signed."""
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
        b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
        b"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands"
        b"%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "x-slack-request-timestamp": "1531420618",
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    found = verify("slack", headers, body, ["8f742231b10e8888abcd99yyyzzz85a5"])
    assert len(found.id) == 64
    assert found.challenge is None


def test_the_challenge_of_slack_is_sent_back_if_it_is_signed() -> None:
    """It brings no event."""
    body = json.dumps({"type": "url_verification", "challenge": "3eZbrw1aB"}).encode()
    assert verify("slack", slack(SECRET, body, NOW), body).challenge == "3eZbrw1aB"
    with pytest.raises(Refusal):
        verify("slack", slack(OTHER, body, NOW), body)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"id": 7}', b'{"id": ""}', b'{"id": "\\u00e9"}'])
def test_an_event_of_stripe_without_an_id_is_refused(body: bytes) -> None:
    """Nobody could tell it from a repeated one."""
    with pytest.raises(Refusal, match="id of the event"):
        verify("stripe", stripe(SECRET, body, NOW), body)


def test_an_id_with_a_full_stop_is_refused() -> None:
    """It could pass for a shorter id with another time and body: all are joined by full stops."""
    signature = Webhook(SECRET).sign("msg_1", datetime.fromtimestamp(NOW, UTC), f"{NOW}.{{}}")
    shifted = {
        "webhook-id": f"msg_1.{NOW}",
        "webhook-timestamp": str(NOW),
        "webhook-signature": signature,
    }
    with pytest.raises(Refusal, match="full stop"):
        verify("standard", shifted, b"{}")


@given(
    st.sampled_from(sorted(SENDERS)),
    st.dictionaries(
        st.sampled_from(
            [key for value in SENDERS.values() for key in value.sign(SECRET, BODY, NOW)]
        ),
        st.text(max_size=200)
        | st.sampled_from([str(NOW), f"t={NOW},v1=", "sha256=", "v0=", "v1,", "v1,AAAA"]),
    ),
    st.binary(max_size=200) | st.just(b"[" * 100_000),
)
def test_whatever_arrives_is_refused_in_a_sentence(
    name: str, headers: dict[str, str], body: bytes
) -> None:
    """Nothing else is raised, and nothing unsigned passes."""
    with pytest.raises(Refusal) as refused:
        verify(name, headers, body)
    assert str(refused.value)


@pytest.mark.parametrize(
    "secret", [None, "", b"", [], [""], [SECRET, None], 7, object(), {}, {"shop": SECRET}]
)
def test_a_secret_that_is_none_is_an_error(secret: Any) -> None:
    """Nothing is verified with an empty key."""
    for scheme in SCHEMES.values():
        with pytest.raises(ConfigurationError, match="webhook 'test' has a secret that is"):
            keys_of(scheme, secret, "webhook 'test'")


@pytest.mark.parametrize("secret", ["whsec_", "whsec_é", "whsec_not base64", "a plain text!"])
def test_a_secret_of_another_scheme_is_an_error(secret: str) -> None:
    """It is not shown."""
    with pytest.raises(ConfigurationError) as refused:
        keys_of(SCHEMES["standard"], secret, "webhook 'test'")
    assert secret not in str(refused.value)


@pytest.mark.parametrize("name", ["Stripe", "", None, 1])
def test_an_unknown_scheme_is_an_error(name: Any) -> None:
    """The message lists those there are."""
    with pytest.raises(ConfigurationError, match="standard, stripe, github, slack"):
        check_scheme(name)


def test_the_names_of_tasks_differ_by_webhook_and_id() -> None:
    """And are the same each time."""
    names = {event_name(endpoint, id) for endpoint in ("a", "b") for id in ("1", "2", "b\n1")}
    assert len(names) == 6
    assert event_name("a", "1") in names
