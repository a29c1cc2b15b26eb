"""Calls of handlers, as tasks store them and as they are made."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, current_app, make_response, request
from werkzeug.wsgi import FileWrapper

from ..core.arguments.functions import name_of
from ..core.arguments.results import is_context
from ..core.delivery import verdict as verdicts
from ..core.delivery.verdict import Verdict
from ..core.errors import InvalidTaskError, PermanentFailure, shown
from ..core.tasks.request import FORM, JSON, WITHOUT_BODY
from ..core.tasks.spec import SpecOptions, TaskSpec
from ..process.interrupts import run_async

if TYPE_CHECKING:
    from .worker import Worker

_IN_MEMORY = 1_048_576
"""The most bytes of a body that are kept in memory until it is sent."""


def spec_of(
    worker: Worker[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], options: SpecOptions
) -> TaskSpec:
    """Return the task of a call with these arguments.

    It is a form if a form can express the arguments exactly, and JSON otherwise. Raises TypeError
    and `InvalidTaskError` as `Arguments.write` does.
    """
    if worker.events:
        name = name_of(worker.function)
        raise InvalidTaskError(
            f"handler {name} takes a CloudEvent, which has the id of its task: write "
            f"tasks.add({name}, json=..., event={{'type': ..., 'source': ...}})"
        )
    params, body = worker.arguments.write(args, kwargs, form=_only_form(worker, options))
    headers = options.get("headers") or worker.route.options.get("headers")
    if headers is not None and params is not None:
        _check_content_type(headers, FORM if body is None else JSON)
    if body is not None:
        options = {**options, "json": body}
    return TaskSpec(worker, params, **options)


def awaited(result: Any) -> Any:
    """Return what a handler returned, or its result if that is awaitable.

    An async function behind a plain decorator, for example, returns an awaitable.
    """
    return (
        run_async(current_app.ensure_sync, _await(result))
        if inspect.isawaitable(result)
        else result
    )


def response_of(result: Any, function: Callable[..., Any]) -> Response:
    """Return the response to what a handler returned.

    Raises `PermanentFailure` for an async generator or a context manager made from a generator,
    whose body nobody would run.
    """
    if result is not None:
        result = awaited(result)
    if result is None:
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        return app.response_class(status=204)
    if inspect.isasyncgen(result) or is_context(result):
        raise not_run(function, result, result)
    return make_response(result)


def returned(response: Response) -> Verdict:
    """Return the verdict on a view that returned this response.

    The response's body is run to its end first, so that a failure in it counts as the view's; but a
    file, in which nothing of the view runs, is read when it is sent. Raises `PermanentFailure` for
    a status that no response can have.
    """
    if not response.is_sequence and not _is_file(response):
        _run_body(response)
    status = response.status_code
    if not 100 <= status <= 999:
        raise PermanentFailure(
            f"the handler returned the status {shown(status)}; a status is a number from 100 to "
            "999, the second of what a view returns: return a body, (body, status) or (body, "
            "status, headers)"
        )
    return (
        verdicts.returned(status)
        if 200 <= status < 300
        else verdicts.returned(status, response.headers.get("Retry-After"))
    )


def _run_body(response: Response) -> None:
    """Run the body of a response to its end, and keep what it gives, a large one in a file."""
    response.direct_passthrough = False
    spool = SpooledTemporaryFile(max_size=_IN_MEMORY)
    body = response.response
    try:
        for piece in response.iter_encoded():
            spool.write(piece)
        size = spool.tell()
        spool.seek(0)
        response.response = [spool.read()] if size <= _IN_MEMORY else FileWrapper(spool)
    except BaseException:
        spool.close()
        raise
    finally:
        if hasattr(body, "close"):
            body.close()
    response.call_on_close(spool.close)


def _is_file(response: Response) -> bool:
    """Return whether the body is a file, wrapped by werkzeug or by the server (PEP 3333)."""
    server = request.environ.get("wsgi.file_wrapper")
    return isinstance(
        response.response, (FileWrapper, server) if isinstance(server, type) else FileWrapper
    )


def not_run(function: Callable[..., Any], result: Any, part: Any) -> PermanentFailure:
    """Return the failure for a result with a part whose work nobody would do."""
    within = "" if part is result else f" in a {type(result).__name__}"
    return PermanentFailure(
        f"{name_of(function)} returned a {type(part).__name__}{within}, whose work has not run or "
        "has not been waited for: run it to its end in the function (call it, or list(), await, "
        "future.result()), and return what comes of it"
    )


def json_object(otherwise: str) -> dict[str, Any]:
    """Return the JSON object in the request's body.

    It is read as it was written, whatever JSON provider the application has. Raises
    `PermanentFailure` for any other body.
    """
    try:
        found = json.loads(request.get_data())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise PermanentFailure(f"the body is not a JSON object, so {otherwise}")
    return found


async def _await(result: Any) -> Any:
    while inspect.isawaitable(result):
        result = await result
    return result


def _only_form(worker: Worker[..., Any], options: SpecOptions) -> str | None:
    """Return the name of the part that must hold the arguments if JSON is not possible.

    None if JSON is possible.
    """
    method = str(options.get("method") or worker.route.methods[0]).upper()
    if method in WITHOUT_BODY:
        return f"the query of a {method}"
    return (
        "a form beside a body of its own"
        if "json" in options or options.get("payload") is not None
        else None
    )


def _check_content_type(headers: object, kind: str) -> None:
    for name, value in headers.items() if isinstance(headers, Mapping) else ():
        if (
            str(name).lower() == "content-type"
            and str(value).partition(";")[0].strip().lower() != kind
        ):
            raise InvalidTaskError(
                "headers have a Content-Type of their own, but the arguments are sent as "
                f"{kind}: leave it out"
            )
