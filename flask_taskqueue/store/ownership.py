"""Ownership: which application the tables belong to."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from ..core.diagnosis.facts import Finding
from ..core.errors import ConfigurationError
from ..core.ownership import Application, judge
from ..process.logs import get_logger
from .database.database import Database
from .database.transaction import MovedError
from .queues.dispatchers import Dispatchers

_logger = get_logger()

_ROW = 1
_LOOK_AGAIN = 10.0
"""The seconds after which a process that changes the tables checks again who owns them."""


class Ownership:
    """The app that the tables name as their owner; every other app leaves them alone.

    They belong to the first app that uses them, and change hands by one conditional statement.
    ``application`` says who we are. Without it, or without a secret, nothing is compared.
    """

    def __init__(
        self,
        database: Database,
        dispatchers: Dispatchers,
        application: Callable[[], Application] | None,
    ) -> None:
        self._database = database
        self._dispatchers = dispatchers
        self._application = application
        self._schema = database.tables.schema
        self._query: sa.Select[Any] = sa.select(
            self._schema.c.application, self._schema.c.fingerprints
        ).where(self._schema.c.id == _ROW)
        self._insert = database.dialect.insert_missing(self._schema)
        self._sure_until = 0.0

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of our newest secret."""
        ours = self._ours()
        return None if ours is None else ours.fingerprints[0]

    def ensure(self, connection: sa.Connection | None = None) -> None:
        """Check as `check` does, unless this process has done so within the last seconds."""
        if time.monotonic() >= self._sure_until:
            self.check(connection)

    def check(self, connection: sa.Connection | None = None) -> None:
        """Check that the tables are ours, and take them over if nobody owns them.

        Tables of an app with our name and other secrets are also taken over, if all its dispatchers
        are gone. Given a connection, the takeover becomes part of its transaction, which may be
        rolled back. Raises `ConfigurationError`, with what to do, if they are another app's.
        """
        ours = self._ours()
        if ours is None:
            return
        if connection is not None:
            _raise_or_warn(self._settle(connection, ours, take_over=True))
            return
        owner = self._database.read(self._owner)
        if owner is None or not ours.is_up_to_date(owner):
            _raise_or_warn(
                self._database.transact(lambda own: self._settle(own, ours, take_over=True))
            )
        self.confirm()

    def confirm(self) -> None:
        """Note that the result of `check` is committed: the tables are ours."""
        self._sure_until = time.monotonic() + _LOOK_AGAIN

    def hold(self, connection: sa.Connection) -> Finding | None:
        """Keep the tables ours until the transaction ends; if they are not, return why."""
        ours = self._ours()
        found = None if ours is None else self._settle(connection, ours, take_over=False)
        if found is not None:
            self._sure_until = 0.0
        return found

    def look(self, connection: sa.Connection) -> Finding | None:
        """Return what keeps us from using the tables, and change nothing.

        It is an error, or a warning if the tables would change hands.
        """
        ours = self._ours()
        return None if ours is None else self._judge(connection, ours, self._owner(connection))

    def adopt(self, note: Callable[[sa.Connection], object] = lambda _: None) -> Application | None:
        """Make the tables ours, whoever owns them, and return the former owner.

        ``note`` writes in the same transaction.
        Raises `ConfigurationError` without a secret.
        """
        ours = self._ours()
        if ours is None:
            raise ConfigurationError(
                "without a secret the tables cannot be told whose they are: set SECRET_KEY "
                "or TASKQUEUE_SECRET"
            )

        def take(connection: sa.Connection) -> Application | None:
            owner = self._locked(connection)
            self._write(connection, ours, owner)
            note(connection)
            return owner

        self._database.mark()
        return self._database.transact(take)

    def _ours(self) -> Application | None:
        ours = None if self._application is None else self._application()
        return ours if ours is not None and ours.fingerprints else None

    def _settle(
        self, connection: sa.Connection, ours: Application, *, take_over: bool
    ) -> Finding | None:
        """Decide who owns the tables while nobody else can; return what keeps them from us.

        It is a warning if they changed hands.
        """
        owner = self._locked(connection)
        found = self._judge(connection, ours, owner)
        if found is not None and (found.level == "error" or not take_over):
            return found
        if owner is None or not ours.is_up_to_date(owner):
            self._write(connection, ours, owner)
        return found

    def _judge(
        self, connection: sa.Connection, ours: Application, owner: Application | None
    ) -> Finding | None:
        return judge(ours, owner, lambda: self._dispatchers.rival(connection, ours.fingerprints))

    def _owner(self, connection: sa.Connection) -> Application | None:
        return _application(connection.execute(self._query).one_or_none())

    def _locked(self, connection: sa.Connection) -> Application | None:
        """Return the owner, who cannot change until the transaction ends."""
        row = connection.execute(self._query.with_for_update()).one_or_none()
        if row is None:
            connection.execute(
                self._insert, {"id": _ROW, "version": 0, "oldest": 0}
            )  # `Schema.mark` will raise them
            row = connection.execute(self._query.with_for_update()).one_or_none()
        return _application(row)

    def _write(
        self, connection: sa.Connection, ours: Application, before: Application | None
    ) -> None:
        schema = self._schema
        seen = (
            schema.c.fingerprints.is_(None)
            if before is None
            else schema.c.fingerprints == " ".join(before.fingerprints)
        )
        now = {"application": ours.name, "fingerprints": " ".join(ours.fingerprints)}
        if (
            connection.execute(
                sa.update(schema).where(schema.c.id == _ROW, seen).values(now)
            ).rowcount
            != 1
        ):
            raise MovedError


def _application(row: sa.Row[Any] | None) -> Application | None:
    if row is None or row.fingerprints is None:
        return None
    return Application(row.application or "", tuple(row.fingerprints.split()))


def _raise_or_warn(found: Finding | None) -> None:
    if found is None:
        return
    if found.level == "error":
        raise ConfigurationError(str(found))
    _logger.warning("this application takes tables over: %s", found)
