"""The connections that notifications are sent over."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from flask_taskqueue.store import Database, Notifications, Tables
from tests.databases import TestDatabase
from tests.waiting import wait_until


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
