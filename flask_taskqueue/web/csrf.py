"""Flask-WTF's CSRF protection, kept away from worker routes."""

from __future__ import annotations

from flask import Flask
from flask.signals import request_started

from .worker import worker_behind


def exempt_workers(app: Flask) -> None:
    """With the first request, exempt each worker route: its guard asks for more than a CSRF token.

    Only then, so that it does not matter which extension is initialised first.
    """

    def exempt(app: Flask, **_: object) -> None:
        request_started.disconnect(exempt, app)  # a signal that nobody hears costs nothing
        protection = app.extensions.get("csrf")
        if protection is None:
            return
        for view in app.view_functions.values():
            if worker_behind(view) is not None:
                protection._exempt_views.add(f"{view.__module__}.{view.__name__}")

    request_started.connect(exempt, app, weak=False)
