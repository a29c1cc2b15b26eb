"""Requests that nobody should send, to every rule of the dashboard, the metrics and the health
checks, on each database.
"""

from __future__ import annotations

import io
import os
import random
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_from_bytes

import pytest
from werkzeug.test import create_environ, run_wsgi_app

from flask_taskqueue import RetryOptions
from flask_taskqueue.core.failures import group
from tests.apps import Bench
from tests.dashboard.conftest import Open

REQUESTS, SECONDS, SEED = (
    3000,
    float(os.environ.get("TEST_FUZZ_SECONDS", "3")),
    int(os.environ.get("TEST_FUZZ_SEED", "1")),
)
"""How many requests are made, as far as that takes no longer than so many seconds."""

ODD = (
    *(
        "",
        " ",
        "\0",
        "a\0b",
        "\x7f",
        "\x1b[31m",
        "\n",
        "\r\nX-A: b",
        "%",
        "%00",
        "%zz",
        "%25",
        "_",
        "\\",
        "'",
        '"',
        "';--",
        "{{7*7}}",
    ),
    *(
        "é",
        "ß",
        "\u2028",
        "\u202e",
        "\ufeff",
        "\U0001f600",
        "\ud800",
        "\udcff",
        "\uff41",
        "\u212a",
        "\u0130",
        "\u2022" * 3,
    ),
    *(
        "0",
        "-1",
        "1",
        "00",
        "1e309",
        "-0",
        "9" * 9,
        "9" * 19,
        "9" * 40,
        "-" + "9" * 18,
        "9" * 5000,
        "1.5",
        "nan",
        "inf",
        "٣",
        "0x10",
        "1_0",
    ),
    *(
        "/",
        "//",
        "//evil.example",
        "http://[",
        "http://[::1",
        "http://]",
        "https://a:b:c",
        "http://a:99999",
        "null",
        "[",
        "]",
        "[::1]:x",
    ),
    *(
        "a" * 3000,
        "é" * 2000,
        "a-" * 1000,
        "%" * 999,
        "None",
        "true",
        "[]",
        "{}",
        '{"a": [1e999]}',
        "[" * 3000,
    ),
    *(
        "5xx",
        "9xx",
        "timeout",
        "1h",
        "1" * 400 + "d",
        "9" * 300 + "d",
        "1d2",
        "-1s",
        "20/m",
        "0/s",
        "1e9/s",
        "9" * 300 + "/s",
        "dead",
        "all",
        "default",
        "mail",
    ),
)
BYTES = (
    b"\xff\xfe",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\x00",
    b"\xf0\x9f\x98\x80",
    b"%ff",
    b"=&=&&",
    b"a=%00&b=%ff",
    b"--x\r\n\r\n",
    b"\x80" * 200,
)
FIELDS = (
    *(
        "state",
        "queue",
        "url",
        "status",
        "attempts",
        "since",
        "q",
        "after",
        "did",
        "count",
        "range",
        "doctor",
        "id",
        "scope",
        "back",
    ),
    *(
        "body",
        "countdown",
        "rate",
        "bucket_size",
        "max_concurrent",
        "v",
        "group",
        "name",
        "max_latency",
        "verbose",
    ),
)
METHODS = (
    "GET",
    "POST",
    "GET",
    "POST",
    "HEAD",
    "OPTIONS",
    "PUT",
    "DELETE",
    "PATCH",
    "TRACE",
    "",
    "G\xe9T",
    "get",
    "X" * 500,
)
HEADERS = (
    *(
        "HTTP_HOST",
        "HTTP_ORIGIN",
        "HTTP_SEC_FETCH_SITE",
        "HTTP_ACCEPT",
        "HTTP_AUTHORIZATION",
        "HTTP_COOKIE",
        "HTTP_FORWARDED",
    ),
    *(
        "HTTP_X_FORWARDED_FOR",
        "HTTP_X_FORWARDED_HOST",
        "HTTP_IF_NONE_MATCH",
        "HTTP_IF_MODIFIED_SINCE",
        "HTTP_RANGE",
        "HTTP_REFERER",
    ),
    *(
        "HTTP_WEBHOOK_SIGNATURE",
        "HTTP_WEBHOOK_ID",
        "HTTP_WEBHOOK_TIMESTAMP",
        "CONTENT_TYPE",
        "CONTENT_LENGTH",
        "REMOTE_ADDR",
    ),
    *(
        "HTTP_ACCEPT_ENCODING",
        "HTTP_TRANSFER_ENCODING",
        "HTTP_TRACEPARENT",
        "HTTP_X_HTTP_METHOD_OVERRIDE",
    ),
)
TYPES = (
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "application/json",
    "text/plain",
)


