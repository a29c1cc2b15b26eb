"""What add() makes of its arguments: URLs, headers, bodies, names, etas."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_taskqueue.core.durations import seconds
from flask_taskqueue.core.errors import (
    ConfigurationError,
    InvalidEtaError,
    InvalidHeaderError,
    InvalidQueueNameError,
    InvalidTaskError,
    InvalidTaskNameError,
    InvalidUrlError,
    TaskTooLargeError,
)
from flask_taskqueue.core.names import check_queue_name, check_task_name
from flask_taskqueue.core.tasks.options import resolve_delay
from flask_taskqueue.core.tasks.request import TaskRequest, build_request, check_headers
from flask_taskqueue.core.urls import check_path, redacted

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MONTH = timedelta(days=30)


def build(params: Any = None, *, url: str = "/w", **options: Any) -> TaskRequest:
    """A request with the default limit."""
    return build_request(url, params, max_body=102_400, **options)


def test_params_are_a_form() -> None:
    """A POST's params are its body, form-encoded; a list repeats its key."""
    request = build({"key": "a b", "n": [1, 2], "raw": b"x"})
    assert request.headers == {"Content-Type": "application/x-www-form-urlencoded"}
    assert parse_qs(request.body.decode()) == {"key": ["a b"], "n": ["1", "2"], "raw": ["x"]}


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PUT", "OPTIONS"])
def test_params_become_the_query_where_there_is_no_form(method: str) -> None:
    """GET, HEAD, DELETE, OPTIONS and PUT put params into the query."""
    request = build({"a": 1}, method=method)
    assert (request.url, request.body) == ("/w?a=1", b"")


@pytest.mark.parametrize(
    ("options", "content_type", "body"),
    [
        ({"json": {"a": [1]}}, "application/json", b'{"a":[1]}'),
        ({"json": None}, "application/json", b"null"),
        ({"payload": "grün"}, "text/plain; charset=utf-8", "grün".encode()),
        ({"payload": b"\x00"}, "application/octet-stream", b"\x00"),
        ({"payload": "x", "headers": {"content-type": "text/csv"}}, "text/csv", b"x"),
    ],
)
def test_bodies_set_their_content_type(
    options: dict[str, Any], content_type: str, body: bytes
) -> None:
    """json, text and bytes each have theirs, unless one is given."""
    request = build(**options)
    assert {name.lower(): value for name, value in request.headers.items()} == {
        "content-type": content_type
    }
    assert request.body == body


def test_put_takes_payload_and_params() -> None:
    """App Engine's PUT: the payload is the body, the params the query."""
    request = build({"a": 1}, method="PUT", payload="x")
    assert (request.url, request.body) == ("/w?a=1", b"x")


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        ({"params": {"a": 1}, "payload": "x"}, InvalidTaskError, "params"),
        ({"params": {"a": 1}, "json": 1}, InvalidTaskError, "params"),
        ({"json": 1, "payload": "x"}, InvalidTaskError, "exclude each other"),
        ({"url": "/w?x=1", "params": {"a": 1}}, InvalidTaskError, "query"),
        ({"url": "/w?x=1"}, InvalidTaskError, "query"),
        ({"method": "GET", "payload": "x"}, InvalidTaskError, "no body"),
        ({"method": "PULL"}, InvalidTaskError, "invalid method 'PULL'"),
        ({"payload": 5}, InvalidTaskError, "int"),
        ({"json": {1, 2}}, InvalidTaskError, "set"),
        ({"json": float("nan")}, InvalidTaskError, "json"),
        ({"params": {"a": None}}, InvalidTaskError, "'a' is None"),
        ({"params": [("a", 1)]}, InvalidTaskError, "mapping"),
        ({"payload": b"x" * 102_400}, TaskTooLargeError, "TASKQUEUE_MAX_BODY"),
        ({"method": "GET", "params": {"a": "x" * 3000}}, InvalidUrlError, "2083"),
    ],
)
def test_arguments_that_make_no_task(
    arguments: dict[str, Any], error: type[Exception], word: str
) -> None:
    """Each has its error, with a word that says which argument is meant."""
    with pytest.raises(error, match=word):
        build(**arguments)


def test_a_task_has_as_many_bytes_as_it_may_have() -> None:
    """One byte more is too many."""
    room = 102_400 - build(payload=b"").size
    assert build(payload=b"x" * room).size == 102_400
    with pytest.raises(TaskTooLargeError, match="has 102401 bytes; TASKQUEUE_MAX_BODY allows"):
        build(payload=b"x" * (room + 1))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "worker",
        "//evil.example/x",
        "http://x/",
        "/a b",
        "/ü",
        "/a#b",
        "/a\nb",
        "/a\\b",
        "/" + "x" * 2083,
        None,
    ],
)
def test_paths_that_are_none(url: Any) -> None:
    """A path begins with one slash and holds nothing that would have to be encoded."""
    with pytest.raises(InvalidUrlError):
        check_path(url)


