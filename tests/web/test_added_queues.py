"""Queues that are added, changed and deleted while the app runs, on each database.

Two applications on one database stand for two processes: each has a store of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import (
    BadTransactionStateError,
    ConfigurationError,
    ConfiguredQueueError,
    InvalidKeyError,
    InvalidQueueNameError,
    InvalidUrlError,
    PermanentFailure,
    QueueAlreadyExistsError,
    QueueSettings,
    RetryOptions,
    State,
    Task,
    TaskSpec,
    TombstonedQueueError,
    UnknownQueueError,
    current_task,
    queue_added,
    queue_changed,
    queue_deleted,
)
from flask_taskqueue.api.bulk import change_ids
from flask_taskqueue.cli import taskqueue as commands
from flask_taskqueue.core.times import SECOND
from flask_taskqueue.diagnosis import findings
from flask_taskqueue.store import Action
from tests.apps import Bench, bench, served
from tests.databases import TestDatabase

DAY = 86_400
HELD = {"countdown": 3600}


class Process:
    """Another process of the application, whose calls are made in its own context."""

    def __init__(self, one: Bench) -> None:
        self._one = one
        self.store, self.runtime = one.store, one.runtime

    def call(self, do: Callable[[], Any]) -> Any:
        """Do something there."""
        with self._one.app.app_context():
            return do()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a method of its `TaskQueue`."""
        return lambda *given, **named: self.call(
            lambda: getattr(self._one.tasks, name)(*given, **named)
        )


@pytest.fixture
def other(database: TestDatabase) -> Iterator[Process]:
    """Another process of the same application."""
    with bench(database.url, TASKQUEUE_QUEUES={"mail": {"rate": "20/m"}}) as one:
        _workers(one)
        yield Process(one)


@pytest.fixture
def shop(other: Process, database: TestDatabase) -> Iterator[Bench]:
    """An application with the queues default and mail, and a worker that fails when asked."""
    with bench(database.url, TASKQUEUE_QUEUES={"mail": {"rate": "20/m"}}) as one:
        _workers(one)
        yield one


def _workers(one: Bench) -> None:
    one.tasks.worker("/w")(lambda: None)

    @one.tasks.worker("/fails")
    def fails() -> None:
        raise ValueError("no")

    @one.tasks.worker("/hopeless")
    def hopeless() -> None:
        raise PermanentFailure("no")


def ran(other: Process, task: Task) -> Task:
    """The task after what is due has run there."""
    other.drain()
    found: Task = other.get(task.id)
    return found


def settings(other: Process, name: str) -> QueueSettings:
    """The settings of a queue, as the other process knows them."""
    found: QueueSettings = other.call(lambda: other.queue(name).settings)
    return found


def row(shop: Bench | Process, name: str) -> Any:
    """What the table says of a queue."""
    queue = shop.store.database.tables.queue
    with shop.store.reading() as connection:
        return connection.execute(sa.select(queue).where(queue.c.name == name)).one_or_none()


def set_row(shop: Bench, name: str, **values: Any) -> None:
    """Have the table say something else."""
    queue = shop.store.database.tables.queue
    shop.store.transact(
        lambda connection: connection.execute(
            sa.update(queue).where(queue.c.name == name).values(values)
        )
    )


def pass_days(shop: Bench, name: str, days: float) -> None:
    """Let a queue have been deleted some days earlier."""
    set_row(shop, name, deleted_at=row(shop, name).deleted_at - int(days * DAY * SECOND))


def test_a_queue_that_one_process_adds_takes_tasks_of_another_at_once(
    shop: Bench, other: Process
) -> None:
    """Whoever adds the task reads the queue's row, whether it looked for the queue before or not;
    its settings are those of the task.
    """
    with pytest.raises(UnknownQueueError, match="there is no queue 'tours'"):
        other.add("/w", queue="tours")
    with pytest.raises(UnknownQueueError, match="TASKQUEUE_QUEUES has default, mail"):
        other.change_queue("tours", rate="1/s")
    shop.tasks.add_queue("tours", priority=3, max_concurrent=2, deadline="5m", tombstone_ttl=0)
    task = other.add("/w", queue="tours", name="one")
    assert (task.queue, task.priority) == ("tours", 3)
    assert ran(other, task).state == State.SUCCEEDED
    assert other.add("/w", queue="tours", name="one").was_enqueued
    assert [queue.name for queue in other.queues()] == ["default", "mail", "tours"]
    found = settings(other, "tours")
    assert (found.max_concurrent, found.deadline, found.priority) == (2, 300.0, 3)


