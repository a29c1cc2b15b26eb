"""Changes: everything that the app, a command or the dashboard changes goes through here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
from flask import has_app_context

from ..core import signals
from ..core.errors import BadTransactionStateError, TaskQueueError, TransientError
from ..core.states import Record
from ..core.tasks.options import check_flag
from ..core.tasks.task import Commitment, Task
from ..core.urls import redacted
from ..process.logs import get_logger
from ..runtime import Runtime, sessions
from ..runtime.contexts import own_handler, refuse_beside_handler
from ..store import Kept
from ..web.current_task import handling
from .joining import is_within_another, join_change, refuse_outer_lock

_logger = get_logger()


def warn_if_unattended(runtime: Runtime, name: Callable[[], list[str]]) -> None:
    """Warn that a change has to wait if no dispatcher runs here and none is alive anywhere.

    The database knows which dispatchers are alive. It is asked once per process, outside of the
    transaction that was committed. It is not asked while testing, nor if no other process can see
    the database. ``name`` returns the names of what was changed, for the warning.
    """
    if (
        runtime.is_attended
        or runtime.scheduler is not None
        or runtime.app.testing
        or runtime.store.database.in_memory
    ):
        return
    runtime.is_attended = True
    try:
        alive = runtime.store.read(runtime.store.dispatchers.is_any_alive)
    except (TaskQueueError, sa.exc.DBAPIError) as error:
        _logger.debug("it is not known whether a dispatcher is alive: %s", error)
        return
    if not alive:
        _logger.warning(
            "no dispatcher is alive, so this waits for one: %s. Run flask taskqueue run, or a "
            "server of the application, which starts one with its first request, unless "
            "TASKQUEUE_DISPATCHER is off or its log says that the dispatcher does not start",
            ", ".join(name()[:3]) or "a change",
        )


T = TypeVar("T")

_UNSURE = (
    "the database's answer to the commit was lost, so that the change may have been made: look "
    "before you repeat it."
)

AuditWrite = Callable[[sa.Connection, Any], object]
"""A function that records a change in the change's own transaction, given its result."""

_audit_write: ContextVar[AuditWrite | None] = ContextVar(
    "flask_taskqueue.audit_write", default=None
)


@contextmanager
def audited(note: AuditWrite | None) -> Iterator[None]:
    """Commit changes made within only together with what ``note`` writes.

    ``note`` writes in the transaction of the change; if it raises, nothing is changed.
    """
    token = _audit_write.set(note)
    try:
        yield
    finally:
        _audit_write.reset(token)


def send_added(runtime: Runtime, task: Task) -> None:
    """Send the signal of a task that was stored; what receivers then change is not part of it."""
    with audited(None):
        signals.task_added.send(runtime.app, task=task)


def make_change(
    runtime: Runtime,
    work: Callable[[sa.Connection], T],
    transactional: bool | None,
    *,
    wakes: bool = True,
    tell: Callable[[T], object] = lambda _: None,
    name: Callable[[T], list[str]] = lambda _: [],
    waits: bool = True,
    done: Callable[[sa.Connection], T | None] | None = None,
) -> tuple[T, Commitment]:
    """Run ``work(connection)`` in the session's transaction or its own, by the transaction rule.

    After the commit, dispatchers are woken (if ``wakes``) and ``tell(result)`` is called once;
    neither happens when the transaction is rolled back. ``name(result)`` gives names for two
    warnings: that a change is lost because the session was closed without a commit, and that it
    waits because no dispatcher is alive. ``waits`` says that the change may wait for another
    transaction that changes the queue. ``work`` may run several times; after a lost connection,
    ``done`` first looks for what it has already committed. It also does so before the commit of a
    session's transaction that something may have ended before.

    Raises `BadTransactionStateError` if the change cannot be part of the transaction it belongs to,
    or would wait for the caller's own transaction, and `TransientError` if it cannot be told
    whether the change was made.
    """
    note = _audit_write.get()
    if note is not None:
        work, tell = partial(_work_audited, work, note), partial(_tell_unaudited, tell)
    if joins_session(runtime, transactional):

        def follow(result: T) -> list[Callable[[], object]]:
            woken: list[Callable[[], object]] = [
                runtime.wake,
                partial(warn_if_unattended, runtime, partial(name, result)),
            ]
            return [*(woken if wakes else []), partial(tell, result)]

        return join_change(runtime, work, follow, name, waits, done)
    refuse_outer_lock(runtime)
    runtime.refuse_to_wait(Kept.ROWS if waits else Kept.INSERTS)
    runtime.store.ensure_queues()
    result = _transact(runtime, work, done)
    if wakes:
        runtime.wake()
        warn_if_unattended(runtime, lambda: name(result))
    tell(result)
    return result, Commitment()


