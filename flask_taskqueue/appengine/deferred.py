"""App Engine's deferred module: ``from flask_taskqueue.appengine import deferred``.

A call is stored as JSON that names its function, and its arguments as values of known kinds. It
runs nothing but functions that the app's own modules, or those of ``TASKQUEUE_DEFERRED_MODULES``,
define.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flask import current_app, has_request_context, request

from ..core.errors import ConfigurationError, PermanentFailure, Retry
from ..runtime import live_runtimes
from ..web.guard import verified
from . import taskqueue
from .current import current_runtime
from .deferred_calls import DeferredCalls, set_log_level
from .deferred_route import URL, is_mounted, mount
from .errors import translated

__all__ = [
    "Error",
    "PermanentTaskFailure",
    "SingularTaskFailure",
    "application",
    "defer",
    "run",
    "serialize",
    "set_log_level",
]

_OPTIONS = ("countdown", "eta", "name", "target", "retry_options")


class Error(Exception):
    """The base of the exceptions of this module."""


class PermanentTaskFailure(Error, PermanentFailure):
    """Raise it in a deferred function when trying again is pointless: the task is dead.

    In App Engine such a task was deleted, with a traceback in the log.
    """


class SingularTaskFailure(Error, Retry):
    """Raise it in a deferred function to have it tried again, without a traceback in the log."""


def defer(obj: Any, /, *args: Any, **kwargs: Any) -> taskqueue.Task:
    """Add a task that calls a function, and return it.

    ``obj`` is a function of a module, a class method, or a method of a row of the app's database.
    The arguments are what JSON has, tuples, sets, bytes, dates and times, Decimal, UUID, members of
    an Enum, functions and classes of the app's modules, and rows, which are loaded again by their
    primary keys; lists and dicts hold any of these. ``_countdown``, ``_eta``, ``_name``,
    ``_target``, ``_retry_options``, ``_queue``, ``_url``, ``_headers`` and ``_transactional`` are
    those of `taskqueue.add`.

    Raises `taskqueue.InvalidTaskError`, which names the argument that cannot be stored, and
    whatever else `taskqueue.add` raises.
    """
    options = {name: kwargs.pop(f"_{name}", None) for name in _OPTIONS}
    url, queue = kwargs.pop("_url", URL), kwargs.pop("_queue", "default")
    headers = kwargs.pop("_headers", None) or {}
    transactional = kwargs.pop("_transactional", False)
    runtime = current_runtime()
    if url == URL and options["target"] is None:
        _check_mounted()
    with translated():
        body = DeferredCalls(runtime).write(obj, args, kwargs)
    task = taskqueue.Task(url=url, headers=headers, **options)
    task.set_body(
        body, "application/json" if isinstance(body, bytes) else "application/octet-stream"
    )
    return task.add(queue, transactional=transactional)


def serialize(obj: Any, /, *args: Any, **kwargs: Any) -> bytes:
    """Return the payload of a task that makes a call, for `run`.

    Raises `taskqueue.InvalidTaskError`, also for a call that would have to be pickled, because a
    pickle is signed for one task.
    """
    with translated():
        body = DeferredCalls(current_runtime()).write(obj, args, kwargs)
    if callable(body):
        raise taskqueue.InvalidTaskError("the call has to be pickled, which only defer() does")
    return body


def run(data: bytes) -> Any:
    """Make the call that the payload of a task holds, and return what it returns.

    Call it in a worker of your own for tasks with a ``_url``. Raises `PermanentTaskFailure` for
    anything that is no call of a function that may be called, and in a request that is not a
    delivery of this app.
    """
    runtime = current_runtime()
    if has_request_context() and verified(runtime.app, request) is None:
        raise PermanentTaskFailure(
            "this request is no delivery of the app's dispatcher, so its body is not run: answer "
            "it with @tasks.worker"
        )
    try:
        return DeferredCalls(runtime).run(data)
    except PermanentFailure as failure:
        if isinstance(failure, PermanentTaskFailure):
            raise
        raise PermanentTaskFailure(str(failure)) from failure


def application(environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer that App Engine's WSGI application is not needed: TaskQueue has the route already."""
    start_response("501 Not Implemented", [("Content-Type", "text/plain; charset=utf-8")])
    return [
        f"{URL} is a route of TaskQueue(app) already: take deferred.application away\n".encode()
    ]


def _check_mounted() -> None:
    if not is_mounted(current_app._get_current_object()):  # type: ignore[attr-defined]
        with translated():
            raise ConfigurationError(
                f"application {current_app.name!r} has no route {URL}, because it served its first "
                "request before its code imported deferred: import it where the app is made, or "
                "set TASKQUEUE_DEFERRED = 'json'"
            )


for _runtime in live_runtimes():
    if not _runtime.app._got_first_request:
        mount(_runtime.app, _runtime)