def test_every_way_of_adding_knows_an_added_queue(shop: Bench, other: Process) -> None:
    """Lists, any number, batches with their callbacks, what follows, and schedules."""
    shop.tasks.add_queue("tours")
    spec = TaskSpec("/w", queue="tours")
    other.queue("tours").add([spec, spec])
    assert other.add_many([spec] * 3).added == 3
    other.batch([spec], on_finish=spec)
    other.add("/w", then=spec)
    other.add_schedule("nightly", "/w", "every 24 hours", queue="tours")
    other.get_schedule("nightly").run_now()
    other.drain()
    assert len(shop.tasks.queue("tours").find(state="succeeded")) == 9


def test_an_attempt_follows_the_settings_that_its_queue_has_when_it_is_claimed(
    shop: Bench, other: Process
) -> None:
    """In a dispatcher that began before the queue was there, and after the queue was changed in
    another process.
    """
    dispatcher, attempts = other.runtime.dispatcher()
    try:
        dispatcher.drain()
        shop.tasks.add_queue("tours", retry={"task_retry_limit": 0})
        first = shop.tasks.add("/fails", queue="tours")
        dispatcher.drain()
        assert shop.tasks.get(first.id).state == State.DEAD
        second = shop.tasks.add("/fails", queue="tours")
        shop.tasks.change_queue(
            "tours", retry=RetryOptions(task_retry_limit=5, min_backoff_seconds=60)
        )
        dispatcher.drain()
        found = shop.tasks.get(second.id)
        assert (found.state, found.attempts) == (State.SCHEDULED, 1)
        assert found.due_at is not None
        assert (found.due_at - found.created_at).total_seconds() > 50
    finally:
        dispatcher.stop(5)
        attempts.close()


@pytest.mark.parametrize("transport", ["wsgi", "http"])
def test_the_deadline_of_an_added_queue_is_that_of_its_attempts(
    shop: Bench, transport: str
) -> None:
    """In process, where the claim has read it, and over HTTP, where the web process reads it."""
    seen: list[float] = []

    @shop.tasks.worker("/asks")
    def asks() -> None:
        seen.append(current_task.remaining)

    def deliver() -> None:
        shop.tasks.add("/asks", queue="long")
        if transport == "wsgi":
            shop.tasks.drain()
            return
        with served(shop.app) as url:
            shop.runtime.drain(transport="http", base_url=url)

    shop.tasks.add_queue("long", deadline="1h")
    deliver()
    shop.tasks.change_queue("long", deadline=None)
    deliver()
    assert 3000 < seen[0] <= 3600
    assert seen[1] <= 30


def test_the_limits_of_an_added_queue_hold(shop: Bench, other: Process) -> None:
    """They are columns of its row like those of any queue, and change by either way."""
    shop.tasks.add_queue("slow", rate="1/h", bucket_size=1)
    tasks = [other.add("/w", queue="slow") for _ in range(2)]
    other.drain()
    assert sorted(str(shop.tasks.get(task.id).state) for task in tasks) == [
        "scheduled",
        "succeeded",
    ]
    shop.tasks.queue("slow").configure(rate="1/m")
    assert settings(other, "slow").rate == pytest.approx(1 / 60)
    shop.tasks.change_queue("slow", rate=None)
    other.drain()
    assert not shop.tasks.queue("slow").find(state="scheduled")


def test_a_queue_that_the_session_adds_is_there_for_its_own_tasks_only(
    shop: Bench, other: Process
) -> None:
    """Both are committed together or not at all."""
    shop.db.session.add(shop.Counter(id=2, count=0))
    shop.tasks.add_queue("mine")
    rolled_back = shop.tasks.add("/w", queue="mine")
    with pytest.raises(UnknownQueueError):
        other.queue("mine")
    with pytest.raises((UnknownQueueError, BadTransactionStateError)):
        shop.tasks.add("/w", queue="mine", transactional=False)
    shop.db.session.rollback()
    assert row(other, "mine") is None
    assert other.find() == []
    shop.db.session.add(shop.Counter(id=2, count=0))
    shop.tasks.add_queue("mine")
    task = shop.tasks.add("/w", queue="mine")
    shop.db.session.commit()
    assert task.id != rolled_back.id
    assert ran(other, task).state == State.SUCCEEDED


