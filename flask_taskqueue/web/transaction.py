"""The transaction of a handler, which commits its changes with the end of its attempt."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from flask import Response, request

from ..core.delivery.delivery import Delivery
from ..core.delivery.verdict import Reply, Verdict
from ..core.errors import BadTransactionStateError, TransientError
from ..core.states import Record
from ..process.interrupts import shielded
from ..process.logs import get_logger
from ..runtime import Runtime
from ..runtime.contexts import own_handler
from ..runtime.sessions import current, followed, has_changes, no_commit, refuse_autocommit, tracked
from ..store import NOT_KEPT, StoredReply, Wait, goes_on, refuse_others

_logger = get_logger()

Answer = tuple[Response, Verdict]

_ENDED = (
    "the transaction that this transactional handler began is over, and its changes with it: "
    "something committed it, rolled it back or "
    "closed the session (db.session.remove(), close(), rollback(), a COMMIT, a statement "
    "that commits implicitly). Leave that out, "
    "use db.session.begin_nested() for what may fail, or transactional=False"
)


class LeaseLostError(Exception):
    """The attempt's lease was ended by someone else, so nothing that it did counts."""


def in_transaction(runtime: Runtime, delivery: Delivery, call: Callable[[], Answer]) -> Answer:
    """Run ``call`` in one transaction of the app's session, and return its answer and verdict.

    A 2xx commits its changes and the end of the attempt together, so they happen exactly once, even
    if processes crash at any point. Everything else rolls back: another status, an exception, a
    lease that was lost meanwhile, and a transaction that is no longer the one that was begun. On a
    database where one writer locks out all others, the handler waits for its turn, up to the
    deadline. Raises `LeaseLostError`, `BadTransactionStateError`, and `TransientError` if the turn
    does not come.
    """
    lock = runtime.store.database.write_lock
    asked = time.monotonic()
    with shielded() as shield:
        if not lock.acquire(until=delivery.expires):
            raise TransientError(
                "the handler's turn to write did not come within its deadline: others, which "
                "write one at a time on this database, took "
                "that long. Keep transactional handlers short"
            )
        delivery.waited = time.monotonic() - asked
        try:
            return _Transaction(runtime, delivery.record).run(lambda: shield.lifted(call))
        finally:
            lock.release()


def report_progress(runtime: Runtime, record: Record, progress: str) -> None:
    """Store how far a handler has come.

    The report is stored at once, or in the handler's transaction if the two cannot be apart. One
    that cannot be stored soon is left out: a handler does not fail for it, nor wait for long.
    """
    if runtime.binding.db is not None and _belongs_to_session(runtime, record):
        runtime.store.tasks.report(runtime.binding.session_connection(), record, progress)
    else:
        store = runtime.store
        try:
            store.transact(
                lambda connection: store.tasks.report(connection, record, progress),
                tries=1,
                wait=Wait.BRIEFLY,
            )
        except (TransientError, BadTransactionStateError) as error:
            _logger.info("the progress of task %s could not be stored: %s", record.id, error)


def _belongs_to_session(runtime: Runtime, record: Record) -> bool:
    """Return whether a report has to be stored in the session's transaction.

    Apart from it, a report would wait for it where it may hold the only write lock, or may have
    given the task's unique key to another. If the transaction keeps to its snapshot, it could not
    give the key away after a report.
    """
    dialect, session = runtime.store.database.dialect, current(runtime.binding.session)
    if dialect.locks_by_writing:
        return has_changes(session)
    if record.unique_key is None:
        return False
    return any(transaction.joined for transaction in followed(session)) or (
        own_handler() is not None
        and dialect.keeps_to_snapshot(runtime.binding.session_connection())
    )


