"""Follow-ups: the tasks that follow a success, with its reply where they ask for it."""

from __future__ import annotations

import sqlalchemy as sa

from ...core.errors import InvalidTaskError
from ...core.security.encryption import Encryption
from ...core.states import Record
from ...core.tasks.handover import hand_over, unfilled
from ...core.tasks.packed import unpack
from ...core.tasks.spec import NewTask
from ...core.tasks.task import Result
from ...process.logs import get_logger
from ..database.tables import Tables

_logger = get_logger()


class FollowUps:
    """A reader of what follows tasks, in the transaction that records their success."""

    def __init__(self, tables: Tables, encryption: Encryption, max_body: int) -> None:
        self._attempt = tables.attempt
        self._encryption = encryption
        self._max_body = max_body

    def of(self, connection: sa.Connection, record: Record) -> list[NewTask]:
        """Return the tasks that follow a task which has succeeded and whose attempt is logged.

        One that cannot get the reply holds the reason instead, with which its first attempt ends.
        If what follows cannot be read, nothing does, and that is logged.
        """
        try:
            following = unpack(self._encryption.decrypt_text(record.follow_up))
        except ValueError as error:
            _logger.error("task %s succeeded, but nothing follows: %s", record.id, error)
            return []
        if all(new.reply_to is None for new in following):
            return following
        return self._with_reply(connection, record, following)

    def _with_reply(
        self, connection: sa.Connection, record: Record, following: list[NewTask]
    ) -> list[NewTask]:
        try:
            reply, missing = self._reply(connection, record), ""
        except (ValueError, TypeError, AttributeError) as error:
            reply, missing = None, f"cannot be read: {error}"
        return [
            new if new.reply_to is None else self._filled(new, record, reply, missing)
            for new in following
        ]

    def _filled(self, new: NewTask, record: Record, reply: Result | None, missing: str) -> NewTask:
        try:
            if reply is None:
                raise InvalidTaskError(missing or "was not kept")
            return hand_over(new, reply, self._max_body)
        except InvalidTaskError as error:
            _logger.warning("what follows task %s cannot run: its reply %s", record.id, error)
            return unfilled(
                new, f"the reply of task {record.id}, which this task was to get, {error}"
            )

    def _reply(self, connection: sa.Connection, record: Record) -> Result | None:
        """Return the reply that the attempt which has just been logged succeeded with."""
        attempt = self._attempt
        columns = (attempt.c.status, attempt.c.reply_headers, attempt.c.reply_body)
        row = connection.execute(
            sa.select(*columns).where(
                attempt.c.task_id == record.id,
                attempt.c.number == record.attempts,
                attempt.c.lease_id == record.lease_id,
                attempt.c.reason == "success",
            )
        ).one_or_none()
        if row is None or (row.reply_headers is None and row.reply_body is None):
            return None
        return Result.stored(
            row.status,
            self._encryption.decrypt_text(row.reply_headers),
            self._encryption.decrypt(bytes(row.reply_body or b"")),
        )
