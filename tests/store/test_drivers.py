"""Drivers and schemas: what works, and what is refused by name."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from flask_taskqueue.core.errors import ConfigurationError
from flask_taskqueue.store import Database, Tables
from flask_taskqueue.store.database.dialects import check_driver


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///a.db",
        "postgresql+psycopg://h/d",
        "postgresql+psycopg2://h/d",
        "mysql+pymysql://h/d",
        "mariadb+mysqldb://h/d",
    ],
)
def test_these_drivers_work(url: str) -> None:
    """The store's tests run with each of them in CI."""
    check_driver(sa.make_url(url))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "postgresql+pg8000://h/d",
            r"'pg8000', which Flask-TaskQueue does not work with: use psycopg or psycopg2",
        ),
        ("postgresql+asyncpg://h/d", "'asyncpg', .* use psycopg or psycopg2"),
        ("mysql+mysqlconnector://h/d", "'mysqlconnector', .* use pymysql or mysqldb"),
        ("sqlite+aiosqlite:///a.db", "'aiosqlite', .* use pysqlite"),
        ("postgresql+nothing://h/d", "is not known"),
    ],
)
def test_other_drivers_are_refused_by_name(url: str, words: str) -> None:
    """When the queue's database is made, with what to write instead."""
    with pytest.raises(ConfigurationError, match=words):
        Database(Tables.join(sa.MetaData(), "taskqueue_"), sa.make_url(url), create=False)


def test_tables_are_joined_once_to_metadata_with_a_schema() -> None:
    """A factory may be called for each test; the metadata stays the same."""
    metadata = sa.MetaData(schema="app")
    first = Tables.join(metadata, "taskqueue_")
    assert first.task.key == "app.taskqueue_task"
    assert Tables.join(metadata, "taskqueue_") == first
