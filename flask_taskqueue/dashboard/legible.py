"""Requests that cannot be read: refused before anything looks at them, whatever a database or a header would make of them."""

from __future__ import annotations

from flask import Request
from werkzeug.exceptions import BadRequest

_MAY_HOLD_NUL = frozenset({"body"})
"""What is text of the user's own; all other fields are names, numbers, ids and the like."""


def refuse_illegible(request: Request) -> None:
    """Raise BadRequest for a query that is no ASCII, as URLs are, and for a NUL where no text has one."""
    if not request.query_string.isascii():
        raise BadRequest("The query holds bytes that must be percent-encoded.")
    fields = [*request.args.items(multi=True), *request.form.items(multi=True)]
    if "\0" in request.path or any("\0" in name or ("\0" in value and name not in _MAY_HOLD_NUL) for name, value in fields):
        raise BadRequest("The request holds a NUL, which is in no name, id, number or URL.")
