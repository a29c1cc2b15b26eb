"""The address at which deliveries call the app's own routes."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Flask

from ..core.settings.app import Settings

_STANDARD_PORTS = {"http": ":80", "https": ":443"}


def in_process_url(app: Flask, settings: Settings) -> str:
    """Return the address that the app believes to have when it is called in this process."""
    return (
        settings.base_url
        or server_url(app)
        or _trusted_url(app)
        or f"{app.config['PREFERRED_URL_SCHEME']}://localhost{_root(app)}"
    )


def server_url(app: Flask) -> str | None:
    """Return the address that SERVER_NAME gives, or None."""
    config = app.config
    if not config.get("SERVER_NAME"):
        return None
    return f"{config['PREFERRED_URL_SCHEME']}://{config['SERVER_NAME']}{_root(app)}"


def own_subdomain(app: Flask, settings: Settings) -> str:
    """Return the subdomain on which the app gets the deliveries to its own routes; "" is none."""
    return subdomain_of(app, in_process_url(app, settings))


def subdomain_of(app: Flask, url: str) -> str:
    """Return the subdomain on which the app matches requests for a URL; "" is none.

    Of a host that is not below SERVER_NAME, it is none, because there the app matches nothing.
    """
    if not app.subdomain_matching:
        return app.url_map.default_subdomain
    scheme, host, *_ = urlsplit(url.lower())
    port = _STANDARD_PORTS.get(scheme, "")
    server = (app.config.get("SERVER_NAME") or "").lower().removesuffix(port)
    above = f".{server}"
    host = host.removesuffix(port)
    return host.removesuffix(above) if server and host.endswith(above) else ""


def _trusted_url(app: Flask) -> str | None:
    """Return an address that TRUSTED_HOSTS lets through, or None."""
    trusted = app.config.get("TRUSTED_HOSTS") or []
    if not trusted:
        return None
    return f"{app.config['PREFERRED_URL_SCHEME']}://{trusted[0].lstrip('.')}{_root(app)}"


def _root(app: Flask) -> str:
    return (app.config.get("APPLICATION_ROOT") or "/").rstrip("/")
