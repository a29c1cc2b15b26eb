"""Inserting: tasks that are made, put into the transaction that they are part of."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from ..core.record import Record
from ..core.tasks.new_task import Disposition, NewTask
from ..store import Inserts, Store, in_order

Added = tuple[Record, Disposition]


def insert(store: Store, connection: sa.Connection, new: NewTask) -> Added:
    """Store a task; what there is now, and how it came about. Raises as `Inserts.add`."""
    if new.unique_key is None or connection.engine is store.database.engine:
        return store.inserts.add(connection, new)
    with store.reading() as reader:
        return store.inserts.add_joined(connection, reader, new)


def insert_all(store: Store, connection: sa.Connection, news: Sequence[NewTask]) -> list[Added]:
    """Store up to a thousand tasks, each as `insert` does; those whose name is taken are
    skipped.
    """
    single = {new.id for new in news if new.unique_key is not None}
    missing = store.inserts.add_missing(connection, [new for new in news if new.id not in single])
    found = {
        record.id: record for record in store.tasks.get_all(connection, [new.id for new in news])
    }
    keyed = {new.id: insert(store, connection, new) for new in in_order(news) if new.id in single}
    results: list[Added] = []
    for new in news:
        if new.id in single:
            results.append(keyed[new.id])
        elif new.id in missing:
            results.append((store.inserts.conflicts.named(connection, new), "skipped"))
        else:
            results.append((found[new.id], "added"))
    return results


def insert_many(inserts: Inserts, connection: sa.Connection, news: Sequence[NewTask]) -> int:
    """Store tasks, in one statement where that can be; how many were not because their name or
    key was taken.
    """
    if all(new.unique_key is None or new.on_conflict == "skip" for new in news):
        return len(inserts.add_missing(connection, news))
    return sum(
        inserts.add(connection, new)[1] not in ("added", "replaced") for new in in_order(news)
    )


def inserted(
    store: Store, connection: sa.Connection, news: Sequence[NewTask]
) -> list[Added] | None:
    """What a transaction did that was to store these, if it committed; None if nothing is there
    that it would have stored.
    """
    found = {
        record.id: record for record in store.tasks.get_all(connection, [new.id for new in news])
    }
    if not found:
        return None
    others = iter(
        insert_all(store, connection, [new for new in news if new.id not in found])
    )  # which are skipped again
    return [(found[new.id], "added") if new.id in found else next(others) for new in news]


def inserted_many(store: Store, connection: sa.Connection, news: Sequence[NewTask]) -> int | None:
    """As `inserted`: how many were not stored."""
    return (
        len(news) - len(found)
        if (found := store.tasks.get_all(connection, [new.id for new in news]))
        else None
    )
