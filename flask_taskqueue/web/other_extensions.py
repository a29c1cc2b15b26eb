"""The app's other extensions, which treat a delivery like the request of a person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from flask.signals import request_started

from ..core.delivery.delivery import Delivery
from .claimed_request import claimed_delivery
from .webhooks import declared_behind
from .worker import worker_behind

Save = Callable[..., None]


def let_deliveries_pass(app: Flask) -> None:
    """Let deliveries pass the app's other extensions, from its first request on.

    Worker routes need no CSRF token of Flask-WTF, because their guard demands more, and do not
    count against the default limits of Flask-Limiter, because queues have rates. Webhooks need no
    CSRF token either, because they demand a signature. A delivery saves no session, because nobody
    would send its cookie again. Waiting for the first request means that
    the order in which extensions are initialised does not matter.
    """

    def first(app: Flask, **_: object) -> None:
        request_started.disconnect(first, app)  # a signal without listeners costs nothing
        for view in app.view_functions.values():
            if declared_behind(view) is not None:
                _exempt_from_csrf(app, view)
            if worker_behind(view) is not None:
                _exempt_from_limits(app, view)
        _save_no_session_of_a_delivery(app)

    request_started.connect(first, app, weak=False)


def exempt_blueprint(app: Flask, name: str) -> None:
    """Exempt a blueprint of ours from Flask-WTF's tokens, because it checks requests by itself."""

    def exempt(app: Flask, **_: object) -> None:
        protection = app.extensions.get("csrf")
        if protection is not None:
            protection.exempt(app.blueprints[name])

    request_started.connect(exempt, app, weak=False)


def _exempt_from_csrf(app: Flask, view: Callable[..., Any]) -> None:
    protection = app.extensions.get("csrf")
    if protection is not None:
        protection._exempt_views.add(f"{view.__module__}.{view.__name__}")


def _exempt_from_limits(app: Flask, view: Callable[..., Any]) -> None:
    limiters = app.extensions.get("limiter")
    for limiter in limiters if isinstance(limiters, set) else ():
        limiter.exempt(view)


def _save_no_session_of_a_delivery(app: Flask) -> None:
    interface: Any = app.session_interface
    if type(interface) is SecureCookieSessionInterface:
        return  # Flask's own, which keeps nothing on the server
    if not isinstance(interface.save_session, _SessionSaver):
        interface.save_session = _SessionSaver(interface.save_session)


class _SessionSaver:
    """The method of a session interface that saves a session, except that of a delivery."""

    def __init__(self, save: Save) -> None:
        self._save = save

    def __call__(self, app: Flask, session: Any, response: Any) -> None:
        claim = claimed_delivery(app)
        delivery = claim if claim is None or isinstance(claim, Delivery) else claim.delivery
        if delivery is None:
            self._save(app, session, response)
