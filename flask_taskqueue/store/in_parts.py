"""What is done for many tasks or keys at once, and for each by itself if one of them is locked.

A transaction of the app may keep one locked for as long as it likes. The others do not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TypeVar

import sqlalchemy as sa

from ..core.states import Lease
from .database.database import Database
from .database.transaction import LockedError, Wait
from .leases.leases import Leases

Item = TypeVar("Item")

_PATIENCE = 2
"""The number of locked items that are waited for, a moment each."""


def do_in_parts(
    database: Database,
    work: Callable[[sa.Connection, Collection[Item]], object],
    items: Collection[Item],
) -> None:
    """Call ``work`` with all items, or with each in a transaction of its own but the locked ones.

    Where others can go on beside it, the transaction for all waits for nobody: meanwhile it would
    keep from them whatever it has already changed. After a few locked items the rest do not wait
    either.
    Raises what `Database.transact` raises, except `LockedError`.
    """

    def do(some: Collection[Item], wait: Wait) -> None:
        database.transact(lambda connection: work(connection, some), wait=wait)

    if not items:
        return
    try:
        do(items, Wait.BRIEFLY if database.dialect.locks_by_writing else Wait.NOT)
        return
    except LockedError:
        patience = _PATIENCE
    for item in items:
        try:
            do([item], Wait.BRIEFLY if patience > 0 else Wait.NOT)
        except LockedError:  # it is left for later
            patience -= 1


def renew(
    database: Database, leases: Leases, held: Collection[Lease], lease: float, tries: int
) -> tuple[set[Lease], set[Lease]]:
    """Renew leases; return those that were renewed, and those that are lost.

    One that the database refuses is noted beside its task. If that is locked as well, it is in
    neither set; the next heartbeat may settle it. Raises what `Database.transact` raises, except
    `LockedError`.
    """
    try:
        renewed = database.transact(
            lambda connection: leases.renew(connection, held, lease),
            tries=tries,
            wait=Wait.BRIEFLY,
        )
        return renewed, set(held) - renewed
    except LockedError:
        renewed, lost = set[Lease](), set[Lease]()
    for held_lease in sorted(held):
        with suppress(LockedError):
            is_held = _renew_alone(database, leases, held_lease, lease, tries)
            (renewed if is_held else lost).add(held_lease)
    return renewed, lost


def _renew_alone(
    database: Database, leases: Leases, held_lease: Lease, lease: float, tries: int
) -> bool:
    try:
        found = database.transact(
            lambda connection: leases.renew(connection, [held_lease], lease),
            tries=tries,
            wait=Wait.NOT,
        )
        return bool(found)
    except LockedError:
        database.transact(
            lambda connection: leases.renewals.note(connection, [held_lease], lease),
            tries=tries,
            wait=Wait.NOT,
        )
        return True