class Fuzz:
    """Random requests, the same ones for the same seed."""

    def __init__(self, one: Bench, seed: int, known: dict[str, list[str]]) -> None:
        self._random = random.Random(seed)
        self._known = known
        self._rules = [
            rule for rule in one.app.url_map.iter_rules() if rule.endpoint.startswith("taskqueue")
        ]
        self._one = one

    def requests(self, number: int) -> Iterator[dict[str, Any]]:
        """So many environs, of each rule in turn."""
        for count in range(number):
            yield self._environ(self._rules[count % len(self._rules)])

    def _environ(self, rule: Any) -> dict[str, Any]:
        chance = self._random
        method = (
            chance.choice(METHODS)
            if chance.random() < 0.25
            else chance.choice(sorted(rule.methods - {"HEAD", "OPTIONS"}))
        )
        environ = create_environ(
            "/", method="POST", data=self._form(), headers={"Sec-Fetch-Site": "same-origin"}
        )
        environ["REQUEST_METHOD"] = method
        environ["PATH_INFO"] = "".join(
            self._part(rule, part) for part in rule.rule.replace(">", "<").split("<")
        )
        environ["QUERY_STRING"] = self._query()
        for _ in range(chance.choice((0, 0, 0, 1, 2))):
            environ[chance.choice(HEADERS)] = (
                self._text().encode("utf-8", "surrogatepass").decode("latin-1")
            )
        if chance.random() < 0.1:
            environ.pop(
                chance.choice(
                    (
                        "HTTP_HOST",
                        "CONTENT_LENGTH",
                        "CONTENT_TYPE",
                        "HTTP_SEC_FETCH_SITE",
                        "REMOTE_ADDR",
                    )
                ),
                None,
            )
        if chance.random() < 0.1:
            body = chance.choice(BYTES) * chance.choice((1, 50))
            environ |= {
                "wsgi.input": io.BytesIO(body),
                "CONTENT_LENGTH": str(len(body)),
                "CONTENT_TYPE": chance.choice(TYPES),
            }
        return environ

    def _part(self, rule: Any, part: str) -> str:
        """A part of a path as a server hands it over, with something in the place of a variable."""
        name = part.rpartition(":")[2]
        if name not in rule.arguments or not part.endswith(name) or part.startswith("/"):
            return part
        if self._random.random() < 0.5:
            return self._random.choice(self._known[name])
        return self._text().encode("utf-8", "surrogatepass").decode("latin-1")

    def _text(self) -> str:
        chance = self._random
        if chance.random() < 0.1:
            return chance.choice(BYTES).decode("latin-1")
        return "".join(chance.choice(ODD) for _ in range(chance.choice((1, 1, 1, 2, 3))))

    def _value(self, name: str) -> str:
        known = self._known.get({"id": "task_id"}.get(name, name), [])
        return self._random.choice(known) if known and self._random.random() < 0.5 else self._text()

    def _form(self) -> dict[str, list[str]]:
        names = [self._random.choice(FIELDS) for _ in range(self._random.choice((0, 1, 2, 5)))]
        return {name: [self._value(name).encode("utf-8", "replace").decode()] for name in names}

    def _query(self) -> str:
        chance = self._random
        if chance.random() < 0.1:
            return (
                quote_from_bytes(chance.choice(BYTES), safe="=&%")
                if chance.random() < 0.5
                else chance.choice(BYTES).decode("latin-1")
            )
        names = [chance.choice(FIELDS) for _ in range(chance.choice((0, 1, 2, 4)))]
        return "&".join(
            f"{name}={quote(self._value(name), errors='surrogatepass')}" for name in names
        )


OPENED: dict[str, dict[str, Any]] = {
    "all": {},
    "read": {"TASKQUEUE_DASHBOARD_ACCESS": lambda: "read"},
    "password": {
        "TASKQUEUE_DASHBOARD_ACCESS": None,
        "TASKQUEUE_DASHBOARD_USERNAME": "ana",
        "TASKQUEUE_DASHBOARD_PASSWORD": "correct horse",
    },
    "debug": {"TASKQUEUE_DASHBOARD_ACCESS": None, "DEBUG": True},
}


