"""What is found, and said, about SQLite."""

from __future__ import annotations

import inspect
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import default

from flask_taskqueue.core.errors import ConfigurationError, TransientError
from flask_taskqueue.store import Database, Tables
from flask_taskqueue.store.database.dialects.sqlite_findings import of_place, of_version
from flask_taskqueue.store.database.transaction import close_engine
from tests.databases import TestDatabase

AFFECTED = [(3, 7, 0), (3, 40, 1), (3, 44, 5), (3, 45, 0), (3, 50, 6), (3, 51, 0), (3, 51, 2)]
MENDED = [
    (3, 6, 23),
    (3, 44, 6),
    (3, 44, 9),
    (3, 50, 7),
    (3, 51, 3),
    (3, 52, 0),
    (3, 53, 1),
    (4, 0, 0),
]
MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
tmpfs /srv tmpfs rw 0 0
host:/data /srv/data nfs4 rw 0 0
//host/share /mnt/with\\040blank cifs rw 0 0
someone@host: /home/me/remote fuse.sshfs rw 0 0
/dev/sdb1 /srv/data/local xfs rw 0 0
"""


@pytest.mark.parametrize("version", AFFECTED)
def test_versions_that_can_damage_a_file_are_told(version: tuple[int, ...]) -> None:
    """To those who ask, with what to do."""
    finding = of_version(version)
    assert finding is not None
    assert finding.level == "info"
    assert "3.51.3" in str(finding)


@pytest.mark.parametrize("version", MENDED)
def test_versions_in_which_that_is_mended_are_not(version: tuple[int, ...]) -> None:
    """Later ones, and those that got it later on."""
    assert of_version(version) is None


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/app.db", None),
        ("/srv/data/app.db", "nfs4"),
        ("/srv/data/local/app.db", None),
        ("/srv/database/app.db", None),
        ("/mnt/with blank/app.db", "cifs"),
        ("file:/home/me/remote/app.db?mode=rwc", "fuse.sshfs"),
        ("/home/me/app.db", None),
    ],
)
def test_a_file_on_a_network_filesystem_is_warned_of(
    tmp_path: Path, path: str, kind: str | None
) -> None:
    """By the mount point nearest to it; one on a local disk is not."""
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    finding = of_place(path, mounts)
    assert (finding and f"({kind})" in str(finding)) == (kind and True)


def test_where_the_system_does_not_tell_nothing_is_found(tmp_path: Path) -> None:
    """Other systems have no /proc."""
    assert of_place("/srv/data/app.db", tmp_path / "mounts") is None


of_later_sqlalchemy = pytest.mark.skipif(
    "skip_autocommit_rollback" not in inspect.signature(default.DefaultDialect.__init__).parameters,
    reason="this SQLAlchemy has no skip_autocommit_rollback",
)


@of_later_sqlalchemy
def test_an_engine_that_skips_rollbacks_is_refused(sqlite_database: TestDatabase) -> None:
    """A task of a transaction that failed would be kept."""
    tables = Tables.join(sa.MetaData(), "taskqueue_")
    engine = sa.create_engine(sqlite_database.url, skip_autocommit_rollback=True)
    with pytest.raises(ConfigurationError, match=r"skip_autocommit_rollback=True.*remove it"):
        Database(tables, engine, create=True)


@of_later_sqlalchemy
def test_that_engine_would_have_kept_what_was_rolled_back(sqlite_database: TestDatabase) -> None:
    """Which is why it is refused; should this fail, SQLAlchemy has mended it and the refusal
    can go.
    """
    engine = sa.create_engine(sqlite_database.url, skip_autocommit_rollback=True)

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: object, _record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE one (id INTEGER)")
    with engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO one VALUES (1)")
        connection.rollback()
        driver = connection.connection.dbapi_connection
        assert driver is not None
        assert driver.in_transaction
        assert driver.execute("SELECT count(*) FROM one").fetchone() == (1,)
        driver.rollback()
    close_engine(engine)


def test_a_file_that_another_has_locked_is_not_taken_for_one_of_an_old_sqlite(
    sqlite_database: TestDatabase,
) -> None:
    """It passes, whatever the first connection meets; who dispatches tries again."""
    other = sqlite3.connect(str(sa.make_url(sqlite_database.url).database), isolation_level=None)
    other.execute("PRAGMA journal_mode=DELETE")  # in which nobody can read meanwhile
    other.execute("BEGIN EXCLUSIVE")
    source = sa.create_engine(sqlite_database.url, connect_args={"timeout": 0})
    database = Database(Tables.join(sa.MetaData(), "taskqueue_"), source, create=True)
    with pytest.raises(TransientError, match=r"the database keeps refusing"):
        database.transact(lambda connection: None, tries=1)
    other.execute("COMMIT")
    database.transact(lambda connection: None)
    other.close()
    database.close()
    close_engine(source)


def test_a_database_finds_what_concerns_it(sqlite_database: TestDatabase) -> None:
    """In memory there can be no dispatcher; a file has a version and a place."""
    tables = Tables.join(sa.MetaData(), "taskqueue_")
    memory = Database(tables, sa.make_url("sqlite://"), create=True)
    assert [finding.level for finding in memory.findings()] == ["error"]
    assert "tasks.drain()" in memory.findings()[0].remedy
    file = Database(tables, sa.make_url(sqlite_database.url), create=True)
    assert {finding.level for finding in file.findings()} <= {"info"}
    for one in (memory, file):
        one.close()
