"""Worker routes answer deliveries of this application, and nobody else."""

from __future__ import annotations

import time
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue.core.ids import lease_id
from flask_taskqueue.core.record import Record
from flask_taskqueue.core.signatures import bound, sign
from tests.apps import Bench

CALLS: list[str] = []


@pytest.fixture
def guarded(on_sqlite: Bench) -> Bench:
    """An application with two worker routes that note their calls."""
    CALLS.clear()

    @on_sqlite.tasks.worker("/a", methods=("POST", "GET"))
    def a() -> None:
        CALLS.append("a")

    @on_sqlite.tasks.worker("/b")
    def b() -> None:
        CALLS.append("b")

    return on_sqlite


def claimed(bench: Bench) -> Record:
    """A task for /a whose first attempt is under way."""
    bench.tasks.add("/a", payload=b"body")
    store = bench.app.extensions["taskqueue"].store

    def claim(connection: sa.Connection) -> Record:
        (lane,) = store.claims.lanes(connection).due()
        (record,) = store.claims.claim(connection, lane, 1, lease_id=lease_id(), held_by="elsewhere", lease=30)
        return record

    return store.transact(claim)


def signed(bench: Bench, record: Record, *, late: float = 0, **other: Any) -> dict[str, str]:
    """The headers of a genuine delivery over HTTP, or of one for something else."""
    keys = bench.app.extensions["taskqueue"].keys.route
    stamp = int(time.time() + late)
    words = {"method": "POST", "path": "/a?", "queue": "default", "attempt": record.attempts} | other
    return {
        "X-TaskQueue-QueueName": "default",
        "X-TaskQueue-TaskRetryCount": str(record.attempts - 1),
        "webhook-id": record.id,
        "webhook-timestamp": str(stamp),
        "webhook-signature": sign(bound(keys, **words), record.id, stamp, record.body),
    }


FORGED = {
    "no header": {},
    "App Engine's": {"X-AppEngine-TaskName": "x", "X-AppEngine-QueueName": "default"},
    "our names": {"X-TaskQueue-TaskName": "x", "X-TaskQueue-QueueName": "default", "X-TaskQueue-TaskRetryCount": "0"},
    "underscores": {"X_TaskQueue_QueueName": "default", "flask_taskqueue.delivery": "x"},
    "the environ key": {"Flask-Taskqueue.Delivery": "x"},
    "a loopback address": {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"},
    "a bad signature": {
        "webhook-id": "x",
        "webhook-timestamp": str(int(time.time())),
        "webhook-signature": "v1,AAAA",
        "X-TaskQueue-TaskRetryCount": "0",
    },
    "nonsense": {"webhook-id": "é" * 9, "webhook-timestamp": "x", "webhook-signature": "\xff", "X-TaskQueue-TaskRetryCount": "-1"},
}


@pytest.mark.parametrize("path", ["/a", "/b"])
@pytest.mark.parametrize("headers", FORGED.values(), ids=FORGED)
def test_a_stranger_gets_403(guarded: Bench, path: str, headers: dict[str, str]) -> None:
    """Whatever is claimed in headers; the handler is not called, the answer says nothing."""
    reply = guarded.app.test_client().post(path, headers=headers, data={"key": "x"})
    assert (reply.status_code, reply.data, CALLS) == (403, b"", [])


def test_a_stranger_gets_nowhere_by_other_methods(guarded: Bench) -> None:
    """GET where the route has it is 403; OPTIONS is not answered by Flask either."""
    client = guarded.app.test_client()
    assert [client.open("/a", method=method).status_code for method in ("GET", "HEAD", "OPTIONS")] == [403, 403, 405]
    assert CALLS == []


def test_the_body_of_a_stranger_is_not_read(guarded: Bench) -> None:
    """It is refused by its headers."""

    class Unreadable:
        def read(self, *_: object) -> bytes:
            raise AssertionError("the body was read")

        readline = readlines = __iter__ = read

    environ = {"wsgi.input": Unreadable(), "CONTENT_LENGTH": "5"}
    assert guarded.app.test_client().post("/a", environ_overrides=environ).status_code == 403


def test_a_genuine_delivery_over_http_is_let_in(guarded: Bench) -> None:
    """Signed for this route and this attempt, which is under way."""
    record = claimed(guarded)
    assert guarded.app.test_client().post("/a", headers=signed(guarded, record), data=b"body").status_code == 204
    assert CALLS == ["a"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"path": "/b?"}, 403),
        ({"method": "GET"}, 403),
        ({"queue": "mail"}, 403),
        ({"attempt": 2}, 403),
        ({"late": -301}, 403),
        ({"late": 301}, 403),
    ],
)
def test_a_delivery_fits_nothing_else(guarded: Bench, change: dict[str, Any], status: int) -> None:
    """Another route, method, queue, attempt, or time: refused."""
    record = claimed(guarded)
    assert guarded.app.test_client().post("/a", headers=signed(guarded, record, **change), data=b"body").status_code == status
    assert CALLS == []


def test_a_changed_body_is_refused(guarded: Bench) -> None:
    """The signature covers every byte."""
    record = claimed(guarded)
    assert guarded.app.test_client().post("/a", headers=signed(guarded, record), data=b"Body").status_code == 403
    assert guarded.app.test_client().post("/b", headers=signed(guarded, record), data=b"body").status_code == 403
    assert CALLS == []


def test_a_replay_after_the_end_is_409(guarded: Bench) -> None:
    """A captured delivery does not run again when its attempt is no longer under way."""
    record = claimed(guarded)
    store = guarded.app.extensions["taskqueue"].store
    store.transact(lambda connection: store.leases.complete(connection, record, 204))
    assert guarded.app.test_client().post("/a", headers=signed(guarded, record), data=b"body").status_code == 409
    assert CALLS == []


def test_a_rotated_key_is_good_while_it_is_a_fallback(guarded: Bench) -> None:
    """Deliveries signed before SECRET_KEY changed arrive; when the old key is dropped they do not."""
    record = claimed(guarded)
    headers = signed(guarded, record)
    runtime = guarded.app.extensions["taskqueue"]
    for fallbacks, status in ((["a secret for tests"], 204), ([], 403)):
        guarded.app.config.update(SECRET_KEY="another secret", SECRET_KEY_FALLBACKS=fallbacks)
        del runtime.keys
        assert guarded.app.test_client().post("/a", headers=headers, data=b"body").status_code == status
        _ = runtime.keys


def test_is_task_request_is_proven_not_claimed(guarded: Bench) -> None:
    """Forged headers do not make a request a task's."""
    answers = []
    guarded.app.before_request(lambda: answers.append(guarded.tasks.is_task_request()))
    client = guarded.app.test_client()
    for headers in FORGED.values():
        client.post("/a", headers=headers)
    assert not any(answers)
    guarded.tasks.add("/b")
    guarded.tasks.drain()
    assert answers[-1]
    assert not guarded.tasks.is_task_request()
