"""Tasks, named by the beginning of their ids."""

from __future__ import annotations

import click

from ..core.errors import UnknownTaskError
from ..runtime import Runtime

_CANDIDATES = 10


def task_id_of(runtime: Runtime, text: str) -> str:
    """The id that begins so. Raises `UnknownTaskError` if there is none, UsageError with the candidates if there are several."""
    prefix = text.strip().upper()
    store = runtime.store
    with store.reading() as connection:
        found = store.tasks.ids_like(connection, prefix, _CANDIDATES + 1) if prefix.isalnum() and prefix.isascii() else []
    if not found:
        raise UnknownTaskError(f"there is no task whose id begins with {text!r}; it never was, or has been pruned")
    if len(found) > 1:
        more = " and more" if len(found) > _CANDIDATES else ""
        raise click.UsageError(f"the ids of several tasks begin with {text!r}: {', '.join(found[:_CANDIDATES])}{more}")
    return found[0]
