"""Access: who may do what."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from flask import Request
from werkzeug.exceptions import BadRequest

from ..core.settings.app import Settings
from ..runtime import Runtime
from ..web.access import COOKIE, asked, has_link, is_same

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def is_forged(
    method: str,
    *,
    host: str,
    fetch_site: str | None,
    origin: str | None,
    trusted: Collection[str] = (),
) -> bool:
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


logger = logging.getLogger("flask_taskqueue")

READ = frozenset({"view"})
SHOWING = frozenset({"view", "view_payload"})
PERMISSIONS = SHOWING | {"run", "requeue", "delete", "purge", "pause", "configure", "edit", "cron"}


@dataclass(frozen=True, slots=True)
class Access:
    """What whoever asks may do; nothing without permissions."""

    permissions: frozenset[str] = frozenset()
    user: str | None = None
    wants_password: bool = False
    """Whether a user and a password would open it."""

    def may(self, permission: str) -> bool:
        """Whether something is allowed."""
        return permission in self.permissions

    @property
    def is_read_only(self) -> bool:
        """Whether no action is allowed."""
        return self.permissions <= SHOWING


def access_of(runtime: Runtime, request: Request) -> Access:
    """What a request may do. Nothing, unless a function, a user with a password, or in debug
    the link opens the dashboard.
    """
    settings = runtime.settings
    permissions = _opened(runtime, request)
    if settings.dashboard_read_only:
        permissions &= SHOWING
    if "view" not in permissions:
        return Access(wants_password=settings.dashboard_username is not None)
    return Access(permissions, _user(settings, request))


def opens_by_link(runtime: Runtime) -> bool:
    """Whether the dashboard opens to whoever has its link: in debug, where nothing else says to
    whom.
    """
    settings = runtime.settings
    return (
        runtime.app.debug
        and settings.dashboard_access is None
        and settings.dashboard_username is None
    )


def _opened(runtime: Runtime, request: Request) -> frozenset[str]:
    settings = runtime.settings
    if settings.dashboard_access is not None:
        return _granted(asked(settings.dashboard_access, "TASKQUEUE_DASHBOARD_ACCESS"))
    if settings.dashboard_username is not None:
        return PERMISSIONS if _knows_password(settings, request) else frozenset()
    return (
        PERMISSIONS
        if opens_by_link(runtime) and has_link(runtime, request.cookies.get(COOKIE))
        else frozenset()
    )


def _granted(answer: Any) -> frozenset[str]:
    if answer is True or answer == "all":
        return PERMISSIONS
    if answer == "read":
        return READ
    if answer is None or answer is False:
        return frozenset()
    if (
        not isinstance(answer, str)
        and isinstance(answer, Collection)
        and PERMISSIONS.issuperset(answer)
    ):
        return frozenset(answer)
    logger.error(
        "TASKQUEUE_DASHBOARD_ACCESS returned a %s, so nothing is allowed; it must be True, "
        "'read', None or a set of some of %s",
        type(answer).__name__,
        ", ".join(sorted(PERMISSIONS)),
    )
    return frozenset()


def _knows_password(settings: Settings, request: Request) -> bool:
    """Both are compared in constant time, and always both."""
    given = request.authorization
    if given is None or given.type != "basic":
        return False
    pairs = (
        (given.username, settings.dashboard_username),
        (given.password, settings.dashboard_password),
    )
    return all([is_same(one, other or "") for one, other in pairs])


def _user(settings: Settings, request: Request) -> str | None:
    if settings.dashboard_user is not None:
        answer = asked(settings.dashboard_user, "TASKQUEUE_DASHBOARD_USER")
        return None if answer is None else str(answer)[:100]
    return (
        request.authorization.username
        if settings.dashboard_username is not None and request.authorization is not None
        else None
    )


_MAY_HOLD_NUL = frozenset({"body"})
"""What is text of the user's own; all other fields are names, numbers, ids and the like."""


def refuse_illegible(request: Request) -> None:
    """Raise BadRequest for a query that is no ASCII, as URLs are, and for a NUL where no text
    has one.
    """
    if not request.query_string.isascii():
        raise BadRequest("The query holds bytes that must be percent-encoded.")
    fields = [*request.args.items(multi=True), *request.form.items(multi=True)]
    if "\0" in request.path or any(
        "\0" in name or ("\0" in value and name not in _MAY_HOLD_NUL) for name, value in fields
    ):
        raise BadRequest("The request holds a NUL, which is in no name, id, number or URL.")
