"""Forged requests: told by the headers that a browser sets and a page cannot."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def is_forged(method: str, *, host: str, fetch_site: str | None, origin: str | None, trusted: Collection[str] = ()) -> bool:
    """Whether another site made a browser send this request.

    By Sec-Fetch-Site where it is sent (browsers leave it out on plain HTTP), else by Origin, which
    must name the host that was asked. A client that sends neither is no browser, so nobody can
    misuse what it knows.
    """
    if method in SAFE or (origin is not None and origin.lower() in trusted):
        return False
    if fetch_site is not None:
        return fetch_site not in ("same-origin", "none")
    return origin is not None and _host(origin) != host.lower()


def _host(origin: str) -> str | None:
    """The host and port of an origin; None for what is no origin, and so nobody's."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None