def _transact(
    runtime: Runtime,
    work: Callable[[sa.Connection], T],
    done: Callable[[sa.Connection], T | None] | None,
) -> T:
    """Make a change in a transaction of its own.

    Without ``done``, a change whose commit may have been made is simply made again. If there is
    nothing left to change then, the first commit may be why, so `TransientError` is raised.
    """
    if done is not None:
        return runtime.store.transact(work, done=done)
    unsure = False

    def note_unsure(_: sa.Connection) -> None:
        nonlocal unsure
        unsure = True

    try:
        result = runtime.store.transact(work, done=note_unsure)
    except TaskQueueError as error:
        if unsure and not isinstance(error, TransientError):
            raise TransientError(f"{_UNSURE} Tried again, it was refused: {error}") from error
        raise
    if unsure and not _has_changed(result):
        raise TransientError(f"{_UNSURE} Tried again, it changed nothing.")
    return result


def _has_changed(result: object) -> bool:
    """Tell from a change's result whether it changed something; None says that it always does."""
    return any(result) if isinstance(result, list | tuple) else result is None or bool(result)


def joins_session(runtime: Runtime, transactional: bool | None) -> bool:
    """Tell whether a change is part of the session's transaction.

    Raises `BadTransactionStateError` if it must be and cannot.
    """
    if transactional is not None:
        check_flag("transactional", transactional)
    if runtime.binding.db is None or not has_app_context():
        if transactional:
            raise BadTransactionStateError(
                "transactional=True needs Flask-SQLAlchemy, an application context, and the "
                "queue's tables in the session's database"
            )
        return False
    if transactional is None:
        refuse_beside_handler()
        session = sessions.current(runtime.binding.session)
        return sessions.has_changes(session) or is_within_another(runtime, session)
    return transactional


def refuse_many(runtime: Runtime, transactional: bool | None, what: str) -> None:
    """Raise `BadTransactionStateError` if such a change would have to join the session.

    The change takes several transactions, so it cannot be part of the session's.
    """
    if joins_session(runtime, transactional):
        raise BadTransactionStateError(
            f"{what} changes tasks in several transactions, so it cannot be part of the "
            "session's: commit the session first"
            + ("" if transactional else ", or use transactional=False")
        )
    runtime.refuse_to_wait(Kept.NEW_ROWS)


def refuse_own_task(runtime: Runtime, ids: Sequence[str], transactional: bool | None) -> None:
    """Raise `BadTransactionStateError` if a transactional handler would end its own task.

    The handler's transaction is the one that completes that task.
    """
    current = handling.get(None)
    if (
        current is not None
        and current.id in ids
        and own_handler() is not None
        and joins_session(runtime, transactional)
    ):
        raise BadTransactionStateError(
            f"task {current.id} cannot be deleted by its own transactional handler, whose "
            "transaction completes it: "
            "return from the handler, or raise PermanentFailure"
        )


def named(record: Record) -> str:
    """Name a task for a warning."""
    return f"task {record.id} ({redacted(record.url)})"


def _work_audited(
    work: Callable[[sa.Connection], T], note: AuditWrite, connection: sa.Connection
) -> T:
    result = work(connection)
    note(connection, result)
    return result


def _tell_unaudited(tell: Callable[[T], object], result: T) -> None:
    """Tell of a change; whatever receivers then change is not part of it."""
    with audited(None):
        tell(result)
