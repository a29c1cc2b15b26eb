"""The choice of the database that holds the queue's tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import sqlalchemy as sa
from flask import Flask, has_app_context
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Session

from ..core.errors import ConfigurationError
from ..core.settings.app import Settings
from ..store import Database, Store, Tables, is_in_memory, keep, refuse_elsewhere
from .contexts import in_bare_context

OWN_FILE = "taskqueue.sqlite3"


@dataclass(slots=True)
class Binding:
    """Where the tables are.

    They are in the database of the application's Flask-SQLAlchemy, or in one of their own.
    """

    db: Any | None
    """The Flask-SQLAlchemy extension; None if the queue has its own database."""
    bind_key: str | None
    tables: Tables = field(repr=False)
    own_file: bool = False
    """Whether the tables are in the queue's own file because nothing says where to put them."""
    _seen: sa.Engine | None = field(default=None, repr=False)
    """The application's engine when its session was last seen to use the queue's tables."""

    @classmethod
    def of(cls, app: Flask, db: Any | None, settings: Settings) -> Binding:
        """Join the tables to the metadata of the database that the settings choose."""
        if settings.database_uri is not None:
            if settings.bind_key is not None:
                raise ConfigurationError(
                    "TASKQUEUE_DATABASE_URI and TASKQUEUE_BIND_KEY exclude each other: set "
                    "one of them"
                )
            _url(settings.database_uri)
            return cls(None, None, Tables.join(sa.MetaData(), settings.table_prefix))
        db = db if db is not None else app.extensions.get("sqlalchemy")
        if db is None:
            if settings.bind_key is not None:
                raise ConfigurationError(
                    "TASKQUEUE_BIND_KEY needs Flask-SQLAlchemy: call db.init_app(app) before "
                    "tasks.init_app(app)"
                )
            return cls(None, None, Tables.join(sa.MetaData(), settings.table_prefix), own_file=True)
        _check_extension(db)
        metadata = db.metadatas[settings.bind_key] if settings.bind_key else db.metadata
        return cls(db, settings.bind_key, Tables.join(metadata, settings.table_prefix))

    def check(self, app: Flask) -> None:
        """Check that Flask-SQLAlchemy was not set up after the queue made its own database.

        Raises `ConfigurationError`.
        """
        if self.own_file and app.extensions.get("sqlalchemy") is not None:
            raise ConfigurationError(
                "the queue was set up before SQLAlchemy, so its tables would be in a file "
                f"of its own, {OWN_FILE}: call SQLAlchemy(app) or "
                "db.init_app(app) before TaskQueue(app), or give it as TaskQueue(app, db). "
                "For a file of its own set TASKQUEUE_DATABASE_URI"
            )

    def open(self, app: Flask, settings: Settings) -> Database:
        """Return the database, with an engine of the queue's own.

        Nothing is connected yet.
        """
        return Database(**self.parts(app, settings))

    def parts(self, app: Flask, settings: Settings) -> dict[str, Any]:
        """Return the arguments that the `Database` is made from."""
        self.check(app)
        create = (
            app.debug or app.testing if settings.create_tables is None else settings.create_tables
        )
        parts: dict[str, Any] = {"tables": self.tables, "create": create}
        if self.db is not None:
            return parts | {"source": self.engine(app)}
        if settings.database_uri is not None:
            return parts | {"source": _located(_url(settings.database_uri), app)}
        os.makedirs(app.instance_path, exist_ok=True)
        own = sa.URL.create("sqlite", database=os.path.join(app.instance_path, OWN_FILE))
        return parts | {"source": own, "create": settings.create_tables is not False}

    def engine(self, app: Flask) -> sa.Engine:
        """Return the application's engine for the database that holds the tables.

        Raises `ConfigurationError` if ``TASKQUEUE_BIND_KEY`` names no bind.
        """
        bound = self._engines(app).get(self.bind_key)
        if bound is None:
            raise ConfigurationError(
                f"TASKQUEUE_BIND_KEY is {self.bind_key!r}, but SQLALCHEMY_BINDS has no such bind"
            )
        engine: sa.Engine = bound.engine  # a test may have put a connection there, which has it
        return engine

    def _engines(self, app: Flask) -> Mapping[str | None, sa.Engine | sa.Connection]:
        """Return the engines of an app by their binds."""
        return in_bare_context(app, lambda: self._db.engines)

    def refuse_elsewhere(self, store: Store) -> None:
        """Raise `ConfigurationError` if the app's session does not see the tables in use.

        That is, it looks at other tables than those on which the queue works. Call this in a
        context of the application; each engine is checked once. Nothing needs checking where the
        engine is shared, or where a test has put a connection in its place.
        """
        if self.db is None or not store.database.own_engine:
            return
        engine = self.db.engines[self.bind_key]
        if isinstance(engine, sa.Engine) and self._seen is not engine:
            refuse_elsewhere(store, partial(self._looking, engine))
            self._seen = engine

    def sessions(self, app: Flask) -> list[Any]:
        """Return the application's session, if it has one.

        It is included even if the tables are elsewhere, because it may use the same file.
        """
        db = self.db if self.db is not None else app.extensions.get("sqlalchemy")
        return [db.session] if isinstance(db, SQLAlchemy) else []

    def app_engines(self, app: Flask) -> list[sa.Engine]:
        """Return the app's engines, of all binds, but those in memory."""
        db = app.extensions.get("sqlalchemy")
        if not isinstance(db, SQLAlchemy):
            return []
        return [
            engine
            for engine in in_bare_context(app, lambda: db.engines).values()
            if isinstance(engine, sa.Engine) and not is_in_memory(engine.url)
        ]

    def reset(self, app: Flask | None) -> None:
        """Leave the app's session and connections to the parent after a fork, untouched.

        This covers the engines of all binds. A database in memory was copied by the fork, and stays
        as it is.
        """
        db = self.db if self.db is not None or app is None else app.extensions.get("sqlalchemy")
        if app is None or not isinstance(db, SQLAlchemy):
            return
        bound = self.app_engines(app)
        if bound and has_app_context() and db.session.registry.has():
            keep(db.session.registry())
            db.session.registry.clear()
        for engine in bound:
            engine.dispose(close=False)

    @property
    def session(self) -> Any:
        """The application's session, if the tables share a database with it."""
        return self._db.session

    def isolation(self, app: Flask) -> Callable[[], sa.Connection | None]:
        """Return a function that finds the connection a test has put in the engine's place.

        Tests do so to roll everything back. The function returns None outside of such tests.
        """
        if self.db is None:
            return lambda: None
        engines = self._engines(app)

        def find() -> sa.Connection | None:
            bound = engines.get(self.bind_key)
            return bound if isinstance(bound, sa.Connection) else None

        return find

    def session_connection(self) -> sa.Connection:
        """Return the connection that the app's session uses in its current transaction.

        A transaction begins if there is none, also in a session that begins none by itself.
        """
        return _connection(self._db.session(), self.bound)

    @property
    def bound(self) -> sa.Engine | sa.Connection:
        """What the app's session uses for the tables: an engine, or a test's connection."""
        bound: sa.Engine | sa.Connection = self._db.engines[self.bind_key]
        return bound

    @contextmanager
    def _looking(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        """Yield a connection such as the app's session gets, from a separate session.

        All listeners of the application's session apply to it.
        """
        with self.session.session_factory() as session:
            yield _connection(session, engine)

    @property
    def _db(self) -> Any:
        if self.db is None:
            raise ConfigurationError(
                "the queue has a database of its own; there is no session to share a "
                "transaction with"
            )
        return self.db


def _connection(session: Session, bound: sa.Engine | sa.Connection) -> sa.Connection:
    if not (session.autobegin or session.in_transaction()):
        session.begin()
    return session.connection(bind_arguments={"bind": bound})


def _check_extension(db: Any) -> None:
    """Check that an extension is Flask-SQLAlchemy, and raise `ConfigurationError` if not.

    Other extensions have the same name, but no metadata that the tables could join.
    """
    if not isinstance(getattr(db, "metadatas", None), Mapping) or not hasattr(db, "session"):
        kind = type(db)
        raise ConfigurationError(
            f"the application's SQLAlchemy is {kind.__module__}.{kind.__qualname__}, and the "
            "queue shares a database only with "
            "Flask-SQLAlchemy 3: set TASKQUEUE_DATABASE_URI to the URL of the database that "
            "is to hold its tables, which may be the same"
        )


def _url(given: str) -> sa.URL:
    """Return ``TASKQUEUE_DATABASE_URI`` as a URL. Raises `ConfigurationError` without its value."""
    try:
        return sa.make_url(given)
    except (sa.exc.ArgumentError, ValueError):  # which may show its password
        raise ConfigurationError(
            "TASKQUEUE_DATABASE_URI cannot be read; it must be an SQLAlchemy URL, such as "
            "'sqlite:////var/lib/app/tasks.db' or 'postgresql+psycopg://user:password@host/app'"
        ) from None


def _located(url: sa.URL, app: Flask) -> sa.URL:
    """Return the URL with a relative path of a SQLite file in the app's instance folder.

    Flask-SQLAlchemy takes paths in this way too; from the working directory, which differs between
    processes, each could find a file of its own. Raises `ConfigurationError` if only that is there.
    """
    file = url.database or ""
    if url.get_backend_name() != "sqlite" or is_in_memory(url) or os.path.isabs(file):
        return url
    if file.startswith("file:"):
        return url
    place = os.path.join(app.instance_path, file)
    if os.path.exists(file) and not os.path.exists(place):
        raise ConfigurationError(
            f"TASKQUEUE_DATABASE_URI names the file {file}, which is looked for in the instance "
            f"folder ({place}) and is not there, but in the working directory: move it, or give "
            "its absolute path"
        )
    os.makedirs(os.path.dirname(place), exist_ok=True)
    return url.set(database=place)
