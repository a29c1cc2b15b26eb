"""Access to the API: whoever has the token, or is let in by the app's function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Request
from werkzeug.exceptions import HTTPException

from ..core.rpc.status import Code, RpcError
from ..runtime import Runtime
from ..web.access import asked, has_token, is_forged, is_same

_CLOSED = (
    "closed: set TASKQUEUE_API_TOKEN, and give it as a bearer token or an API key, or "
    "TASKQUEUE_API_ACCESS"
)
WRONG = "the token is missing or wrong; it is TASKQUEUE_API_TOKEN"


def check_access(runtime: Runtime, request: Request) -> None:
    """Raise `RpcError` unless a request may use the API.

    The answer is never 401, at which Google's clients look for another token of their own.
    """
    token, access = runtime.settings.api_token, runtime.settings.api_access
    if token is not None and (
        has_token(request, token) or is_same(request.headers.get("X-Goog-Api-Key"), token)
    ):
        return
    if access is not None and _lets_in(access):
        if _is_of_another_site(request):
            raise RpcError(Code.PERMISSION_DENIED, "a page of another site has sent this request")
        return
    raise RpcError(Code.PERMISSION_DENIED, _CLOSED if token is None else WRONG)


def _lets_in(access: Callable[[], Any]) -> bool:
    """Return what the app's function says. Raises `RpcError` if it aborts, as with 401."""
    try:
        return asked(access, "TASKQUEUE_API_ACCESS") is True
    except HTTPException as error:
        raise RpcError(
            Code.PERMISSION_DENIED, "TASKQUEUE_API_ACCESS aborted the request, so it is refused"
        ) from error


def _is_of_another_site(request: Request) -> bool:
    """Return whether another site made a browser send a request, which needs no token here."""
    return is_forged(
        request.method,
        host=request.host,
        fetch_site=request.headers.get("Sec-Fetch-Site"),
        origin=request.headers.get("Origin"),
    )
