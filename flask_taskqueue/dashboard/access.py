"""Access to the dashboard: who may do what."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import Request
from werkzeug.exceptions import BadRequest

from ..core.settings.app import Settings
from ..process.logs import get_logger
from ..runtime import Runtime
from ..web.access import COOKIE, asked, has_link, is_same

_logger = get_logger()

READ = frozenset({"view"})
SHOWING = frozenset({"view", "view_payload"})
PERMISSIONS = SHOWING | {"run", "requeue", "delete", "purge", "pause", "configure", "edit", "cron"}


@dataclass(frozen=True, slots=True)
class Access:
    """The permissions of whoever sends a request: none, unless they are granted."""

    permissions: frozenset[str] = frozenset()
    user: str | None = None
    wants_password: bool = False
    """Whether a user name and a password would give access."""

    def may(self, permission: str) -> bool:
        """Return whether the permission is granted."""
        return permission in self.permissions

    @property
    def is_read_only(self) -> bool:
        """Whether no action is allowed."""
        return self.permissions <= SHOWING


def access_of(runtime: Runtime, request: Request) -> Access:
    """Return what a request may do.

    Nothing, unless a function, a user name with password or, in debug, the link gives access.
    """
    settings = runtime.settings
    permissions = _permissions(runtime, request)
    if settings.dashboard_read_only:
        permissions &= SHOWING
    if "view" not in permissions:
        return Access(wants_password=settings.dashboard_username is not None)
    return Access(permissions, _user(settings, request))


def opens_by_link(runtime: Runtime) -> bool:
    """Return whether the link opens the dashboard: in debug, unless a setting says who may."""
    settings = runtime.settings
    return (
        runtime.app.debug
        and settings.dashboard_access is None
        and settings.dashboard_username is None
    )


def _permissions(runtime: Runtime, request: Request) -> frozenset[str]:
    settings = runtime.settings
    if settings.dashboard_access is not None:
        granted = partial(_granted, settings.dashboard_access)
        return asked(granted, "TASKQUEUE_DASHBOARD_ACCESS") or frozenset()
    if settings.dashboard_username is not None:
        return PERMISSIONS if _knows_password(settings, request) else frozenset()
    return (
        PERMISSIONS
        if opens_by_link(runtime) and has_link(runtime, request.cookies.get(COOKIE))
        else frozenset()
    )


def _granted(access: Callable[[], Any]) -> frozenset[str]:
    answer = access()
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
    _logger.error(
        "TASKQUEUE_DASHBOARD_ACCESS returned a %s, so nothing is allowed; it must be True, "
        "'read', None or a set of permissions out of %s",
        type(answer).__name__,
        ", ".join(sorted(PERMISSIONS)),
    )
    return frozenset()


def _knows_password(settings: Settings, request: Request) -> bool:
    """Compare both in constant time, and always both."""
    given = request.authorization
    if given is None or given.type != "basic":
        return False
    pairs = (
        (given.username, settings.dashboard_username),
        (given.password, settings.dashboard_password),
    )
    return all([is_same(sent, expected or "") for sent, expected in pairs])


def _named(user: Callable[[], Any]) -> str | None:
    answer = user()
    return None if answer is None else str(answer)[:100]


def _user(settings: Settings, request: Request) -> str | None:
    if settings.dashboard_user is not None:
        return asked(partial(_named, settings.dashboard_user), "TASKQUEUE_DASHBOARD_USER")
    return (
        request.authorization.username
        if settings.dashboard_username is not None and request.authorization is not None
        else None
    )


_MAY_HOLD_NUL = frozenset({"body"})
"""Free text of the user; all other fields are names, numbers, ids and the like."""


def refuse_illegible(request: Request) -> None:
    """Raise BadRequest for a query that is not ASCII, and for a NUL outside of free text."""
    if not request.query_string.isascii():
        raise BadRequest("The query holds bytes that must be percent-encoded.")
    fields = [*request.args.items(multi=True), *request.form.items(multi=True)]
    if "\0" in request.path or any(
        "\0" in name or ("\0" in value and name not in _MAY_HOLD_NUL) for name, value in fields
    ):
        raise BadRequest("The request holds a NUL, which is in no name, id, number or URL.")