def test_redacted_urls_keep_no_secret() -> None:
    """User information, query and fragment do not reach a log."""
    assert redacted("https://u:secret@h.example/p?token=secret#secret") == "https://h.example/p"
    assert redacted("/p?token=secret") == "/p"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Host",
            "content-length",
            "Transfer-Encoding",
            "Cookie",
            "X-TaskQueue-QueueName",
            "webhook-id",
            "Proxy-Authorization",
        ),
        *("X-Forwarded-For", "X_Under", "a b", "a:b", "a\r\nb", "", "x" * 101, "naïve", "a\x00b"),
    ],
)
def test_header_names_that_are_refused(name: str) -> None:
    """Names of the connection, of the queue, and names that are no tokens."""
    with pytest.raises(InvalidHeaderError):
        check_headers({name: "x"})


@pytest.mark.parametrize(
    "value", ["a\nb", "a\rb", "a\x00b", " a", "a ", "a\x7fb", "x" * 8193, "€", 5, None]
)
def test_header_values_that_are_refused(value: Any) -> None:
    """Control characters, blanks at the ends, too much, and what is no Latin-1 text."""
    with pytest.raises(InvalidHeaderError):
        check_headers({"X-Mine": value})


def test_headers_of_app_engine_are_dropped() -> None:
    """As on App Engine, users cannot set them and are not told."""
    assert check_headers({"X-AppEngine-QueueName": "x", "X-Mine": "é\ty"}) == {"X-Mine": "é\ty"}


def test_a_header_is_given_once() -> None:
    """Two names that differ in case only are one header."""
    with pytest.raises(InvalidHeaderError, match="twice"):
        check_headers({"X-A": "1", "x-a": "2"})


@pytest.mark.slow
@given(st.text())
def test_no_text_smuggles_a_line(text: str) -> None:
    """Whatever passes has no line break and no NUL, in name, value and path."""
    for check in (
        lambda: check_headers({text: "x"}),
        lambda: check_headers({"X": text}),
        lambda: check_path("/" + text),
    ):
        try:
            passed = str(check())
        except (InvalidHeaderError, InvalidUrlError):
            continue
        assert not set("\r\n\x00") & set(passed)


@pytest.mark.parametrize("name", ["a", "A-z_0" * 100])
def test_task_names_that_pass(name: str) -> None:
    """Up to 500 letters, digits, hyphens and underscores."""
    assert check_task_name(name) == name


@pytest.mark.parametrize("name", ["", "a b", "ü", "a\n", "x" * 501, None, "a.b"])
def test_task_names_that_do_not(name: Any) -> None:
    """Anything else is refused with the rule."""
    with pytest.raises(InvalidTaskNameError, match="500"):
        check_task_name(name)


@pytest.mark.parametrize("name", ["", "a_b", "a b", "x" * 101, None, "a\n"])
def test_queue_names_that_do_not_pass(name: Any) -> None:
    """Letters, digits and hyphens, no underscore."""
    with pytest.raises(InvalidQueueNameError):
        check_queue_name(name)


@pytest.mark.parametrize(
    ("eta", "countdown", "delay"),
    [
        (None, None, None),
        (NOW + timedelta(minutes=1), None, timedelta(minutes=1)),
        (NOW - timedelta(days=900), None, timedelta(days=-900)),
        (None, 90, timedelta(seconds=90)),
        (None, "1.5", timedelta(seconds=1.5)),
        (None, "10m", timedelta(minutes=10)),
        (None, -5, timedelta(seconds=-5)),
        (None, timedelta(hours=1), timedelta(hours=1)),
    ],
)
def test_etas_and_countdowns(eta: datetime | None, countdown: Any, delay: timedelta | None) -> None:
    """Both say how far away the instant is; the past is allowed."""
    assert resolve_delay(eta, countdown, now=NOW, max_eta=MONTH) == delay


@pytest.mark.parametrize(
    ("eta", "countdown", "error"),
    [
        (NOW, 1, InvalidTaskError),
        ("tomorrow", None, InvalidTaskError),
        (datetime(2026, 1, 1), None, InvalidEtaError),  # noqa: DTZ001 - the naive one that is refused
        (NOW + timedelta(days=31), None, InvalidEtaError),
        (None, 31 * 86_400, InvalidEtaError),
        (None, "soon", InvalidTaskError),
        (None, float("nan"), InvalidTaskError),
        (None, float("inf"), InvalidEtaError),
        (None, float("-inf"), InvalidTaskError),
        (None, True, InvalidTaskError),
    ],
)
def test_etas_that_are_refused(eta: Any, countdown: Any, error: type[Exception]) -> None:
    """Both at once, what is no instant or duration, a naive one, one too far away."""
    with pytest.raises(error):
        resolve_delay(eta, countdown, now=NOW, max_eta=MONTH)


@pytest.mark.parametrize("value", ["", "10x", "m", None, float("nan"), True, [1]])
def test_durations_that_are_none(value: Any) -> None:
    """The error names what the duration was for."""
    with pytest.raises(ConfigurationError, match="lease"):
        seconds(value, what="lease")
