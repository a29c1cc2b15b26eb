"""Routes: where an application's deliveries go."""

from __future__ import annotations

from typing import Any

from flask import Flask

from ..core.errors import ConfigurationError
from ..core.security.targets import Targets
from ..core.settings.app import Settings
from .outgoing_requests import Routes
from .transports import Transport
from .transports.wsgi import WsgiTransport


def find_routes(
    app: Flask, settings: Settings, targets: Targets, base_url: str | None, transport: str
) -> Routes:
    """Return where deliveries go with this transport.

    Raises `ConfigurationError` when the http transport cannot know it.
    """
    from .transports.http import (
        HttpTransport,  # imports requests, which a process that only adds tasks never needs
    )

    caps: dict[str, Any] = {
        "reply_cap": settings.reply_excerpt,
        "connect_timeout": settings.connect_timeout,
    }
    remote: Transport = HttpTransport(**caps, objection=targets.objection)
    if transport == "http":
        url = base_url or settings.base_url or _server_url(app)
        if url is None:
            raise ConfigurationError(
                "the http transport must know where the application answers: set "
                "TASKQUEUE_BASE_URL "
                "(such as 'http://127.0.0.1:8000'), or SERVER_NAME, or use flask taskqueue "
                "run --base-url"
            )
        return Routes(own=HttpTransport(**caps), own_url=url, remote=remote)
    url = (
        settings.base_url
        or _server_url(app)
        or _trusted_url(app)
        or f"{app.config['PREFERRED_URL_SCHEME']}://localhost"
    )
    return Routes(own=WsgiTransport(app, url, settings.reply_excerpt), own_url="", remote=remote)


def _server_url(app: Flask) -> str | None:
    config = app.config
    if not config.get("SERVER_NAME"):
        return None
    root = (config.get("APPLICATION_ROOT") or "/").rstrip("/")
    return f"{config['PREFERRED_URL_SCHEME']}://{config['SERVER_NAME']}{root}"


def _trusted_url(app: Flask) -> str | None:
    """Return an address that TRUSTED_HOSTS lets through, or None."""
    trusted = app.config.get("TRUSTED_HOSTS") or []
    return f"{app.config['PREFERRED_URL_SCHEME']}://{trusted[0].lstrip('.')}" if trusted else None
