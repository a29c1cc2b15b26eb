"""The queue's connections lead where the application's do, or nothing is started."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import g

from flask_taskqueue import PermanentFailure
from flask_taskqueue.core.errors import BadTransactionStateError, ConfigurationError
from flask_taskqueue.store import Database, Tables
from flask_taskqueue.store.database.transaction import close_engine
from tests.apps import Bench, bench
from tests.databases import Servers, TestDatabase, fresh
from tests.laid import Laid


def connector(url: str) -> Callable[[], Any]:
    """A function that connects by the driver alone."""
    parsed = sa.make_url(url)
    kind = parsed.get_dialect()
    positional, named = kind().create_connect_args(parsed)
    return lambda: kind.import_dbapi().connect(*positional, **named)


def elsewhere(url: str) -> str:
    """The URL of a database beside that, which need not be there."""
    parsed = sa.make_url(url)
    return parsed.set(database=f"{parsed.database}_elsewhere").render_as_string(hide_password=False)


def works(queue: Bench) -> None:
    """A task of the session's transaction is attempted, and so is one that is stored at once."""
    ran: list[int] = []

    @queue.tasks.worker("/connected")
    def handler(number: int) -> None:
        ran.append(number)

    handler.add(1)
    queue.db.session.get(queue.Counter, 1).count += 1
    handler.add(2)
    queue.db.session.commit()
    queue.tasks.drain()
    assert sorted(ran) == [1, 2]
    assert queue.db.session.get(queue.Counter, 1).count == 1
    queue.db.session.rollback()


def plain(queue: Bench) -> Any:
    """A handler that does nothing."""

    @queue.tasks.worker("/plain")
    def handler() -> None: ...

    return handler


def settings(queue: Bench, question: str) -> tuple[Any, Any]:
    """The same question, answered by a connection of the queue's own and by one of the
    application's.
    """
    store = queue.store
    with store.reading() as ours, queue.db.engine.connect() as theirs:
        return ours.exec_driver_sql(question).scalar(), theirs.exec_driver_sql(question).scalar()


@contextmanager
def heard(target: Any, event: str, listener: Any) -> Iterator[None]:
    """A listener, within this."""
    sa.event.listen(target, event, listener)
    try:
        yield
    finally:
        sa.event.remove(target, event, listener)


def test_a_function_that_connects_decides_where(database: TestDatabase) -> None:
    """Whatever the URL says, in which nothing is made."""
    url = elsewhere(database.url)
    with bench(url, SQLALCHEMY_ENGINE_OPTIONS={"creator": connector(database.url)}) as queue:
        works(queue)
        assert (
            Path(f"{file_of(database)}.lock").exists(),
            Path(file_of(database) + "_elsewhere").exists(),
        ) == (
            database.name == "sqlite",
            False,
        )


def file_of(database: TestDatabase) -> str:
    """The path of a SQLite file, or something that is none."""
    return sa.make_url(database.url).database or ""


@pytest.mark.parametrize("returns", [True, False])
def test_a_listener_that_connects_decides_where(database: TestDatabase, *, returns: bool) -> None:
    """It returns a connection, or changes what the driver is given, each time anew: a token say."""
    kind = sa.make_url(database.url).get_dialect()
    right, named = kind().create_connect_args(sa.make_url(database.url))
    connected: list[int] = []

    def listener(
        dialect: Any, _record: object, positional: list[Any], parameters: dict[str, Any]
    ) -> Any:
        connected.append(1)
        if returns:
            return dialect.loaded_dbapi.connect(*right, **named)
        positional[:] = right
        parameters |= named
        return None

    with heard(sa.Engine, "do_connect", listener), bench(elsewhere(database.url)) as queue:
        works(queue)
        before = len(connected)
        queue.store.database.close()
        assert queue.tasks.find() != []
        assert len(connected) == before + 1


TARGETS = ["engine", "pool", "sa.Engine", "sa.Pool"]
SESSION = {
    "sqlite": ("PRAGMA cache_size = -1234", "PRAGMA cache_size", -1234),
    "postgresql": (
        "SET application_name = 'the application'",
        "SHOW application_name",
        "the application",
    ),
    "mariadb": ("SET SESSION group_concat_max_len = 4321", "SELECT @@group_concat_max_len", 4321),
}