def test_a_transaction_that_began_before_the_queue_takes_tasks_for_it(
    shop: Bench, other: Process
) -> None:
    """Even where it keeps seeing the database as it was when it began."""
    shop.db.session.add(shop.Counter(id=2, count=0))
    if not other.store.database.dialect.locks_by_writing:
        shop.db.session.flush()
        shop.db.session.execute(sa.text("SELECT * FROM taskqueue_queue")).all()
    other.add_queue("tours", priority=2)
    task = shop.tasks.add("/w", queue="tours")
    shop.db.session.commit()
    assert ran(other, task).state == State.SUCCEEDED


def test_what_is_no_queue_is_refused(shop: Bench) -> None:
    """With the name of the setting, and nothing stored."""
    for wrong, error in (
        ({"rate": "many"}, ConfigurationError),
        ({"color": "red"}, ConfigurationError),
        ({"retry": {"task_retry_limit": -1}}, ConfigurationError),
        ({"target": "https://elsewhere.example.com"}, InvalidUrlError),
    ):
        with pytest.raises(error):
            shop.tasks.add_queue("tours", **wrong)
    for name in ("no name", "nul\0", "ü", "a" * 101):
        with pytest.raises(InvalidQueueNameError):
            shop.tasks.add_queue(name)
        with pytest.raises(InvalidQueueNameError):
            shop.tasks.delete_queue(name)
        with pytest.raises(UnknownQueueError):
            shop.tasks.queue(name)
    assert row(shop, "tours") is None


def test_of_two_that_add_the_same_queue_one_does(shop: Bench, other: Process) -> None:
    """The other is told, and changes nothing."""
    shop.tasks.add_queue("tours", priority=1)
    with pytest.raises(QueueAlreadyExistsError, match="'tours' already, which was added"):
        other.add_queue("tours", priority=2)
    assert settings(other, "tours").priority == 1


def test_a_configured_queue_is_left_to_the_configuration(shop: Bench, database: Any) -> None:
    """By processes that have it in theirs, and by those that do not."""
    shop.tasks.add("/w", queue="mail", **HELD)
    with pytest.raises(QueueAlreadyExistsError, match="configured"):
        shop.tasks.add_queue("mail")
    with pytest.raises(ConfiguredQueueError, match="TASKQUEUE_QUEUES"):
        shop.tasks.change_queue("mail", rate=None)
    with pytest.raises(ConfiguredQueueError, match="'mail' is configured"):
        shop.tasks.delete_queue("mail")
    with bench(database.url) as older:
        with pytest.raises(QueueAlreadyExistsError, match="configured"):
            older.tasks.add_queue("mail")
        with pytest.raises(ConfiguredQueueError):
            older.tasks.change_queue("mail", rate=None)
        with pytest.raises(ConfiguredQueueError):
            older.tasks.delete_queue("mail")
        with pytest.raises(UnknownQueueError):
            older.tasks.queue("mail")
    assert len(shop.tasks.queue("mail").find(state="scheduled")) == 1


def test_a_queue_that_is_configured_later_follows_the_configuration(
    shop: Bench, database: Any
) -> None:
    """Its tasks stay; a process of the release before, which does not have it, goes on."""
    shop.tasks.add_queue("tours", rate="1/h", priority=1, retry={"task_retry_limit": 0})
    task = shop.tasks.add("/fails", queue="tours")
    configured = {"tours": {"priority": 5, "retry": {"min_backoff_seconds": 60}}}
    with bench(database.url, TASKQUEUE_QUEUES=configured) as newer:
        _workers(newer)
        assert newer.tasks.add("/w", queue="tours", **HELD).priority == 5
        assert newer.tasks.queue("tours").settings.rate is None
        assert newer.run(task).state == State.SCHEDULED
        assert [queue.name for queue in newer.tasks.queues()] == ["default", "tours"]
    assert shop.tasks.add("/w", queue="tours", **HELD).priority == 1
    with pytest.raises(ConfiguredQueueError):
        shop.tasks.delete_queue("tours")


