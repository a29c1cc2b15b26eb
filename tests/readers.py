"""What reads the body of a request before its view: hooks, signals, a subclass of Request,
middleware.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask, Request, request
from flask.signals import request_started

Read = Callable[[Request], object]

READS: Mapping[str, Read] = {
    "form": lambda one: one.form.get("lang"),
    "values": lambda one: one.values.get("lang"),
    "files": lambda one: one.files.get("lang"),
    "data": lambda one: one.data,
    "get_data()": lambda one: one.get_data(),
    "get_data(), uncached": lambda one: one.get_data(cache=False),
    "get_json": lambda one: one.get_json(silent=True, cache=False),
    "stream": lambda one: one.stream.read(),
    "a part of the stream": lambda one: one.stream.read(3),
    "wsgi.input": lambda one: one.environ["wsgi.input"].read(),
}
"""How a body can be read."""


def in_middleware(inner: Any) -> Any:
    """Middleware that reads the body and puts it back."""

    def middleware(environ: dict[str, Any], start_response: Any) -> Any:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        return inner(environ, start_response)

    return middleware


def arrange(app: Flask, place: str, read: Read) -> None:
    """Have something of an app read every body."""

    def look(*_: object, **__: object) -> None:
        read(request)

    if place == "a hook":
        app.before_request(look)
    elif place == "a signal":
        request_started.connect(look, app, weak=False)
    elif place == "a subclass":

        class Reading(Request):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                read(self)

        app.request_class = Reading
    else:
        raise AssertionError(place)


PLACES = ("a hook", "a signal", "a subclass")