@pytest.mark.parametrize("event", ["connect", "first_connect", "checkout"])
@pytest.mark.parametrize("target", TARGETS)
def test_listeners_of_connections_run_for_the_queues_too(
    laid: Laid, tmp_path: Path, target: str, event: str
) -> None:
    """Registered before or after TaskQueue(app); what they set holds, though they leave the
    driver's transaction open.
    """
    names = ("sqlite", "postgresql", "mariadb") if target == "engine" else ("sqlite",)
    for name in names:
        command, question, expected = SESSION[name]

        def listener(connection: Any, *_: Any, command: str = command) -> None:
            cursor = connection.cursor()
            cursor.execute(command)
            cursor.close()

        with laid.lend(name, tmp_path) as database, bench(database.url) as queue:
            close_engine(queue.db.engine)
            database = queue.store.database
            found = {
                "engine": queue.db.engine,
                "pool": queue.db.engine.pool,
                "sa.Engine": sa.Engine,
                "sa.Pool": sa.Pool,
            }[target]
            with heard(found, event, listener):
                assert settings(queue, question)[0] == expected
                database.close()
                assert settings(queue, question)[0] == expected


def test_a_schema_that_is_set_when_connections_are_made_is_the_queues(
    servers: Servers, tmp_path: Path
) -> None:
    """As PostgreSQL's search_path often is."""

    def listener(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("CREATE SCHEMA IF NOT EXISTS shop")
            cursor.execute("SET search_path TO shop")
        connection.commit()

    with (
        fresh("postgresql", servers, tmp_path) as database,
        heard(sa.Engine, "connect", listener),
        bench(database.url) as queue,
    ):
        works(queue)
        assert settings(queue, "SELECT count(*) FROM shop.taskqueue_task") == (2, 2)


@pytest.mark.parametrize("poolclass", [sa.NullPool, sa.StaticPool, sa.AssertionPool, sa.QueuePool])
def test_any_pool_of_the_application_leaves_the_queue_its_own(
    laid: Laid, tmp_path: Path, poolclass: type[sa.Pool]
) -> None:
    """Connections of the queue's own are none of the application's."""
    for name in ("sqlite", "postgresql", "mariadb"):
        with (
            laid.lend(name, tmp_path) as database,
            bench(database.url, SQLALCHEMY_ENGINE_OPTIONS={"poolclass": poolclass}) as queue,
        ):
            queue.db.session.get(queue.Counter, 1)
            store = queue.store
            with store.reading() as ours:
                theirs = queue.db.session.connection().connection.dbapi_connection
                assert ours.connection.dbapi_connection is not theirs
            queue.db.session.rollback()


def test_a_pool_that_cannot_be_made_anew_is_refused(sqlite_database: TestDatabase) -> None:
    """With what to do."""

    class Own(sa.NullPool):
        def recreate(self) -> Any:
            raise NotImplementedError

    engine = sa.create_engine(sqlite_database.url, poolclass=Own)
    database = Database(Tables.join(sa.MetaData(), "taskqueue_"), engine, create=True)
    with pytest.raises(
        ConfigurationError, match=r"type Own, which has no recreate\(\).*another poolclass"
    ):
        database.open()


def test_what_the_application_does_not_pass_to_the_driver_the_queue_does(
    servers: Servers, tmp_path: Path
) -> None:
    """Keep-alives and a limit for connecting, on connections of its own alone; what the
    application or its URL passes stays.
    """
    with fresh("postgresql", servers, tmp_path) as database:
        url = (
            sa.make_url(database.url)
            .update_query_dict({"keepalives_idle": "77"})
            .render_as_string(hide_password=False)
        )
        with bench(
            url, SQLALCHEMY_ENGINE_OPTIONS={"connect_args": {"keepalives_count": 9}}
        ) as queue:
            engine = queue.store.database.engine
            own, theirs = (parameters(one) for one in (engine, queue.db.engine))
        alone = Database(Tables.join(sa.MetaData(), "taskqueue_"), sa.make_url(url), create=False)
        by_url = parameters(alone.engine)
        alone.close()
    assert (own["keepalives_idle"], own["keepalives_count"], own["connect_timeout"]) == (
        "77",
        "9",
        "10",
    )
    assert (by_url["keepalives_idle"], by_url["keepalives_count"]) == ("77", "3")
    assert "tcp_user_timeout" in own
    assert "tcp_user_timeout" not in theirs


def parameters(engine: sa.Engine) -> dict[str, str]:
    """What a connection of psycopg's or psycopg2's was made with."""
    with engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        found: dict[str, str] = (
            driver.info.get_parameters()
            if hasattr(driver.info, "get_parameters")
            else driver.info.dsn_parameters
        )
        return found


def test_the_queues_own_settings_come_on_top(sqlite_database: TestDatabase) -> None:
    """Whatever a listener did to a connection of SQLite's, or to all transactions."""

    def connected(connection: Any, _record: object) -> None:
        connection.row_factory, connection.text_factory = sqlite3.Row, bytes
        connection.execute("PRAGMA synchronous = OFF")
        if hasattr(connection, "autocommit"):
            # Since Python 3.12; it begins a transaction, in which the pragma is refused.
            connection.autocommit = False

    def begun(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    with (
        bench(sqlite_database.url) as queue,
        heard(queue.db.engine, "connect", connected),
        heard(sa.Engine, "begin", begun),
    ):
        task = plain(queue).add()
        assert queue.tasks.get(task.id).url == "/plain"
        store = queue.store
        assert (
            store.transact(
                lambda connection: connection.exec_driver_sql("PRAGMA synchronous").scalar()
            )
            == 2
        )


@pytest.mark.slow
def test_texts_of_any_language_are_stored_whatever_connections_begin_with(
    servers: Servers, tmp_path: Path
) -> None:
    """The application's may be in latin1."""
    words = "Grüße, 世界"
    for kind, argument in (
        ("postgresql", {"client_encoding": "latin1"}),
        ("mariadb", {"charset": "latin1"}),
    ):
        with (
            fresh(kind, servers, tmp_path) as database,
            bench(database.url, SQLALCHEMY_ENGINE_OPTIONS={"connect_args": argument}) as queue,
        ):

            @queue.tasks.worker("/fails")
            def fails() -> None:
                raise PermanentFailure(words)

            assert queue.run(fails.add()).last_error == words


def test_connections_for_one_thread_only_are_refused(sqlite_database: TestDatabase) -> None:
    """With the argument that is missing."""
    file = file_of(sqlite_database)
    engine = sa.create_engine(
        sqlite_database.url, creator=lambda: sqlite3.connect(file), poolclass=sa.NullPool
    )
    with pytest.raises(ConfigurationError, match="check_same_thread=False"):
        Database(Tables.join(sa.MetaData(), "taskqueue_"), engine, create=True).open()


def test_a_connection_in_use_is_closed_when_it_is_given_back(database: TestDatabase) -> None:
    """Though everything else was closed before: nothing is left to the garbage collector."""
    with bench(database.url) as queue:
        connection = queue.store.database.engine.connect()
        driver: Any = connection.connection.dbapi_connection
        queue.store.database.close()
        connection.execute(sa.select(1))
        connection.close()
        with pytest.raises(queue.store.database.engine.dialect.loaded_dbapi.Error):
            driver.cursor().execute("SELECT 1")


def test_a_sqlite_without_json_functions_is_refused(sqlite_database: TestDatabase) -> None:
    """With its version; here an authorizer keeps them from being used."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(file_of(sqlite_database), check_same_thread=False)
        connection.set_authorizer(
            lambda _action, table, *_: (
                sqlite3.SQLITE_DENY if table == "json_each" else sqlite3.SQLITE_OK
            )
        )
        return connection

    engine = sa.create_engine(sqlite_database.url, creator=connect, poolclass=sa.NullPool)
    with pytest.raises(ConfigurationError, match=f"SQLite {sqlite3.sqlite_version}.*JSON"):
        Database(Tables.join(sa.MetaData(), "taskqueue_"), engine, create=True).open()


def test_the_callers_own_lock_is_seen_by_the_file_that_is_open(
    sqlite_database: TestDatabase,
) -> None:
    """Though the session has reached the queue's file by another URL, or attached it."""
    right = file_of(sqlite_database)
    options = {"creator": connector(sqlite_database.url)}
    with bench(
        elsewhere(sqlite_database.url),
        SQLALCHEMY_ENGINE_OPTIONS=options,
        TASKQUEUE_DATABASE_URI=sqlite_database.url,
    ) as queue:
        handler = plain(queue)
        handler.add()
        queue.db.session.get(queue.Counter, 1).count += 1
        queue.db.session.flush()
        with pytest.raises(BadTransactionStateError, match="the session holds changes"):
            handler.add()
        queue.db.session.rollback()
    with bench(f"sqlite:///{right}.beside", TASKQUEUE_DATABASE_URI=sqlite_database.url) as queue:
        queue.db.session.connection().exec_driver_sql(f"ATTACH '{right}' AS other")
        queue.db.session.execute(sa.text("INSERT INTO other.counter VALUES (7, 7)"))
        with pytest.raises(BadTransactionStateError, match="the session holds changes"):
            plain(queue).add()
        queue.db.session.rollback()


def by_begin(queue: Bench, where: str) -> None:
    sa.event.listen(queue.db.engine, "begin", lambda connection: connection.exec_driver_sql(where))


def by_session(queue: Bench, where: str) -> None:
    sa.event.listen(
        queue.db.session,
        "after_begin",
        lambda _session, _transaction, connection: connection.exec_driver_sql(where),
    )


def by_engine_connect(queue: Bench, where: str) -> None:
    sa.event.listen(
        queue.db.engine,
        "engine_connect",
        lambda connection: connection.connection.cursor().execute(where),
    )


@pytest.mark.parametrize("lead", [by_begin, by_session, by_engine_connect])
@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_a_session_that_is_led_elsewhere_later_is_refused(
    servers: Servers, tmp_path: Path, lead: Callable[[Bench, str], None], name: str
) -> None:
    """By a drain and at the start of a dispatcher, with both places; and with tables of the
    same names there too.
    """
    with fresh(name, servers, tmp_path) as database, bench(database.url) as queue:
        beside = f"{sa.make_url(database.url).database}_b"
        with queue.db.engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {beside}")
        try:
            lead(queue, f"SET search_path TO {beside}" if name == "postgresql" else f"USE {beside}")
            for tables in (False, True):
                if tables:
                    queue.db.create_all()
                with pytest.raises(
                    ConfigurationError,
                    match=rf"looks at database .*{beside}.* stored at database .*_DATABASE_URI",
                ):
                    queue.tasks.drain()
                with pytest.raises(ConfigurationError, match=beside):
                    queue.runtime.start()
            assert queue.tasks.dispatchers() == []
        finally:
            queue.db.session.remove()
            close_engine(queue.db.engine)
            if name == "mariadb":
                with queue.store.database.engine.begin() as connection:
                    connection.exec_driver_sql(f"DROP SCHEMA {beside}")


def test_tables_that_the_applications_engine_names_otherwise_are_refused(
    servers: Servers, tmp_path: Path
) -> None:
    """By a schema_translate_map."""
    options = {"execution_options": {"schema_translate_map": {None: "shop"}}}
    with fresh("postgresql", servers, tmp_path) as database:
        engine = sa.create_engine(database.url)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE SCHEMA shop")
        close_engine(engine)
        with bench(database.url, SQLALCHEMY_ENGINE_OPTIONS=options) as queue:
            with pytest.raises(ConfigurationError, match="schema_translate_map"):
                queue.tasks.drain()


def test_an_engine_that_was_replaced_is_noticed(
    sqlite_database: TestDatabase, tmp_path: Path
) -> None:
    """Also when the one before was seen to be right."""
    with bench(sqlite_database.url) as queue:
        works(queue)
        before = queue.db.engine
        queue.db._app_engines[queue.app][None] = sa.create_engine(
            f"sqlite:///{tmp_path / 'another.db'}"
        )
        with pytest.raises(
            ConfigurationError,
            match=r"looks at the file .*another\.db, .* what the queue has stored at the file",
        ):
            queue.tasks.drain()
        close_engine(before)


def test_a_session_that_cannot_be_begun_is_refused_in_words(on_sqlite: Bench) -> None:
    """Not with whatever its listener raises."""
    sa.event.listen(on_sqlite.db.session, "after_begin", lambda *_: g.tenant)
    with pytest.raises(
        ConfigurationError,
        match=r"a listener of its own raised AttributeError: .*tenant.* Have its listeners work",
    ):
        on_sqlite.tasks.drain()


def test_both_are_compared_once(on_sqlite: Bench) -> None:
    """Later drains cost nothing for it; what was looked for leaves nothing behind."""
    begun: list[int] = []
    sa.event.listen(on_sqlite.db.session, "after_begin", lambda *_: begun.append(1))
    on_sqlite.tasks.drain()
    assert len(begun) == 1
    on_sqlite.tasks.drain()
    assert len(begun) == 1
    assert on_sqlite.tasks.dispatchers() == []
    with on_sqlite.store.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM taskqueue_dispatcher").scalar() == 0


def test_connections_are_made_in_many_threads_at_once(laid: Laid, tmp_path: Path) -> None:
    """Each gets one of its own, with the application's settings."""
    command, question, expected = SESSION["sqlite"]
    with laid.lend("sqlite", tmp_path) as database, bench(database.url) as queue:
        sa.event.listen(
            queue.db.engine, "connect", lambda connection, _: connection.execute(command).close()
        )
        store = queue.store
        store.database.open()
        store.database.close()
        together, found = threading.Barrier(8), []

        def read() -> None:
            with store.reading() as connection:
                answer = connection.exec_driver_sql(question).scalar()
                found.append((id(connection.connection.dbapi_connection), answer))
                together.wait(20)

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({connection for connection, _ in found}) == 8
        assert {answer for _, answer in found} == {expected}