class _Transaction:
    """The session's transaction in which one handler runs."""

    def __init__(self, runtime: Runtime, record: Record) -> None:
        self._runtime = runtime
        self._binding = runtime.binding
        self._store = runtime.store
        self._encryption = runtime.encryption
        self._cap = runtime.settings.reply_excerpt
        self._record = record
        self._session = current(self._binding.session)

    def run(self, call: Callable[[], Answer]) -> Answer:
        """Run ``call`` in the transaction, and commit it with the end of the attempt.

        If that is not possible it is rolled back.
        """
        committed = False
        try:
            if self._session.in_nested_transaction():
                raise BadTransactionStateError(_SAVEPOINT)
            connection = self._binding.session_connection()
            refuse_autocommit(self._session)
            if self._runtime.test_connection is not connection and goes_on(
                tracked(self._session, connection)
            ):
                raise BadTransactionStateError(_WITHIN)
            begun = self._session.get_transaction()
            mark = self._store.completions.begin(connection, self._record)
            if mark is None:
                raise LeaseLostError(_LOST)
            with no_commit(self._session, self._binding.session.registry):
                response, verdict = call()
                if not verdict.is_success:
                    return response, verdict
                self._see_that_it_goes_on(begun)
                self._flush()
                refuse_others(tracked(self._session, connection))
            status = verdict.status or 200
            kept = self._kept(response)
            completed = self._store.completions.complete(
                connection, self._record, status, mark, kept
            )
            if completed is None:
                raise BadTransactionStateError(_ENDED)
            if not completed:
                self._see_that_it_looks_here(connection)
                raise LeaseLostError(_LOST)
            tracked(self._session, connection).commits_alone = True  # hooks may write elsewhere
            self._session.commit()
            committed = True
            return response, replace(verdict, committed=True)
        finally:
            if not committed:
                self._session.rollback()
                self._binding.session.rollback()  # a new session, if the handler removed this

    def _kept(self, response: Response) -> StoredReply:
        """Return the reply as it is stored with the end of the attempt, if it is to be kept."""
        if not self._record.keep_result:
            return NOT_KEPT
        response.direct_passthrough = False  # a file is read now
        head = request.method == "HEAD" or response.status_code == 204
        body, cap = b"" if head else response.get_data(), self._cap
        reply = Reply(
            response.status_code,
            {name.lower(): value for name, value in response.headers.items()},
            body[:cap],
            truncated=len(body) > cap,
        )
        return StoredReply.of(reply, self._encryption)

    def _see_that_it_goes_on(self, begun: Any) -> None:
        if (
            self._binding.session() is not self._session
            or self._session.get_transaction() is not begun
        ):
            raise BadTransactionStateError(_ENDED)

    def _see_that_it_looks_here(self, connection: sa.Connection) -> None:
        """Raise `BadTransactionStateError` if the transaction does not see the task, which exists.

        A transaction that has failed sees nothing, and is not meant.
        """
        with suppress(sa.exc.DBAPIError):
            if self._store.tasks.get_all(connection, [self._record.id]):
                return
            place = self._store.database.dialect.place(connection)
            with self._store.reading() as reader:
                if self._store.tasks.get_all(reader, [self._record.id]):
                    raise BadTransactionStateError(_ELSEWHERE.format(place))

    def _flush(self) -> None:
        """Write all changes to the database, also from savepoints that were left open."""
        self._session.flush()
        while (nested := self._session.get_nested_transaction()) is not None:
            nested.commit()


_SAVEPOINT = (
    "a savepoint of db.session was open before the transactional handler began, of a "
    "before_request function perhaps, and its end is not "
    "the handler's: end it there"
)
_WITHIN = (
    "db.session is bound to a connection whose transaction somebody else has begun, so a commit of "
    "the transactional handler's would commit nothing: bind the session to an engine, or, in a "
    "test that is rolled back, run tasks with flask_taskqueue.testing"
)
_ELSEWHERE = (
    "the transactional handler has led its transaction to another place ({}; SET search_path, "
    "perhaps), where its task is not, so the two cannot be committed together: set it back before "
    "the handler returns, name the schema of the tables that it changes instead, or use "
    "transactional=False"
)
_LOST = "the lease of this task was lost; nothing was changed"