def test_deleting_a_queue_cancels_its_tasks_and_blocks_its_name(
    shop: Bench, other: Process
) -> None:
    """In every process; the name is free after three days, as in Cloud Tasks."""
    shop.tasks.add_queue("tours")
    tasks = [other.add("/w", queue="tours", **HELD) for _ in range(3)]
    waiting = [other.add("/w", queue="tours", serial_key="k", **HELD) for _ in range(2)]
    with_other = other.add("/w", **HELD)
    known = other.queue("tours")
    assert shop.tasks.delete_queue("tours") == 5
    assert {other.get(task.id).state for task in tasks + waiting} == {State.CANCELLED}
    assert other.get(with_other.id).state == State.SCHEDULED
    for use in (
        lambda: other.add("/w", queue="tours"),
        lambda: other.call(lambda: known.add("/w")),
        lambda: other.call(lambda: known.pause()),
        lambda: other.call(lambda: known.configure(rate="1/s")),
        lambda: other.call(lambda: known.settings),
        lambda: other.queue("tours"),
        lambda: other.change_queue("tours", rate="1/s"),
        lambda: other.delete_queue("tours"),
    ):
        with pytest.raises(UnknownQueueError, match="there is no queue 'tours': it was deleted"):
            use()
    assert "tours" not in [queue.name for queue in other.queues()]
    assert "tours" not in [counts.queue for counts in other.statistics()]
    with shop.store.reading() as connection:
        assert "tours" not in [metric.queue for metric in shop.store.metrics.all(connection)]
    with pytest.raises(TombstonedQueueError, match="its name is free again from"):
        other.add_queue("tours")
    pass_days(shop, "tours", 3.01)
    other.add_queue("tours", priority=2)
    assert shop.run(shop.tasks.add("/w", queue="tours")).priority == 2


def test_what_is_left_in_a_deleted_queue_is_cancelled_by_the_next_sweep(
    shop: Bench, other: Process
) -> None:
    """Whoever deleted it may have died before, and a transaction that had found the queue may
    commit its task afterwards.
    """
    shop.tasks.add_queue("tours")
    shop.db.session.add(shop.Counter(id=2, count=0))
    late = shop.tasks.add("/w", queue="tours")
    left = (
        []
        if other.store.database.dialect.locks_by_writing
        else [
            other.add("/w", queue="tours"),
            other.add("/w", queue="tours", serial_key="k"),
            other.add("/w", queue="tours", serial_key="k"),
        ]
    )
    if other.store.database.dialect.locks_by_writing:
        shop.db.session.commit()
    other.store.transact(lambda connection: other.store.added_queues.delete(connection, "tours"))
    shop.db.session.commit()
    other.drain()
    assert {other.get(task.id).state for task in (late, *left)} == {State.SCHEDULED}
    assert other.why(late).code == "queue_deleted"
    pass_days(shop, "tours", 4)
    with pytest.raises(TombstonedQueueError, match="once its last tasks are cancelled"):
        other.add_queue("tours")
    other.runtime.sweep()
    assert {other.get(task.id).state for task in (late, *left)} == {State.CANCELLED}
    other.runtime.sweep()
    assert row(shop, "tours") is None
    other.add_queue("tours")


