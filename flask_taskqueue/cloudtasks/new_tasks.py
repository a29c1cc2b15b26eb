"""New tasks, made from the messages in which Cloud Tasks' clients describe them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from ..core.delivery.surface import Surface
from ..core.errors import shown
from ..core.rpc.messages import Fields
from ..core.rpc.resource_names import QueueName, task_name
from ..core.rpc.status import invalid
from ..core.tasks.request import WITHOUT_BODY, TaskRequest, check_headers
from ..core.tasks.spec import NewTask, SpecOptions
from ..core.urls import check_absolute, normal
from ..engine.own_address import server_url
from ..runtime import FindQueue, Runtime
from .context import required
from .retry_config import retry_options

_FURTHEST = timedelta(hours=720)
_DEADLINES = {"http": (15.0, 1800.0), "appengine": (15.0, 86_400.0)}
_DEADLINE = 600.0
_DROPPED = ("host", "content-length")
_DROPPED_PREFIXES = ("x-google-", "x-appengine-", "x-cloudtasks-")
_ACCOUNT = re.compile(r"[\x21-\x7e]{1,320}", re.ASCII)
_AUDIENCE = re.compile(r"[\x21-\x7e]{1,2083}", re.ASCII)
_KINDS = {"httpRequest": "http", "appEngineHttpRequest": "appengine"}
_OCTETS = "application/octet-stream"


def new_task(runtime: Runtime, queue: QueueName, task: Fields, find_queue: FindQueue) -> NewTask:
    """Return the task that a message describes.

    Raises `RpcError`, and `InvalidTaskError` and its subclasses.
    """
    given = [name for name in _KINDS if name in task]
    if len(given) != 1:
        raise invalid("a task needs either httpRequest or appEngineHttpRequest.")
    kind, target = _KINDS[given[0]], task[given[0]]
    options: SpecOptions = {"queue": queue.queue, "deadline": _deadline(task, kind)}
    if task.get("name"):
        options["name"] = _own_name(task["name"], queue)
    if (eta := _eta(task)) is not None:
        options["eta"] = eta
    if "retryConfig" in task:
        options["retry"] = retry_options(task["retryConfig"])
    oidc = None
    if kind == "http":
        url, oidc = own_or_absolute(runtime, required(target, "url")), _oidc(target)
    else:
        url = _path(target.get("relativeUri") or "/")
        service = _service(target.get("appEngineRouting", {}))
        if service is not None or runtime.settings.services["default"] is not None:
            options["target"] = service or "default"
    method, body = target.get("httpMethod", "POST"), target.get("body", b"")
    if body and method in WITHOUT_BODY:
        raise invalid(f"a {method} has no body: leave it out.")
    request = TaskRequest(method, url, check_headers(_headers(target, kind)), body)
    surface = Surface(api="cloudtasks", kind=kind, oidc=oidc)
    return runtime.new_task_of(request, options, surface.to_json(), find_queue=find_queue)


def own_or_absolute(runtime: Runtime, url: str) -> str:
    """Return the path of a URL that is the app's own, and any other URL as it is.

    The app's own are those below ``TASKQUEUE_BASE_URL``, or below SERVER_NAME. Their tasks are run
    in process, by routes that nobody else may call. Raises `InvalidUrlError`.
    """
    base = own_url(runtime)
    place = check_absolute(url)
    if base is None or place != check_absolute(base):
        return url
    ours, parts = urlsplit(normal(base)), urlsplit(normal(url))
    path = parts.path or "/"
    prefix = ours.path.rstrip("/")
    if parts.scheme != ours.scheme or not (path == prefix or path.startswith(f"{prefix}/")):
        return url
    return (path[len(prefix) :] or "/") + (f"?{parts.query}" if parts.query else "")


def own_url(runtime: Runtime) -> str | None:
    """Return where the app answers, without a slash at its end; None if no setting says it."""
    found = runtime.settings.base_url or server_url(runtime.app)
    return None if found is None else found.rstrip("/")


def _path(uri: str) -> str:
    if not uri.startswith("/"):
        raise invalid(f"relativeUri is {shown(uri)}; it must begin with a slash.")
    return uri


def _own_name(name: str, queue: QueueName) -> str:
    found = task_name(name, "task.name")
    if found.queue != queue:
        raise invalid(f"task.name is in queue {found.queue}, but parent is {queue}.")
    return found.task


def _eta(task: Fields) -> datetime | None:
    """Return when the task may begin; None for at once, as for a time that has passed."""
    when: datetime | None = task.get("scheduleTime")
    now = datetime.now(UTC)
    if when is None or when <= now:
        return None
    if when - now > _FURTHEST:
        raise invalid("Task.scheduleTime must be at most 720h in the future.")
    return when


def _deadline(task: Fields, kind: str) -> float:
    seconds = task.get("dispatchDeadline", timedelta()).total_seconds()
    low, high = _DEADLINES[kind]
    if not seconds and (kind == "appengine" or "dispatchDeadline" not in task):
        return _DEADLINE
    if not low <= seconds <= high:
        upper = "30m" if kind == "http" else "24h"
        raise invalid(f"Task.dispatchDeadline must be between [15s, {upper}].")
    return float(seconds)


def _headers(target: Fields, kind: str) -> dict[str, str]:
    """Return the headers without those that Cloud Tasks sets itself.

    A body for App Engine has a type unless the task says so; any other is sent as it is.
    """
    given: Mapping[str, str] = target.get("headers", {})
    dropped = _DROPPED if kind == "appengine" else (*_DROPPED, "user-agent")
    kept = {
        name: value
        for name, value in given.items()
        if name.lower() not in dropped and not name.lower().startswith(_DROPPED_PREFIXES)
    }
    typed = any(name.lower() == "content-type" for name in kept)
    if kind == "appengine" and target.get("body") and not typed:
        kept["Content-Type"] = _OCTETS
    return kept


def _oidc(target: Fields) -> Mapping[str, str] | None:
    """Return the account and the audience of the token that deliveries are to carry."""
    if "oauthToken" in target:
        raise invalid(
            "httpRequest.oauthToken is not supported: nobody but Google makes such tokens. Use "
            "oidcToken, or a header of your own."
        )
    token: Fields | None = target.get("oidcToken")
    if token is None:
        return None
    account, audience = token.get("serviceAccountEmail", ""), token.get("audience") or None
    if not _ACCOUNT.fullmatch(account):
        raise invalid(f"oidcToken.serviceAccountEmail is {shown(account)}; it must be an account.")
    if audience is not None and not _AUDIENCE.fullmatch(audience):
        raise invalid(f"oidcToken.audience is {shown(audience)}; it must be printable ASCII.")
    return {"email": account} | ({} if audience is None else {"audience": audience})


def _service(routing: Fields) -> str | None:
    """Return the name of the service that an App Engine task goes to; None for the default one."""
    if routing.get("instance"):
        raise invalid("appEngineRouting.instance is not supported: name a service or a version.")
    parts: list[Any] = [routing.get("version"), routing.get("service")]
    return ".".join(part for part in parts if part) or None
