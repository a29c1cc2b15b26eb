"""Opening: what lets a request see what is not for everybody. Never the address that it comes
from: by a proxy that is the proxy's.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable
from typing import Any

from flask import Request
from werkzeug.exceptions import HTTPException

from ..core.delivery.signatures import derive
from ..runtime import Runtime

logger: logging.Logger = logging.getLogger("flask_taskqueue")

PARAMETER = "key"
COOKIE = "taskqueue_dashboard"


def asked(function: Callable[[], Any], key: str) -> Any:
    """What the application's function, that setting ``key``, says; an error in it closes the
    door, whatever kind it is.
    """
    try:
        return function()
    except HTTPException:
        raise  # a redirect to a login, say
    except Exception:
        logger.exception("%s failed, so nothing is allowed", key)
        return None


def is_same(given: str | None, wanted: str) -> bool:
    """Whether a secret is the right one, compared in constant time."""
    return hmac.compare_digest((given or "").encode("utf-8", "replace"), wanted.encode())


def has_token(request: Request, token: str) -> bool:
    """Whether a request brings this bearer token."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and is_same(given, token)


def link_keys(runtime: Runtime) -> list[str]:
    """What opens the dashboard in debug, newest first: derived from the secret, so that reloads and
    processes agree.

    Raises `ConfigurationError` without a secret.
    """
    return [derive(secret, "flask-taskqueue/dashboard/v1").hex()[:32] for secret in runtime.secrets]


def has_link(runtime: Runtime, given: str | None) -> bool:
    """Whether this is what the link holds, or the cookie that it leaves."""
    return any([is_same(given, key) for key in link_keys(runtime)])