def stocked(one: Bench) -> dict[str, list[str]]:
    """An application with tasks in each state; the values that its rules know."""
    one.tasks.schedule("nightly", "/fine", "every day 03:00")
    law = RetryOptions(min_backoff_seconds=500)
    tasks = [
        one.tasks.add(url, retry=law, countdown=wait)
        for url in ("/fine", "/broken", "/hopeless")
        for wait in (0, 900)
    ]
    one.tasks.drain()
    store = one.store
    with store.reading() as connection:
        groups = [each.signature.id for each in group(store.failures.latest(connection))]
    return {
        "task_id": [task.id for task in tasks],
        "queue": ["default", "mail"],
        "name": ["nightly"],
        "group": groups,
        "filename": ["dashboard.css"],
        "target": ["a.example:443", "http://b.example"],
    }


@pytest.mark.slow
@pytest.mark.parametrize("access", OPENED)
def test_no_request_is_an_error_of_the_server(opened: Open, access: str) -> None:
    """Whatever is asked, by whatever method, with whatever headers and forms, is answered, and
    not by a server that failed.
    """
    one = opened(TASKQUEUE_METRICS=True, **OPENED[access])
    known = stocked(one)
    begun = time.monotonic()
    for environ in Fuzz(one, SEED, known).requests(REQUESTS):
        if time.monotonic() - begun > SECONDS:
            break
        asked = {name: value for name, value in environ.items() if isinstance(value, str)}
        _, status, _ = run_wsgi_app(one.app, environ, buffered=True)
        failing = asked["PATH_INFO"].startswith("/taskqueue/health/") and status.startswith(
            "503"
        )  # which no dispatcher is
        assert int(status.split()[0]) < 500 or failing, (status, asked)


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/taskqueue/tasks/delete", {"data": {"id": ["\0"]}}),
        ("POST", "/taskqueue/tasks/delete", {"data": {"id": ["' or 1=1"]}}),
        ("POST", "/taskqueue/tasks/requeue", {"data": {"id": ["0" * 27]}}),
        ("POST", "/taskqueue/tasks/delete", {"data": {"scope": "all", "q": "a\0b"}}),
        ("POST", "/taskqueue/queues/default/configure", {"data": {"rate": "\0"}}),
        ("GET", "/taskqueue/tasks?q=%00", {}),
        ("GET", "/taskqueue/tasks.json?queue=a%00b&url=%00", {}),
        ("GET", "/taskqueue/tasks?q=\xff", {}),
        ("POST", "/taskqueue/cron/run", {"data": {"name": "a\0b"}}),
        ("POST", "/taskqueue/queues/a%00b/pause", {}),
        ("GET", "/taskqueue/tasks/" + "%00" * 26, {}),
    ],
)
def test_what_cannot_be_read_is_refused(
    opened: Open, method: str, path: str, kind: dict[str, Any]
) -> None:
    """With 400 and a sentence; nothing is done, and no database is asked for what it may refuse."""
    one = opened()
    task = one.tasks.add("/fine", countdown=900)
    path, _, query = path.partition("?")
    reply = one.app.test_client().open(
        path, method=method, environ_overrides={"QUERY_STRING": query}, **kind
    )
    assert reply.status_code == 400
    assert "Bad Request" in reply.text
    assert one.tasks.get(task.id).state == "scheduled"


@pytest.mark.parametrize(
    "origin",
    [
        "http://[",
        "http://[::1",
        "https://]",
        "http://[v1.x]",
        "\0",
        "http://\u2100.example",
        "null",
    ],
)
def test_an_origin_that_is_none_is_nobodys(on_file: Open, origin: str) -> None:
    """It is refused like any other site's."""
    value = origin.encode().decode("latin-1")
    reply = (
        on_file()
        .app.test_client()
        .post("/taskqueue/queues/default/pause", environ_overrides={"HTTP_ORIGIN": value})
    )
    assert reply.status_code == 403
    assert (
        on_file()
        .app.test_client()
        .post("/taskqueue/queues/default/pause", data={"back": origin.strip("\0")})
        .status_code
        == 303
    )
