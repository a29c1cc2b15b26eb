"""A transactional handler that forks, and whose child looks at each connection that its parent
has.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from typing import Any

import sqlalchemy as sa
from flask import current_app

from flask_taskqueue import State
from tests.whole import loop_app

outside = sa.create_engine(os.environ["LOOP_DATABASE"])
memory = sa.create_engine(
    "sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False}
)
parents: list[Any] = []


def main() -> int:
    """The exit code is 0 if all is as it should be in parent and child."""
    app = loop_app.create_app()

    @loop_app.tasks.worker("/forks", transactional=True)
    def forks() -> None:
        loop_app.db.session.execute(sa.insert(loop_app.Effect).values(task_id="of the parent"))
        parents.append(driver(loop_app.db.session.connection()))
        child = multiprocessing.get_context("fork").Process(target=look_around)
        child.start()
        child.join(20)
        assert child.exitcode == 0
        with outside.connect() as connection:
            assert driver(connection) is parents[0]
        assert driver(loop_app.db.session.connection()) is parents[-1]

    with app.app_context():
        loop_app.db.create_all()
        with memory.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE copied (id INTEGER)")
        with outside.connect() as connection:
            parents.append(driver(connection))
            connection.exec_driver_sql("SELECT 1")
        task = forks.add()
        loop_app.tasks.drain()
        assert loop_app.tasks.get(task.id).state is State.SUCCEEDED, loop_app.tasks.get(
            task.id
        ).last_error
        assert effects() == ["of the parent"]
    return 0


def look_around() -> None:
    """In the child, in the context of the handler: none of the parent's connections, but a copy
    of what is in memory.
    """
    with outside.connect() as connection:
        assert driver(connection) not in parents
        connection.exec_driver_sql("SELECT 1")
    with memory.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM copied").scalar() == 0
    assert current_app.name
    assert driver(loop_app.db.session.connection()) not in parents
    assert effects() == []
    loop_app.db.session.rollback()


def effects() -> list[str]:
    """What handlers have stored."""
    return list(loop_app.db.session.scalars(sa.select(loop_app.Effect.task_id)))


def driver(connection: sa.Connection) -> Any:
    """The driver's own connection."""
    return connection.connection.dbapi_connection


if __name__ == "__main__":
    sys.exit(main())
