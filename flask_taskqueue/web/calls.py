"""Calls of handlers, as tasks store them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flask import request

from ..core.arguments.functions import name_of
from ..core.errors import InvalidTaskError, PermanentFailure
from ..core.tasks.request import FORM, JSON, WITHOUT_BODY
from ..core.tasks.spec import SpecOptions, TaskSpec

if TYPE_CHECKING:
    from .worker import Worker


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
