"""Access: what lets a request see pages that are not public.

The address that a request comes from never does, because behind a proxy it is the proxy's.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection
from typing import TypeVar
from urllib.parse import urlsplit

from flask import Request
from werkzeug.exceptions import HTTPException

from ..core.delivery.signatures import derive
from ..process.logs import get_logger
from ..runtime import Runtime

_logger = get_logger()

PARAMETER = "key"
COOKIE = "taskqueue_dashboard"

Answer = TypeVar("Answer")


def asked(function: Callable[[], Answer], key: str) -> Answer | None:
    """Return what a function of the application says, or None if it fails.

    ``key`` is the setting that holds the function. An error of any kind is logged and lets nobody
    in. HTTP exceptions, such as a redirect to a login, are passed on.
    """
    try:
        return function()
    except HTTPException:
        raise  # a redirect to a login, say
    except Exception:
        _logger.exception("%s failed, so nothing is allowed", key)
        return None


def is_same(given: str | None, wanted: str) -> bool:
    """Return whether a secret is the right one, comparing in constant time."""
    return hmac.compare_digest((given or "").encode("utf-8", "replace"), wanted.encode())


def has_token(request: Request, token: str) -> bool:
    """Return whether a request brings this bearer token."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and is_same(given, token)


def link_keys(runtime: Runtime) -> list[str]:
    """Return the keys that open the dashboard in debug mode, newest first.

    They are derived from the secret, so that reloads and processes agree. Raises
    `ConfigurationError` without a secret.
    """
    return [derive(secret, "flask-taskqueue/dashboard/v1").hex()[:32] for secret in runtime.secrets]


def has_link(runtime: Runtime, given: str | None) -> bool:
    """Return whether this is the key in the link, or the cookie that the link leaves."""
    return any([is_same(given, key) for key in link_keys(runtime)])


SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def is_forged(
    method: str,
    *,
    host: str,
    fetch_site: str | None,
    origin: str | None,
    trusted: Collection[str] = (),
) -> bool:
    """Return whether another site made a browser send this request.

    It looks at Sec-Fetch-Site or, where browsers leave that out (plain HTTP), at Origin, which
    must name the requested host. A client that sends neither is not a browser, so no other site
    can misuse its credentials.
    """
    if method in SAFE or (origin is not None and origin.lower() in trusted):
        return False
    if fetch_site is not None:
        return fetch_site not in ("same-origin", "none")
    return origin is not None and _host(origin) != host.lower()


def _host(origin: str) -> str | None:
    """Return the host and port of an origin; None if it is not an origin."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None
