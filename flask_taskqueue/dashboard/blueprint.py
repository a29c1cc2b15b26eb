"""The blueprint: its pages and actions, and what holds for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, current_app, g, redirect, request, url_for
from werkzeug.exceptions import Forbidden, HTTPException, NotFound
from werkzeug.wrappers import Response as BaseResponse

from ..api.audit import printable
from ..core.errors import (
    TablesMissingError,
    TaskQueueError,
    TransientError,
    UnknownQueueError,
    UnknownScheduleError,
    UnknownTaskError,
)
from ..core.version import __version__
from ..runtime import Runtime
from ..web.access import COOKIE, PARAMETER, has_link, is_forged
from . import cron, errors, handlers, overview, queues, saved, system, task, tasks
from .access import Access, access_of, opens_by_link, refuse_illegible
from .audit import carry_out
from .rendering import CompletedAction, Page, PlannedAction, respond, root_path, wants_json

NAME = "taskqueue_dashboard"
_TASK = "<string(length=26):task_id>"

PAGES: tuple[tuple[str, str, str, Callable[..., Page]], ...] = (
    ("/", "overview", "Overview", overview.page),
    ("/queues", "queues", "Queues", queues.page),
    ("/tasks", "tasks", "Tasks", tasks.page),
    (f"/tasks/{_TASK}", "task", "", task.page),
    ("/handlers", "handlers", "Handlers", handlers.page),
    ("/errors", "errors", "Errors", errors.page),
    ("/cron", "cron", "Cron", cron.page),
    ("/system", "system", "System", system.page),
)
"""URL rule, endpoint, name in the navigation ("" for none), and the page function."""

ACTIONS: tuple[tuple[str, str, str, Callable[..., PlannedAction]], ...] = (
    ("/queues/<queue>/pause", "pause_queue", "pause", queues.pause),
    ("/queues/<queue>/resume", "resume_queue", "pause", queues.resume),
    ("/queues/<queue>/purge", "purge_queue", "purge", queues.purge),
    ("/queues/<queue>/requeue", "requeue_dead", "requeue", queues.requeue_dead),
    ("/queues/<queue>/configure", "configure_queue", "configure", queues.configure),
    ("/circuits/<path:target>/close", "close_circuit", "pause", queues.close_circuit),
    ("/errors/<group>/requeue", "requeue_group", "requeue", errors.requeue),
    ("/errors/<group>/run", "run_group", "run", errors.run),
    ("/cron/add", "add_cron", "edit", cron.add),
    ("/cron/change", "change_cron", "edit", cron.change),
    ("/cron/delete", "delete_cron", "edit", cron.delete),
    ("/cron/pause", "pause_cron", "cron", cron.pause),
    ("/cron/resume", "resume_cron", "cron", cron.resume),
    ("/cron/run", "run_cron", "cron", cron.run),
    ("/queues/add", "add_queue", "configure", queues.add),
    ("/queues/<queue>/change", "change_queue", "configure", queues.change),
    ("/queues/<queue>/delete", "delete_queue", "purge", queues.delete),
    ("/tasks/requeue", "requeue_tasks", "requeue", tasks.requeue),
    ("/tasks/run", "run_tasks", "run", tasks.run),
    ("/tasks/delete", "delete_tasks", "delete", tasks.delete),
    (f"/tasks/{_TASK}/requeue", "requeue_task", "requeue", task.requeue),
    (f"/tasks/{_TASK}/run", "run_task", "run", task.run),
    (f"/tasks/{_TASK}/delete", "delete_task", "delete", task.delete),
    (f"/tasks/{_TASK}/copy", "copy_task", "edit", task.copy),
)
"""URL rule, endpoint, the permission it requires, and the function that plans the action."""

CHOICES: tuple[tuple[str, str, Callable[[], BaseResponse]], ...] = (
    ("/tasks/filters", "save_filter", saved.save),
    ("/tasks/filters/forget", "forget_filter", saved.forget),
)
"""URL rule, endpoint and function of what changes nothing but a cookie: whoever may look may."""

_SECTIONS = {endpoint: name for _, endpoint, name, _ in PAGES if name}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src "
    "'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # with no-referrer browsers would send "Origin: null", which matches no host
    "Referrer-Policy": "same-origin",
}
_BY_LINK = (
    "You have no access to the dashboard. In debug, open it with the link that flask run prints "
    "when it starts; otherwise set TASKQUEUE_DASHBOARD_ACCESS, or a user and a password."
)
_UNKNOWN = (UnknownQueueError, UnknownScheduleError, UnknownTaskError)


def blueprint() -> Blueprint:
    """Return a blueprint with all pages and actions."""
    made = Blueprint(NAME, __name__, static_folder="static")
    for rule, endpoint, _, page in PAGES:
        view = _page_view(page)
        for path in (rule, f"{rule}.json" if rule != "/" else f"/{endpoint}.json"):
            made.add_url_rule(path, endpoint, view)
    for rule, endpoint, permission, action in ACTIONS:
        made.add_url_rule(rule, endpoint, _action_view(permission, action), methods=["POST"])
    for rule, endpoint, choice in CHOICES:
        made.add_url_rule(rule, endpoint, choice, methods=["POST"])
    made.before_request(_check)
    made.after_request(_harden)
    made.register_error_handler(HTTPException, _explain_refusal)
    made.register_error_handler(TaskQueueError, _explain_error)
    return made


def _check() -> BaseResponse | None:
    """Refuse anyone without access, for every page, action and static file."""
    g.taskqueue_started = time.perf_counter()
    # if an app context outlives its request, the one of the request before is still there
    g.pop("taskqueue_access", None)
    refuse_illegible(request)
    runtime = _runtime()
    _refuse_forged(runtime)
    if opens_by_link(runtime) and has_link(runtime, request.args.get(PARAMETER)):
        return _keep_key(request.args[PARAMETER])
    access = access_of(runtime, request)
    g.taskqueue_access = replace(access, user=access.user and printable(access.user, 100))
    if not access.may("view"):
        raise _closed(access, by_link=opens_by_link(runtime))
    return None


def _refuse_forged(runtime: Runtime) -> None:
    headers = request.headers
    if is_forged(
        request.method,
        host=request.host,
        fetch_site=headers.get("Sec-Fetch-Site"),
        origin=headers.get("Origin"),
        trusted=runtime.settings.dashboard_trusted_origins,
    ):
        raise Forbidden(
            "This request comes from another site. If it does not, a proxy rewrites the Host "
            "header: use ProxyFix, or name the origin in TASKQUEUE_DASHBOARD_TRUSTED_ORIGINS."
        )


def _closed(access: Access, *, by_link: bool) -> HTTPException:
    """Return the refusal for someone who may not even look."""
    if access.wants_password:
        return HTTPException(
            response=Response(
                "Please log in with a user and a password.",
                401,
                {"WWW-Authenticate": 'Basic realm="taskqueue"'},
            )
        )
    if by_link:
        return Forbidden(_BY_LINK)
    return Forbidden(
        "You have no access to the dashboard. TASKQUEUE_DASHBOARD_ACCESS, or a user and a "
        "password, give it."
    )


def _keep_key(key: str) -> BaseResponse:
    """Keep the key of the link in a cookie, and redirect to an address without it."""
    response = redirect(url_for(f"{NAME}.overview"), 303)
    response.set_cookie(
        COOKIE,
        key,
        path=root_path().rstrip("/"),
        secure=request.is_secure,
        httponly=True,
        samesite="Lax",
    )
    return response


def _page_view(page: Callable[..., Page]) -> Callable[..., Response]:
    def look(**variables: Any) -> Response:
        return respond(_runtime(), page(_runtime(), **variables), _SECTIONS)

    def view(**variables: Any) -> Response:
        try:
            return look(**variables)
        except TransientError:  # by a connection, perhaps, that was closed while it lay idle
            return look(**variables)

    return view


def _action_view(
    permission: str, action: Callable[..., PlannedAction]
) -> Callable[..., BaseResponse]:
    def view(**variables: Any) -> BaseResponse:
        if not g.taskqueue_access.may(permission):
            raise Forbidden(f"You may not do that: it requires the permission {permission!r}.")
        runtime = _runtime()
        return redirect(_next_url(carry_out(runtime, action(runtime, **variables))), 303)

    return view


def _next_url(done: CompletedAction) -> str:
    """Return the page to show next, with what was done; it is never on another site."""
    root = root_path()
    asked = done.target or request.form.get("back", "")
    try:
        parts = urlsplit(asked)
    except ValueError:
        parts = urlsplit("")
    inside = (
        not parts.scheme and not parts.netloc and parts.path.startswith(root) and "\\" not in asked
    )
    path, query = (parts.path, parts.query) if inside else (root, "")
    kept = [pair for pair in query.split("&") if pair and not pair.startswith(("did=", "count="))]
    return f"{path}?{'&'.join([*kept, f'did={done.name}', f'count={int(done.changed)}'])}"


def _harden(response: Response) -> Response:
    response.headers.update(_HEADERS)
    is_asset = (
        response.status_code == 200
        and request.endpoint == f"{NAME}.static"
        and request.args.get("v") == __version__
    )
    response.headers["Cache-Control"] = (
        "private, max-age=31536000, immutable" if is_asset else "no-store"
    )
    return response


def _explain_refusal(error: HTTPException) -> BaseResponse:
    if error.response is not None:
        return error.get_response()
    return _explained(error.code or 500, error.name, error.description or "")


def _explain_error(error: TaskQueueError) -> BaseResponse:
    if isinstance(error, TransientError | TablesMissingError):
        return _explained(503, "The database is not available", f"{error}.")
    status = NotFound.code if isinstance(error, _UNKNOWN) else 409
    return _explained(status, "Not found" if status == 404 else "That did not work", str(error))


def _explained(status: int, name: str, text: str) -> BaseResponse:
    """Return a refusal in words, as a page only for those who may see pages."""
    access = g.get("taskqueue_access")
    if access is None or not access.may("view") or (status >= 500 and status != 503):
        return Response(f"{name}. {text}\n", status, mimetype="text/plain")
    data = {"error": text, "name": name}
    if wants_json():
        return respond(
            _runtime(), Page(template="", title=name, data=data, status=status), _SECTIONS
        )
    return respond(
        _runtime(), Page(template="refusal.html", title=name, data=data, status=status), _SECTIONS
    )


def _runtime() -> Runtime:
    runtime: Runtime = current_app.extensions["taskqueue"]
    return runtime
