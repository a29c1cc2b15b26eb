"""Support for migrations by Alembic."""

from __future__ import annotations

from typing import Any

from flask import current_app, has_app_context

from ..runtime import Runtime


def include_object(
    schema_item: Any, name: str | None, kind: str, _reflected: bool = False, _compare_to: Any = None
) -> bool:
    """Leave the queue's tables out of Alembic's autogenerate if they are not in the app's metadata.

    This is an ``include_object`` function of Alembic. Without it autogenerate would drop the
    tables, because it finds them in the database only. If they are in the app's metadata
    (``TaskQueue(app, db)``) it changes nothing, and they are migrated like the app's own tables.
    Pass it to ``Migrate(app, db, include_object=include_object)``, or to ``context.configure`` in
    env.py, within an application context.
    """
    if not has_app_context():
        return True
    runtime = current_app.extensions.get("taskqueue")
    if not isinstance(runtime, Runtime) or runtime.binding.db is not None:
        return True
    table = name if kind == "table" else getattr(getattr(schema_item, "table", None), "name", None)
    return table not in {own.name for own in runtime.binding.tables.all}
