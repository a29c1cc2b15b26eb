"""Signatures of deliveries."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from flask_taskqueue.core.delivery.signatures import (
    TOLERANCE,
    attempt_keys,
    derive,
    fresh_message_id,
    route_keys,
    sign,
    verify,
    webhook_keys,
    whsec,
)

NOW = int(datetime.now(UTC).timestamp())
KEY = derive("secret", "test")
OLD = derive("old secret", "test")


def headers(
    keys: list[bytes], body: bytes, *, at: int = NOW, task: str = "task-1"
) -> dict[str, str]:
    """The headers of a delivery."""
    return {
        "webhook-id": task,
        "webhook-timestamp": str(at),
        "webhook-signature": sign(keys, task, at, body),
    }


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_standard_package_accepts_ours_and_we_accept_its(body: str) -> None:
    """In both directions, for any text."""
    now = int(datetime.now(UTC).timestamp())
    Webhook(whsec(KEY)).verify(body, headers([KEY], body.encode(), at=now), json_parse=False)
    theirs = Webhook(whsec(KEY)).sign("task-1", datetime.fromtimestamp(NOW, UTC), body)
    assert verify(
        [KEY],
        {"webhook-id": "task-1", "webhook-timestamp": str(NOW), "webhook-signature": theirs},
        body.encode(),
        NOW,
    )


def test_a_body_that_is_no_text_is_signed_too() -> None:
    """A payload may be any bytes."""
    body = bytes(range(256))
    assert verify([KEY], headers([KEY], body), body, NOW)


def test_rotation_signs_with_both_and_accepts_either() -> None:
    """While a key changes, receivers with the old one and with the new one accept."""
    signed = headers([KEY, OLD], b"x")
    assert verify([OLD], signed, b"x", NOW)
    assert verify([KEY], signed, b"x", NOW)
    assert verify([KEY, OLD], headers([OLD], b"x"), b"x", NOW)
    assert not verify([KEY], headers([OLD], b"x"), b"x", NOW)


@pytest.mark.parametrize(
    ("at", "fresh"),
    [(-TOLERANCE, True), (TOLERANCE, True), (-TOLERANCE - 1, False), (TOLERANCE + 1, False)],
)
def test_a_signature_is_good_for_five_minutes(at: int, fresh: bool) -> None:
    """Either way, for clocks differ."""
    assert verify([KEY], headers([KEY], b"x", at=NOW + at), b"x", NOW) is fresh


@pytest.mark.parametrize("host", ["", "b.example", "a.example:8000"])
def test_a_signature_for_a_target_fits_no_other_host(host: str) -> None:
    """Nor the application itself."""
    signed = headers(attempt_keys([KEY], "POST", "/a", "q", 1, "a.example"), b"x")
    assert verify(attempt_keys([KEY], "POST", "/a", "q", 1, "a.example"), signed, b"x", NOW)
    assert not verify(attempt_keys([KEY], "POST", "/a", "q", 1, host), signed, b"x", NOW)


@pytest.mark.parametrize(
    "changed",
    [("GET", "/a", "q", 1), ("POST", "/b", "q", 1), ("POST", "/a", "r", 1), ("POST", "/a", "q", 2)],
)
def test_a_bound_signature_fits_nothing_else(changed: tuple[str, str, str, int]) -> None:
    """Another method, path, queue or attempt has another key."""
    signed = headers(attempt_keys([KEY], "POST", "/a", "q", 1), b"x")
    assert verify(attempt_keys([KEY], "POST", "/a", "q", 1), signed, b"x", NOW)
    assert not verify(attempt_keys([KEY], *changed), signed, b"x", NOW)


def test_keys_are_derived_per_purpose() -> None:
    """The secret itself signs nothing, and no key is another's."""
    assert len({KEY, *route_keys(["secret"]), *webhook_keys(["secret"]), b"secret"}) == 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-id", "a.1"),
        ("webhook-id", ""),
        ("webhook-timestamp", "1.9"),
        ("webhook-timestamp", "-5"),
        ("webhook-timestamp", "١٢٣"),
        ("webhook-timestamp", "9" * 40),
        ("webhook-signature", ""),
        ("webhook-signature", "v1"),
        ("webhook-signature", "v1,é"),
        ("webhook-signature", "v1,!!!"),
        ("webhook-signature", "v2," + base64.b64encode(b"x" * 32).decode()),
    ],
)
def test_malformed_headers_are_refused_without_an_error(name: str, value: str) -> None:
    """They are False, whatever is in them."""
    assert not verify([KEY], headers([KEY], b"x") | {name: value}, b"x", NOW)


@given(
    st.dictionaries(
        st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), st.text()
    ),
    st.binary(),
)
def test_no_header_raises(hostile: dict[str, str], body: bytes) -> None:
    """Any texts at all: refused, never an error."""
    assert not verify([KEY], hostile, body, NOW)
    fresh_message_id(hostile, NOW)
