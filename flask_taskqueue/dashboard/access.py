"""Access: who may do what."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from flask import Flask, Request
from werkzeug.exceptions import HTTPException

from ..core.config import Settings

logger = logging.getLogger("flask_taskqueue")

READ = frozenset({"view"})
SHOWING = frozenset({"view", "view_payload"})
PERMISSIONS = SHOWING | {"run", "requeue", "delete", "purge", "pause", "configure", "edit", "cron"}
_PROXIED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")


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


def access_of(app: Flask, settings: Settings, request: Request) -> Access:
    """What a request may do. Nothing, unless a function, a user with a password, or debug on this machine opens the dashboard."""
    permissions = _opened(app, settings, request)
    if settings.dashboard_read_only:
        permissions &= SHOWING
    if "view" not in permissions:
        return Access(wants_password=settings.dashboard_username is not None)
    return Access(permissions, _user(settings, request))


def _opened(app: Flask, settings: Settings, request: Request) -> frozenset[str]:
    if settings.dashboard_access is not None:
        return _granted(_answer(settings.dashboard_access, "TASKQUEUE_DASHBOARD_ACCESS"))
    if settings.dashboard_username is not None:
        return PERMISSIONS if _knows_password(settings, request) else frozenset()
    return PERMISSIONS if app.debug and _is_local(request) else frozenset()


def _answer(function: Any, key: str) -> Any:
    """What the application's function says; an error in it closes the door, whatever kind it is."""
    try:
        return function()
    except HTTPException:
        raise  # a redirect to a login, say
    except Exception:
        logger.exception("%s failed, so nothing is allowed", key)
        return None


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
    same = [hmac.compare_digest((one or "").encode(), (other or "").encode()) for one, other in pairs]
    return all(same)


def _is_local(request: Request) -> bool:
    """Whether a browser of this machine asks, by a name of this machine: a foreign name may lead here too."""
    host = request.host.rpartition(":")[0] if request.host.rpartition(":")[2].isdigit() else request.host
    return _is_loopback(request.remote_addr) and (host == "localhost" or _is_loopback(host.strip("[]"))) and not _is_proxied(request)


def _is_loopback(address: str | None) -> bool:
    try:
        return ip_address(address or "").is_loopback
    except ValueError:
        return False


def _is_proxied(request: Request) -> bool:
    return any(name in request.headers for name in _PROXIED)


def _user(settings: Settings, request: Request) -> str | None:
    if settings.dashboard_user is not None:
        answer = _answer(settings.dashboard_user, "TASKQUEUE_DASHBOARD_USER")
        return None if answer is None else str(answer)[:100]
    return request.authorization.username if settings.dashboard_username is not None and request.authorization is not None else None
