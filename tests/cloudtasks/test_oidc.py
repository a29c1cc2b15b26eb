"""OpenID Connect tokens of deliveries, as receivers verify them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from flask import Flask, request
from google.auth.transport.requests import Request
from google.oauth2 import id_token

from flask_taskqueue import ConfigurationError, TaskQueue
from flask_taskqueue.engine import oidc_tokens
from flask_taskqueue.engine.oidc_tokens import OidcTokens
from tests.apps import served
from tests.cloudtasks.doors import BASE, QUEUE, door
from tests.databases import TestDatabase
from tests.receivers import receiver

ACCOUNT = "tasks@guests.iam.gserviceaccount.com"


def pem(key: Any, password: bytes | None = None) -> str:
    """A private key as a text."""
    encryption = (
        serialization.NoEncryption()
        if password is None
        else serialization.BestAvailableEncryption(password)
    )
    form = serialization.PrivateFormat.PKCS8
    return str(key.private_bytes(serialization.Encoding.PEM, form, encryption).decode())


KEY = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
PEM = pem(KEY)


def asking(url: str, audience: str | None = None, **headers: str) -> dict[str, Any]:
    """A task whose deliveries are to carry a token."""
    token = {
        "service_account_email": ACCOUNT,
        **({} if audience is None else {"audience": audience}),
    }
    return {"http_request": {"url": url, "oidc_token": token, "headers": headers}}


@pytest.mark.slow
def test_googles_own_library_accepts_a_token(sqlite_database: TestDatabase) -> None:
    """With the keys that the app publishes; the audience is the URL unless another is given."""
    with (
        receiver() as other,
        door(
            "channel",
            sqlite_database.url,
            TASKQUEUE_OIDC_KEY=PEM,
            TASKQUEUE_ALLOWED_HOSTS=["127.0.0.1"],
        ) as one,
        served(one.bench.app) as url,
    ):
        hook = f"{other.url}/hook?a=1"
        shown = one.client.create_task(parent=QUEUE, task=asking(hook, authorization="mine"))
        one.client.create_task(parent=QUEUE, task=asking(hook, "guests"))
        one.bench.tasks.drain()
        assert shown.http_request.oidc_token.audience == hook
        assert shown.http_request.oidc_token.service_account_email == ACCOUNT
        found = []
        for headers, _ in other.got:
            scheme, _, token = headers["authorization"].partition(" ")
            assert scheme == "Bearer"
            claims = id_token.verify_token(
                token,
                Request(),
                audience=[hook, "guests"],
                certs_url=f"{url}/.well-known/jwks.json",
            )
            found.append(claims["aud"])
            assert (claims["email"], claims["email_verified"]) == (ACCOUNT, True)
            assert (claims["iss"], claims["sub"]) == (BASE, ACCOUNT)
            assert 3500 < claims["exp"] - time.time() <= 3600
        assert sorted(found) == sorted([hook, "guests"])


def test_the_apps_own_routes_get_one_too(sqlite_database: TestDatabase) -> None:
    """For code that goes on verifying it."""
    seen: list[str] = []
    with door("channel", sqlite_database.url, TASKQUEUE_OIDC_KEY=[PEM]) as one:
        one.bench.tasks.worker("/worker")(lambda: seen.append(request.headers["Authorization"]))
        one.client.create_task(parent=QUEUE, task=asking(f"{BASE}/worker"))
        one.bench.tasks.drain()
    (header,) = seen
    claims = jwt.decode(
        header.removeprefix("Bearer "),
        KEY.public_key(),
        algorithms=["RS256"],
        audience=f"{BASE}/worker",
    )
    assert claims["email"] == ACCOUNT


def test_without_a_key_nothing_is_sent(sqlite_database: TestDatabase) -> None:
    """And a task that asks for no token has none, with a key."""
    seen: list[str | None] = []
    for settings in ({}, {"TASKQUEUE_OIDC_KEY": PEM}):
        with door("channel", sqlite_database.url, **settings) as one:
            one.bench.tasks.worker("/worker")(
                lambda: seen.append(request.headers.get("Authorization"))
            )
            if settings:
                one.add()
            else:
                one.client.create_task(parent=QUEUE, task=asking(f"{BASE}/worker"))
                client = one.bench.app.test_client()
                assert client.get("/.well-known/jwks.json").status_code == 404
            one.bench.tasks.drain()
    assert seen == [None, None]


def test_all_keys_are_published_and_the_newest_signs(sqlite_database: TestDatabase) -> None:
    """So that a new key can take over while tokens of the old one are under way."""
    with door("channel", sqlite_database.url, TASKQUEUE_OIDC_KEY=[pem(OTHER), PEM]) as one:
        client = one.bench.app.test_client()
        configuration = client.get("/.well-known/openid-configuration").json
        reply = client.get("/.well-known/jwks.json")
        assert reply.headers["Cache-Control"] == "public, max-age=300"
        keys = reply.json
        assert PEM not in repr(one.bench.runtime.settings)
        assert configuration is not None
        assert keys is not None
        assert configuration["issuer"] == BASE
        assert configuration["jwks_uri"] == f"{BASE}/.well-known/jwks.json"
        newest, _ = (jwt.PyJWK(key) for key in keys["keys"])
        assert not {"d", "p", "q"} & keys["keys"][0].keys()
        tokens = one.bench.runtime.keys.oidc
        assert tokens is not None
        token = tokens.token("a", "b")
        assert jwt.get_unverified_header(token)["kid"] == newest.key_id
        jwt.decode(token, newest, algorithms=["RS256"], audience="b")


def test_a_token_is_kept_until_half_of_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each account and audience."""
    now = [1_800_000_000.0]
    monkeypatch.setattr(oidc_tokens.time, "time", lambda: now[0])
    tokens = OidcTokens([PEM], BASE)
    first = tokens.token("a", "b")
    now[0] += 1799
    assert tokens.token("a", "b") == first
    assert tokens.token("a", "c") != first != tokens.token("c", "b")
    now[0] += 2
    assert tokens.token("a", "b") != first


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("secret", "in PEM"),
        ([], "in PEM"),
        ([1], "in PEM"),
        ("-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n", "cannot be read"),
        (pem(KEY, b"password"), "cannot be read"),
        (pem(rsa.generate_private_key(65537, 1024)), "2048 bits"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "RSA key"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused(
    make: Callable[..., Flask], key: Any, said: str
) -> None:
    """When the app is set up, without showing it."""
    with pytest.raises(ConfigurationError, match=said) as raised:
        TaskQueue(make(TASKQUEUE_OIDC_KEY=key, TASKQUEUE_BASE_URL=BASE))
    assert "MII" not in str(raised.value)


def test_a_key_needs_an_address(make: Callable[..., Flask]) -> None:
    """At which receivers find its public part."""
    with pytest.raises(ConfigurationError, match="TASKQUEUE_BASE_URL"):
        TaskQueue(make(TASKQUEUE_OIDC_KEY=PEM))
