"""Access: who may do what."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from flask import Request

from ..core.config import Settings
from ..runtime import Runtime
from ..web.opening import COOKIE, asked, has_link, is_same

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
    """What a request may do. Nothing, unless a function, a user with a password, or in debug the link opens the dashboard."""
    settings = runtime.settings
    permissions = _opened(runtime, request)
    if settings.dashboard_read_only:
        permissions &= SHOWING
    if "view" not in permissions:
        return Access(wants_password=settings.dashboard_username is not None)
    return Access(permissions, _user(settings, request))


def opens_by_link(runtime: Runtime) -> bool:
    """Whether the dashboard opens to whoever has its link: in debug, where nothing else says to whom."""
    settings = runtime.settings
    return runtime.app.debug and settings.dashboard_access is None and settings.dashboard_username is None


def _opened(runtime: Runtime, request: Request) -> frozenset[str]:
    settings = runtime.settings
    if settings.dashboard_access is not None:
        return _granted(asked(settings.dashboard_access, "TASKQUEUE_DASHBOARD_ACCESS"))
    if settings.dashboard_username is not None:
        return PERMISSIONS if _knows_password(settings, request) else frozenset()
    return PERMISSIONS if opens_by_link(runtime) and has_link(runtime, request.cookies.get(COOKIE)) else frozenset()


def _granted(answer: Any) -> frozenset[str]:
    if answer is True or answer == "all":
        return PERMISSIONS
    if answer == "read":
        return READ
    if answer is None or answer is False:
        return frozenset()
    if not isinstance(answer, str) and isinstance(answer, Collection) and PERMISSIONS.issuperset(answer):
        return frozenset(answer)
    logger.error(
        "TASKQUEUE_DASHBOARD_ACCESS returned a %s, so nothing is allowed; it must be True, 'read', None or a set of some of %s",
        type(answer).__name__,
        ", ".join(sorted(PERMISSIONS)),
    )
    return frozenset()


def _knows_password(settings: Settings, request: Request) -> bool:
    """Both are compared in constant time, and always both."""
    given = request.authorization
    if given is None or given.type != "basic":
        return False
    pairs = ((given.username, settings.dashboard_username), (given.password, settings.dashboard_password))
    return all([is_same(one, other or "") for one, other in pairs])


def _user(settings: Settings, request: Request) -> str | None:
    if settings.dashboard_user is not None:
        answer = asked(settings.dashboard_user, "TASKQUEUE_DASHBOARD_USER")
        return None if answer is None else str(answer)[:100]
    return request.authorization.username if settings.dashboard_username is not None and request.authorization is not None else None
