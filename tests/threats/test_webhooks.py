"""Threats: somebody who is not the sender calls a webhook, or the sender's message is abused."""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from flask_taskqueue.core.delivery.signatures import attempt_keys, route_keys, sign
from tests.apps import Bench, bench
from tests.databases import TestDatabase
from tests.receivers import Receiver, receiver

SECRET = "whsec_YSBzZWNyZXQgb2YgMjQgYnl0ZXMgb3I="
OTHER = "whsec_YW5vdGhlciBvbmUsIGFzIGxvbmcgYXM="
BODY = '{"pay": "ana"}'


@pytest.fixture
def bank(sqlite_database: TestDatabase) -> Iterator[Bench]:
    """An application with two webhooks, whose senders have secrets of their own."""
    with bench(sqlite_database.url, TASKQUEUE_ALLOWED_HOSTS=["127.0.0.1"]) as one:
        declare(one)
        yield one


def declare(bank: Bench) -> None:
    """Its webhooks."""

    @bank.tasks.webhook("/hooks/ana", secret=SECRET)
    def ana() -> None: ...

    @bank.tasks.webhook("/hooks/bo", secret=OTHER)
    def bo() -> None: ...


@pytest.fixture
def eve() -> Iterator[Receiver]:
    """A host that is sent things, and notes them."""
    with receiver() as one:
        yield one


def captured(id: str = "msg_1", *, late: float = 0) -> dict[str, str]:
    """What somebody has seen on its way to Ana."""
    at = datetime.fromtimestamp(int(time.time() + late), UTC)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(SECRET).sign(id, at, BODY),
    }


def post(bank: Bench, path: str, headers: dict[str, str], body: Any = BODY) -> int:
    """The status of the reply."""
    return int(bank.app.test_client().post(path, data=body, headers=headers).status_code)


def test_a_replay_makes_no_second_task(bank: Bench) -> None:
    """Nor does any of its parts with a new id, time or body; the task that there is stays."""
    seen = captured()
    assert post(bank, "/hooks/ana", seen) == 202
    assert post(bank, "/hooks/ana", seen) == 202
    bank.tasks.drain()
    assert post(bank, "/hooks/ana", seen) == 202
    for change in (
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": str(int(seen["webhook-timestamp"]) - 1)},
        {"webhook-timestamp": f"{seen['webhook-timestamp']}.0"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1a," + seen["webhook-signature"].removeprefix("v1,")},
    ):
        assert post(bank, "/hooks/ana", {**seen, **change}) == 401
    assert post(bank, "/hooks/ana", seen, b'{"pay": "eve"}') == 401
    assert post(bank, "/hooks/ana", captured(late=-3600)) == 401
    assert len(bank.tasks.find()) == 1


def test_what_is_signed_for_one_webhook_fits_no_other(bank: Bench) -> None:
    """Each has its sender's secret."""
    assert post(bank, "/hooks/bo", captured()) == 401


def test_what_another_host_is_sent_is_refused(bank: Bench, eve: Receiver) -> None:
    """The app's own deliveries to Eve are signed with Eve's secret, which is not Ana's."""

    @bank.tasks.webhook("/hooks/own", secret=lambda: bank.tasks.webhook_secret("localhost:443"))
    def own() -> None: ...

    bank.tasks.add(f"{eve.url}/hook", payload=BODY)
    bank.tasks.drain()
    headers, body = eve.latest
    assert body == BODY.encode()
    assert Webhook(bank.tasks.webhook_secret(eve.host)).verify(body, headers)
    assert post(bank, "/hooks/own", headers, body) == 401


def test_a_dispatchers_signature_is_no_webhooks(bank: Bench) -> None:
    """And a webhook's is no dispatcher's: the route behind it stays closed."""
    at, path = int(time.time()), "/hooks/ana?"
    keys = attempt_keys(route_keys(["a secret for tests"]), "POST", path, "default", 1)
    claimed = {
        "X-TaskQueue-QueueName": "default",
        "X-TaskQueue-TaskRetryCount": "0",
        "webhook-id": "msg_1",
        "webhook-timestamp": str(at),
        "webhook-signature": sign(keys, "msg_1", at, BODY.encode()),
    }
    assert post(bank, "/hooks/ana", claimed) == 401
    behind = {**captured(), "X-TaskQueue-QueueName": "default", "X-TaskQueue-TaskRetryCount": "0"}
    assert post(bank, "/_taskqueue/webhook/ana", behind) == 403


def test_thousands_of_signatures_are_not_all_tried(
    bank: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends them gets as much of our time as anybody else."""
    compared: list[object] = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda *two: compared.append(two) or compare(*two))
    many = captured() | {"webhook-signature": "v1,AAAA " * 1000 + captured()["webhook-signature"]}
    assert post(bank, "/hooks/ana", many) == 401
    assert len(compared) < 20


def test_headers_of_the_sender_change_nothing_of_the_delivery(bank: Bench) -> None:
    """Only those that a handler needs are kept; none speaks for the queue or for a visitor."""
    names = ("X-TaskQueue-TaskName", "Cookie", "Authorization", "X-Forwarded-For", "X-Webhook-Id")
    assert post(bank, "/hooks/ana", captured() | dict.fromkeys(names, "forged")) == 202
    (task,) = bank.tasks.find()
    with bank.store.reading() as connection:
        record = bank.store.tasks.get(connection, task.id)
    assert "forged" not in str(record.headers)


def test_a_header_that_no_request_may_have_is_refused(bank: Bench) -> None:
    """With a sentence, and not with a failure of the app."""
    assert post(bank, "/hooks/ana", captured() | {"Content-Type": "x" * 9000}) == 400
    assert bank.tasks.find() == []