def test_what_follows_into_a_deleted_queue_is_cancelled_and_told(
    shop: Bench, other: Process, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is there to be refused: the log tells of it, and `why` says the reason."""
    shop.tasks.add_queue("tours")
    spec = TaskSpec("/w", queue="tours")
    dead = shop.run(shop.tasks.add("/hopeless", queue="tours"))
    shop.tasks.add("/w", then=spec)
    shop.tasks.batch([TaskSpec("/w")], on_finish=spec)
    shop.tasks.delete_queue("tours")
    shop.tasks.drain()
    left = shop.tasks.find(queue="tours", state="scheduled")
    assert len(left) == 2
    assert {other.why(task.id).code for task in left} == {"queue_deleted"}
    other.runtime.sweep()
    assert "2 tasks of queue tours, which was deleted, were cancelled" in caplog.text
    why = other.why(left[0].id)
    assert (why.code, "its queue, tours, was deleted" in why.sentence) == ("queue_deleted", True)
    assert dead.state == State.DEAD
    with pytest.raises(UnknownQueueError, match="'tours': it was deleted at"):
        dead.requeue()
    assert change_ids(other.runtime, Action.REQUEUE, [dead.id]) == 0
    assert other.get(dead.id).state == State.DEAD


def test_a_schedule_of_a_deleted_queue_stops_firing_and_says_so(
    shop: Bench, other: Process, caplog: pytest.LogCaptureFixture
) -> None:
    """Until it is changed."""
    shop.tasks.add_queue("tours")
    other.add_schedule("often", "/w", "every 1 seconds", queue="tours")
    shop.tasks.delete_queue("tours")
    often = shop.tasks.get_schedule("often")
    with pytest.raises(UnknownQueueError, match="'tours': it was deleted at"):
        often.run_now()
    shop.runtime.cron.tick(often.next_at)
    assert "schedule often does not fire any more: there is no queue 'tours'" in caplog.text
    broken = shop.tasks.get_schedule("often")
    assert broken.next_at is None
    assert any(broken.last_error in finding.text for finding in findings(shop.runtime))
    assert shop.tasks.find(queue="tours") == []
    broken.change(task=TaskSpec("/w"))
    mended = shop.tasks.get_schedule("often")
    assert (mended.last_error, mended.next_at is None) == (None, False)
    shop.runtime.cron.tick(mended.next_at)
    assert [task.queue for task in shop.tasks.find()] == ["default"]


def test_a_queue_is_not_deleted_in_a_transaction_of_the_caller(shop: Bench) -> None:
    """Its tasks are cancelled in several; nothing is changed."""
    shop.tasks.add_queue("tours")
    shop.db.session.add(shop.Counter(id=2, count=0))
    with pytest.raises(BadTransactionStateError, match="to delete queue tours"):
        shop.tasks.delete_queue("tours")
    shop.db.session.rollback()
    assert shop.tasks.queue("tours").name == "tours"


def test_settings_that_cannot_be_read_stop_nothing_else(
    shop: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever wrote them by hand finds the tasks attempted with the general settings, and why."""
    shop.tasks.add_queue("tours")
    task = shop.tasks.add("/fails", queue="tours", retry={"min_backoff_seconds": 600})
    set_row(shop, "tours", settings='{"deadline": "soon"}')
    assert shop.run(task).attempts == 1
    assert "the settings that are stored for queue 'tours' are malformed" in caplog.text
    with pytest.raises(ConfigurationError, match="malformed"):
        shop.tasks.add("/w", queue="tours")
    shop.tasks.delete_queue("tours")


def test_signals_tell_of_added_queues(shop: Bench) -> None:
    """After the commit, and not of what was refused or rolled back."""
    told: list[Any] = []

    def receiver(name: str) -> Any:
        return lambda _, **sent: told.append((name, sent))

    receivers = [receiver(name) for name in ("added", "changed", "deleted")]
    for signal, each in zip((queue_added, queue_changed, queue_deleted), receivers, strict=True):
        signal.connect(each, shop.app)
    shop.tasks.add_queue("tours")
    shop.tasks.add("/w", queue="tours", **HELD)
    shop.tasks.change_queue("tours", rate="5/s")
    shop.tasks.delete_queue("tours")
    with pytest.raises(TombstonedQueueError):
        shop.tasks.add_queue("tours")
    shop.db.session.add(shop.Counter(id=2, count=0))
    shop.tasks.add_queue("never")
    shop.db.session.rollback()
    assert told == [
        ("added", {"queue": "tours"}),
        ("changed", {"queue": "tours"}),
        ("deleted", {"queue": "tours", "cancelled": 1}),
    ]


def test_a_configured_queue_costs_no_statement(shop: Bench) -> None:
    """What is configured is known without looking."""
    statements: list[str] = []
    sa.event.listen(
        shop.store.database.engine,
        "before_cursor_execute",
        lambda *given: statements.append(given[2]),
    )
    shop.tasks.add("/w", queue="mail")
    first = list(statements)
    shop.tasks.add_queue("tours")
    statements.clear()
    shop.tasks.add("/w", queue="tours")
    assert not any("settings" in task and task.startswith("SELECT") for task in first)
    assert sum("FROM taskqueue_queue" in statement for statement in statements) == 1


def test_the_rate_of_keys_of_an_added_queue_is_given_by_a_command(shop: Bench) -> None:
    """The error names the one that works; that of a configured queue names the setting."""
    shop.tasks.add_queue("tours")
    with pytest.raises(InvalidKeyError) as refused:
        shop.tasks.add("/w", queue="tours", rate_key="ana")
    command = "flask taskqueue queues change tours --rate-per-key 10/m"
    assert str(refused.value).endswith(command)
    assert shop.app.test_cli_runner().invoke(commands, command.split()[2:]).exit_code == 0
    assert shop.tasks.add("/w", queue="tours", rate_key="ana").rate_key == "ana"
    with pytest.raises(InvalidKeyError, match=r"TASKQUEUE_QUEUES, such as \{.mail."):
        shop.tasks.add("/w", queue="mail", rate_key="ana")
