"""Mounting: registering the dashboard with an app, and the link that opens it in debug."""

from __future__ import annotations

import weakref

import click
from flask import Flask

from ..core.errors import ConfigurationError
from ..runtime import Runtime
from ..web.access import PARAMETER, link_keys
from ..web.other_extensions import exempt_blueprint
from ..web.starting.development_server import on_serving
from .access import opens_by_link
from .blueprint import NAME, blueprint

_mounted: weakref.WeakSet[Flask] = weakref.WeakSet()


def mount(app: Flask, runtime: Runtime) -> None:
    """Register the dashboard if the settings ask for it.

    Raises `ConfigurationError` for settings that contradict each other.
    """
    settings = runtime.settings
    if not settings.dashboard:
        return
    if (settings.dashboard_username is None) != (settings.dashboard_password is None):
        raise ConfigurationError(
            "TASKQUEUE_DASHBOARD_USERNAME and TASKQUEUE_DASHBOARD_PASSWORD belong together: "
            "set both or none"
        )
    if settings.dashboard_access is not None and settings.dashboard_username is not None:
        raise ConfigurationError(
            "TASKQUEUE_DASHBOARD_ACCESS and TASKQUEUE_DASHBOARD_USERNAME exclude each other: "
            "set one of them"
        )
    app.register_blueprint(blueprint(), url_prefix=settings.dashboard_url_prefix)
    exempt_blueprint(app, NAME)
    _mounted.add(app)
    on_serving(_print_link)


def _print_link(app: Flask, base_url: str | None) -> None:
    """Print the link to the terminal of ``flask run``; not to the log, which others may read."""
    if base_url is None or app not in _mounted:
        return
    runtime: Runtime = app.extensions["taskqueue"]
    if opens_by_link(runtime):
        prefix = runtime.settings.dashboard_url_prefix.rstrip("/")
        place = f"{base_url}{prefix}/?{PARAMETER}={link_keys(runtime)[0]}"
        click.echo(f" * Dashboard of the task queue: {place}", err=True)
