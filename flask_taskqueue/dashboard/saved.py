"""Saved filters: lists of tasks that a user has named, kept in a cookie of the browser."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Response, redirect, request, url_for
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response as BaseResponse

from ..api.audit import printable
from .rendering import root_path
from .selection import FIELDS

_COOKIE = "taskqueue_filters"
_YEAR = 365 * 86_400
_MOST = 12
_LONGEST_NAME = 40
_LONGEST_VALUE = 500
_ROOM = 3000
_ARGUMENTS = ("state", *FIELDS)


@dataclass(frozen=True, slots=True)
class SavedFilter:
    """A named list, with the arguments of its URL."""

    name: str
    arguments: Mapping[str, str]


def saved_filters() -> list[SavedFilter]:
    """Return the filters of the browser that sends the request.

    The cookie may hold anything; what is no filter is left out.
    """
    try:
        text = base64.urlsafe_b64decode(request.cookies.get(_COOKIE, "").encode())
        found = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return []
    pairs = found.items() if isinstance(found, dict) else ()
    filters = [
        SavedFilter(_named(name), _checked(given))
        for name, given in pairs
        if isinstance(given, dict) and _named(name)
    ]
    return filters[:_MOST]


def save() -> BaseResponse:
    """Save the list of the form under its name, in place of another one of that name."""
    name = _named(request.form.get("name", ""))
    if not name:
        raise BadRequest("Give the filter a name.")
    given = SavedFilter(name, _checked(request.form))
    if not given.arguments:
        raise BadRequest("There is no filter to save: this list shows every task.")
    kept = [saved for saved in saved_filters() if saved.name != name]
    if len(kept) >= _MOST:
        raise BadRequest(f"{_MOST} filters are saved, which is the most: forget one of them first.")
    return _answer([*kept, given], given.arguments, "save-filter")


def forget() -> BaseResponse:
    """Forget the filter that the form names."""
    name = _named(request.form.get("name", ""))
    kept = [saved for saved in saved_filters() if saved.name != name]
    return _answer(kept, {}, "forget-filter")


def _answer(filters: Sequence[SavedFilter], shown: Mapping[str, Any], did: str) -> BaseResponse:
    """Redirect to a list, with the cookie that holds the filters."""
    response: Response | BaseResponse = redirect(url_for(".tasks", **shown, did=did), 303)
    document = json.dumps({saved.name: dict(saved.arguments) for saved in filters})
    text = base64.urlsafe_b64encode(document.encode()).decode()
    if len(text) > _ROOM:
        raise BadRequest("The saved filters are too long together: forget one of them first.")
    response.set_cookie(
        _COOKIE,
        text,
        max_age=_YEAR,
        path=root_path().rstrip("/"),
        secure=request.is_secure,
        httponly=True,
        samesite="Lax",
    )
    return response


def _named(name: str) -> str:
    return printable(name.strip(), _LONGEST_NAME).strip()


def _checked(given: Mapping[str, object]) -> dict[str, str]:
    """Return the arguments of a list; what can be none is left out."""
    found = {name: given.get(name) for name in _ARGUMENTS}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, str)
        and 0 < len(value) <= _LONGEST_VALUE
        and (name, value) != ("state", "all")
    }
