"""Flask-WTF's CSRF protection, kept away from worker routes."""

from __future__ import annotations

from flask import Flask
from flask.signals import request_started

from .worker import worker_behind


def exempt_workers(app: Flask) -> None:
    """Exempt each worker route from CSRF protection, at the first request.

    The guard of worker routes demands more than a CSRF token. Waiting for the first request means
    that the order in which extensions are initialised does not matter.
    """

    def exempt(app: Flask, **_: object) -> None:
        request_started.disconnect(exempt, app)  # a signal without listeners costs nothing
        protection = app.extensions.get("csrf")
        if protection is None:
            return
        for view in app.view_functions.values():
            if worker_behind(view) is not None:
                protection._exempt_views.add(f"{view.__module__}.{view.__name__}")

    request_started.connect(exempt, app, weak=False)
