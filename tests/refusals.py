"""Databases that refuse some rows, as they do a value that is out of range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from flask_taskqueue.store import Store


@contextmanager
def refusing(store: Store, table: str, rows: str) -> Iterator[None]:
    """Have the database refuse, in this block, that a row of a table becomes one of these.

    They are given by a condition of SQL, with ``{}`` before the names of columns.
    """
    full = getattr(store.database.tables, table).name
    new = rows.replace("{}", "NEW.")
    begin = {
        "sqlite": f"WHEN {new} BEGIN SELECT RAISE(ABORT, 'refused'); END",
        "mysql": f"FOR EACH ROW IF {new} THEN SIGNAL SQLSTATE '22003'; END IF",
    }.get(store.database.engine.dialect.name)
    events = [(event, f"refuse_{table}_{event}") for event in ("INSERT", "UPDATE")]
    make = [f"CREATE TRIGGER {name} BEFORE {event} ON {full} {begin}" for event, name in events]
    undo = [f"DROP TRIGGER {name}" for _, name in events]
    if begin is None:
        check = f"CHECK (({rows.replace('{}', '')}) IS NOT TRUE) NOT VALID"
        make = [f"ALTER TABLE {full} ADD CONSTRAINT refused {check}"]
        undo = [f"ALTER TABLE {full} DROP CONSTRAINT refused"]
    _run(store, make)
    try:
        yield
    finally:
        _run(store, undo)


def _run(store: Store, statements: Sequence[str]) -> None:
    with store.database.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
