"""Migrations by Alembic: which objects are the application's."""

from __future__ import annotations

from typing import Any

from flask import current_app, has_app_context

from .runtime import Runtime


def include_object(
    schema_item: Any, name: str | None, kind: str, _reflected: bool = False, _compare_to: Any = None
) -> bool:
    """Alembic's ``include_object``: leaves the queue's tables alone where they are not in the
    application's metadata.

    Without it autogenerate would drop them, for it finds them in the database only. Where they are
    in the application's metadata (``TaskQueue(app, db)``) it changes nothing: they are migrated
    like the application's own. For ``Migrate(app, db, include_object=include_object)``, or
    ``context.configure`` in env.py, within an application context.
    """
    if not has_app_context():
        return True
    runtime = current_app.extensions.get("taskqueue")
    if not isinstance(runtime, Runtime) or runtime.binding.db is not None:
        return True
    table = name if kind == "table" else getattr(getattr(schema_item, "table", None), "name", None)
    return table not in {one.name for one in runtime.binding.tables.all}
