"""Whom the app believes that a delivery comes from Cloud Tasks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_taskqueue.web.oidc import Certificates, TokenRefusedError
from tests.apps import Bench, bench, served
from tests.cloud import ACCOUNT, BASE, Cloud, Signer
from tests.databases import TestDatabase
from tests.forwarding.conftest import add_workers
from tests.forwarding.test_deliveries import add_and_forward


@pytest.fixture
def app(sqlite_database: TestDatabase, cloud: Cloud) -> Iterator[Bench]:
    """An app that Cloud Tasks reaches."""
    with bench(sqlite_database.url, **cloud.settings()) as one:
        add_workers(one)
        with served(one.app) as cloud.app_url:
            yield one


def part(value: Any) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def unsigned(cloud: Cloud) -> str:
    """A token with the algorithm none."""
    claims = cloud.signer.token().split(".")[1]
    return f"{part({'alg': 'none', 'typ': 'JWT', 'kid': cloud.signer.kid})}.{claims}."


def by_shared_secret(cloud: Cloud) -> str:
    """A token that is signed by HS256 with the certificate as the secret."""
    claims = cloud.signer.token().split(".")[1]
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': cloud.signer.kid})}.{claims}"
    digest = hmac.digest(cloud.signer.certificate.encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def changed(cloud: Cloud) -> str:
    """A genuine token whose claims were changed afterwards."""
    head, claims, signature = cloud.signer.token().split(".")
    found = json.loads(base64.urlsafe_b64decode(claims + "=="))
    return f"{head}.{part(found | {'exp': found['exp'] + 60})}.{signature}"


REFUSED: dict[str, Callable[[Cloud], str]] = {
    "none at all": lambda cloud: "",
    "no token": lambda cloud: "no.token",
    "not JSON": lambda cloud: "e30.e30.e30",
    "a list": lambda cloud: f"{part([1])}.{part([1])}.e30",
    "very long": lambda cloud: "a" * 20_000,
    "unsigned": unsigned,
    "signed by a secret": by_shared_secret,
    "changed": changed,
    "another audience": lambda cloud: cloud.signer.token(aud="https://guests.example.com"),
    "no audience": lambda cloud: cloud.signer.token(aud=None),
    "another issuer": lambda cloud: cloud.signer.token(iss="https://accounts.example.com"),
    "another account": lambda cloud: cloud.signer.token(email="x@guests.iam.gserviceaccount.com"),
    "no account": lambda cloud: cloud.signer.token(email=None),
    "an account not verified": lambda cloud: cloud.signer.token(email_verified=False),
    "verified by a word": lambda cloud: cloud.signer.token(email_verified="true"),
    "expired": lambda cloud: cloud.signer.token(
        iat=int(time.time()) - 7200, exp=int(time.time()) - 3600
    ),
    "no expiry": lambda cloud: cloud.signer.token(exp=None),
    "issued later": lambda cloud: cloud.signer.token(iat=int(time.time()) + 3600),
    "not valid yet": lambda cloud: cloud.signer.token(nbf=int(time.time()) + 3600),
    "times that are words": lambda cloud: cloud.signer.token(exp="tomorrow"),
    "a key of somebody else, by our key's name": lambda cloud: Signer(cloud.signer.kid).token(),
    "a key that nobody knows": lambda cloud: Signer("other").token(),
}


@pytest.mark.slow
@pytest.mark.parametrize("forged", REFUSED.values(), ids=REFUSED)
def test_what_is_not_proven_is_refused_and_runs_nothing(
    app: Bench, cloud: Cloud, forged: Callable[[Cloud], str]
) -> None:
    """Each of these tokens, and then a genuine one, on the same task."""
    task = add_and_forward(app)
    reply = cloud.deliver(token=forged(cloud))
    assert reply.status_code == 403
    assert app.tasks.get(task.id).attempts == 0
    assert app.count() == 0
    assert cloud.deliver().status_code == 200
    assert app.count() == 1


@pytest.mark.slow
def test_a_token_that_was_overheard_runs_nothing_again(app: Bench, cloud: Cloud) -> None:
    """Cloud Tasks itself uses a token many times; what runs is what the rows say, once."""
    add_and_forward(app)
    name, token = cloud.created[0], cloud.signer.token()
    assert cloud.deliver(name, token=token).ok
    assert cloud.deliver(name, token=token).ok
    cloud.tasks["projects/guests/locations/here/queues/mail/tasks/" + "0" * 26 + "-1"] = {
        "httpRequest": {"url": f"{BASE}/count"},
        "retries": 0,
    }
    assert cloud.deliver(token=token).ok  # no such task
    assert app.count() == 1


def test_headers_of_cloud_tasks_alone_open_no_worker_route(app: Bench, cloud: Cloud) -> None:
    """A request for another queue, or with a name of another form, is none of its deliveries."""
    client = app.app.test_client()
    for headers in (
        {"X-CloudTasks-QueueName": "default", "X-CloudTasks-TaskName": "0" * 26 + "-1"},
        {"X-CloudTasks-QueueName": "mail", "X-CloudTasks-TaskName": "other"},
        {"X-CloudTasks-QueueName": "mail", "X-CloudTasks-TaskName": "0" * 26 + "-1"},
    ):
        token = {"Authorization": f"Bearer {cloud.signer.token(email='x@example.com')}"}
        assert client.post("/count", headers=headers | token).status_code == 403
    assert app.count() == 0


def test_certificates_are_kept_and_fetched_anew_for_an_unknown_key_once_a_minute(
    cloud: Cloud,
) -> None:
    """A flood of forged tokens does not become a flood of fetches; a new key is found."""
    now = 1000.0
    certificates = Certificates(f"{cloud.url}/certs", clock=lambda: now)
    assert certificates.get("first") == cloud.signer.certificate
    assert certificates.get("first") == cloud.signer.certificate
    for _ in range(5):
        with pytest.raises(TokenRefusedError):
            certificates.get("second")
    assert cloud.fetched == 1
    cloud.signer = Signer("second")
    now += 61
    assert certificates.get("second") == cloud.signer.certificate
    assert cloud.fetched == 2
    with pytest.raises(TokenRefusedError):
        certificates.get("first")
    now += 3601
    assert certificates.get("second") == cloud.signer.certificate
    assert cloud.fetched == 3


def test_without_fresh_certificates_nothing_is_believed(cloud: Cloud) -> None:
    """A key that was withdrawn is not believed for ever because nobody answers."""
    now = 1000.0
    certificates = Certificates(f"{cloud.url}/certs", clock=lambda: now)
    assert certificates.get("first")
    certificates._url = f"{cloud.url}/nothing"
    now += 3601
    with pytest.raises(TokenRefusedError, match="cannot be fetched"):
        certificates.get("first")
    assert ACCOUNT
