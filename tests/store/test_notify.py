"""The connections that notifications are sent over."""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress

import pytest
import sqlalchemy as sa

from flask_taskqueue.store import Database, Notifications, Tables
from tests.databases import TestDatabase
from tests.waiting import wait_until


@pytest.mark.slow
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_pool_that_is_used_up_ends_no_sender(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notification is sent once a connection is free."""
    full = Database(Tables.join(sa.MetaData(), "t"), sa.make_url(database.url), create=True)
    other = Database(Tables.join(sa.MetaData(), "t"), sa.make_url(database.url), create=False)
    sending, listening = Notifications.of(full), Notifications.of(other)
    if sending is None or listening is None:
        pytest.skip("this driver has no notifications")
    full.open()
    heard, tries = threading.Event(), []
    listening.listen(heard.set)
    wait_until(listening.is_heard, what="it listens")
    monkeypatch.setattr(full.engine.pool, "_timeout", 0.05)  # seconds
    connect = full.engine.connect
    with ExitStack() as held:
        with suppress(sa.exc.TimeoutError):
            while True:
                held.enter_context(connect())
        monkeypatch.setattr(full.engine, "connect", lambda: tries.append(1) or connect())
        sending.ring()
        wait_until(lambda: len(tries) == 2, what="it is tried again")
        heard.clear()
    wait_until(heard.is_set, what="it is heard")
    listening.close()
    for one in (full, other):
        one.close()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_one_that_is_refused_something_is_closed(database: TestDatabase) -> None:
    """The channel's name is too long for PostgreSQL: an error that leaves the connection as it
    was.
    """
    opened = Database(Tables.join(sa.MetaData(), "t" * 64), sa.make_url(database.url), create=False)
    notifications = Notifications.of(opened)
    if notifications is None:
        pytest.skip("this driver has no notifications")
    ended: list[object] = []
    sa.event.listen(
        opened.engine, "handle_error", lambda context: ended.append(context.original_exception)
    )
    notifications.ring()
    wait_until(lambda: ended, what="it is refused")
    assert "channel name too long" in str(ended[0])
    look = sa.create_engine(database.url, poolclass=sa.NullPool)
    others = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid != "
        "pg_backend_pid()"
    )
    with look.connect() as connection:
        wait_until(lambda: connection.execute(others).scalar() == 0, what="its connection is gone")
    opened.close()
