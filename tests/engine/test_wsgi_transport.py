"""The wsgi transport calls the app as a server does (PEP 3333)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from flask import Flask, request

from flask_taskqueue.core.delivery.verdict import OutgoingRequest, Reply
from flask_taskqueue.engine.transports.wsgi import WsgiTransport
from tests.misbehaving import delivery

ENDED = [("Content-Type", "text/plain")]


def reply_of(application: Any, cap: int = 100) -> Reply:
    """Return the reply of a WSGI application."""
    app = Flask(__name__)
    app.wsgi_app = application  # type: ignore[method-assign]
    return WsgiTransport(app, "http://localhost", cap).send(*delivery("/"))


def test_what_is_written_comes_before_what_is_returned() -> None:
    """``write`` is for applications that cannot return their body."""

    def application(_: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", ENDED)(b"written, ")
        return [b"returned"]

    reply = reply_of(application)
    assert (reply.status, reply.body) == (200, b"written, returned")
    assert reply.headers == {"content-type": "text/plain"}
    assert reply_of(application, cap=5).body == b"writt"
    assert reply_of(application, cap=5).truncated


def test_a_body_is_run_to_its_end_and_closed() -> None:
    """A generator may start its response late, and is closed even if it fails."""
    seen: list[str] = []

    def body(start_response: Any, *, fails: bool) -> Iterator[bytes]:
        try:
            start_response("202 ACCEPTED", ENDED)
            yield b"one"
            if fails:
                raise ConnectionError("half way")
            yield b"two"
        finally:
            seen.append("closed")

    assert reply_of(lambda _, start: body(start, fails=False)).body == b"onetwo"
    with pytest.raises(ConnectionError, match="half way"):
        reply_of(lambda _, start: body(start, fails=True))
    assert seen == ["closed", "closed"]


def test_an_error_is_raised_instead_of_answered() -> None:
    """The dispatcher logs it; an application without any response has an error of its own."""

    def failing(_: Any, start_response: Any) -> Iterable[bytes]:
        try:
            raise ConnectionError("away")
        except ConnectionError:
            start_response("500 INTERNAL SERVER ERROR", ENDED, sys.exc_info())
        return [b"never sent"]

    with pytest.raises(ConnectionError, match="away"):
        reply_of(failing)
    with pytest.raises(RuntimeError, match="did not call start_response"):
        reply_of(lambda *_: [b"what?"])


def test_what_one_request_has_is_not_in_the_next() -> None:
    """What the transport prepares for a URL holds nothing of a task."""
    app = Flask(__name__)

    @app.route("/<name>", methods=["GET", "POST"])
    def view(name: str) -> list[str]:
        body, query = request.get_data(as_text=True), request.query_string.decode()
        marks = [request.headers.get(one, "") for one in ("X-One", "X-Left")]
        request.environ["HTTP_X_LEFT"] = "behind"
        return [request.method, name, query, body, *marks]

    transport = WsgiTransport(app, "http://localhost", 1000)
    _, attempt = delivery("/")

    def answer(method: str, url: str, headers: dict[str, str], body: bytes) -> str:
        reply = transport.send(OutgoingRequest(method, url, headers, body), attempt)
        return reply.body.decode().strip()

    for _ in range(2):
        assert answer("POST", "/a?b=c", {"X-One": "1"}, b"body").startswith(
            '["POST","a","b=c","body","1",'
        )
        assert answer("POST", "/a?b=c", {}, b"") == '["POST","a","b=c","","",""]'
        assert answer("GET", "/a?b=c", {}, b"") == '["GET","a","b=c","","",""]'
        assert answer("POST", "/%C3%A4", {}, b"") == '["POST","\\u00e4","","","",""]'
