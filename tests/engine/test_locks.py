"""An application's transaction that stays open holds up nobody but what it has locked, on each
database that has more than one writer.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import BadTaskStateError, State, Task
from flask_taskqueue.engine.registration import Registration
from flask_taskqueue.engine.scheduler import Scheduler
from tests.apps import Bench, bench
from tests.databases import TestDatabase
from tests.waiting import wait_until

LEASE = 2.0
SHORT_BELOW = 15
"""How many tasks have to run while the lock is held."""

on_servers = pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)


class Stage:
    """An application with two dispatchers, and handlers that end when they are told to."""

    def __init__(self, queue: Bench) -> None:
        self.queue = queue
        self.ends: dict[str, threading.Event] = {
            name: threading.Event() for name in ("soon", "late")
        }
        self.runs: Counter[str] = Counter()
        self.held = queue.tasks.worker("/held")(self._hold)
        self.quick = queue.tasks.worker("/quick")(self._note)
        self.follow = queue.tasks.worker("/follow")(lambda: None)

    def _hold(self, name: str) -> None:
        self.runs[name] += 1
        assert self.ends[name].wait(60)

    def _note(self, name: str) -> None:
        self.runs[name] += 1

    def begin(self, **options: Any) -> dict[str, Task]:
        """A task that ends while the lock is held, and one that runs on; both under way."""
        tasks = {name: self.held.options(**options).add(name=name) for name in self.ends}
        wait_until(lambda: self.runs["soon"] and self.runs["late"], what="both run")
        return tasks

    @contextmanager
    def locked(
        self,
        lock: Callable[[], object] = lambda: None,
        *,
        end: str = "rollback",
        level: str | None = None,
    ) -> Iterator[None]:
        """Within this another thread's session has done something, and has neither committed
        nor rolled it back, which it does then.
        """
        done, leave = threading.Event(), threading.Event()
        errors: list[Exception] = []

        def work() -> None:
            with self.queue.app.app_context():
                session = self.queue.db.session
                try:
                    if level is not None:
                        session.connection(execution_options={"isolation_level": level})
                    session.add(self.queue.Counter(id=9, count=0))
                    session.flush()
                    lock()
                except Exception as error:  # noqa: BLE001 - told by the test's own thread
                    errors.append(error)
                done.set()
                leave.wait(120)
                getattr(session, end)()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            assert done.wait(60)
            assert not errors, errors
            yield
        finally:
            leave.set()
            thread.join(60)

    def go_on(self) -> None:
        """Others begin and end for longer than a lease; what ends meanwhile is told to."""
        self.ends["soon"].set()
        ends = time.monotonic() + 1.5 * LEASE
        number = 0
        while number < SHORT_BELOW or time.monotonic() < ends:
            number += 1
            task = self.quick.add(name=f"quick {self.runs.total()}")
            assert task.wait(30).state is State.SUCCEEDED
            time.sleep(0.02)

    def go_on_with(self, tasks: list[Task]) -> None:
        """As `go_on`, with tasks that were added before."""
        self.ends["soon"].set()
        for task in tasks:
            assert task.wait(60).state is State.SUCCEEDED

    def check(self, tasks: dict[str, Task]) -> None:
        """Everything ends well, each after one run."""
        self.ends["late"].set()
        for task in tasks.values():
            ended = task.wait(60)
            assert (ended.state, ended.attempts, ended.crashes) == (State.SUCCEEDED, 1, 0)
        assert {name: number for name, number in self.runs.items() if number > 1} == {}


@pytest.fixture
def stage(database: TestDatabase) -> Iterator[Stage]:
    """Two dispatchers at work."""
    queues = {"default": {}, "limited": {"max_concurrent": 4}}
    settings = {
        "TASKQUEUE_LEASE": LEASE,
        "TASKQUEUE_POLL_INTERVAL": 0.2,
        "TASKQUEUE_QUEUES": queues,
    }
    with bench(database.url, **settings) as queue:
        one = Stage(queue)
        runtime = queue.runtime
        runtime.start()
        dispatcher, attempts = runtime.dispatcher()
        other = Scheduler(
            dispatcher,
            runtime.cron,
            Registration(runtime.store, dispatcher, "wsgi"),
            poll_interval=0.2,
            lease=LEASE,
            sweep=runtime.sweep,
            carry_on=lambda: False,
        )
        other.start()
        try:
            yield one
        finally:
            for event in one.ends.values():
                event.set()
            other.stop(5)
            attempts.close()
            runtime.stop(5)


@pytest.mark.slow
@on_servers
class TestWhatATransactionLocks:
    """It is kept open for longer than a lease, while tasks run, end and begin. Nothing runs
    twice, and nothing else stops.
    """

    def test_the_rows_of_tasks_that_run(self, stage: Stage) -> None:
        """Locked by hand: the lease cannot be prolonged there, nor the end be recorded."""
        tasks = stage.begin()
        table = stage.queue.store.database.tables.task
        rows = (
            sa.select(table)
            .where(table.c.id.in_([task.id for task in tasks.values()]))
            .with_for_update()
        )
        with stage.locked(lambda: stage.queue.db.session.execute(rows).all()):
            stage.go_on()
        stage.check(tasks)

    def test_the_deletion_of_tasks_that_run(self, stage: Stage) -> None:
        """And is rolled back: the row of the attempt was inserted, too."""
        tasks = stage.begin()
        with stage.locked(
            lambda: [stage.queue.tasks.get(task.id).delete() for task in tasks.values()]
        ):
            stage.go_on()
        stage.check(tasks)

    def test_the_deletion_of_tasks_that_run_and_have_a_key(self, stage: Stage) -> None:
        """And is committed: nothing takes the place of one whose handler still runs, although its
        lease was last prolonged in its row before the transaction began.
        """
        held = {name: stage.held.options(serial_key=name).add(name=name) for name in stage.ends}
        wait_until(lambda: stage.runs["soon"] and stage.runs["late"], what="both run")
        behind = {
            name: stage.quick.options(serial_key=name).add(name=f"behind {name}")
            for name in stage.ends
        }
        with stage.locked(
            lambda: [stage.queue.tasks.get(task.id).delete() for task in held.values()],
            end="commit",
        ):
            stage.go_on()
        assert behind["soon"].wait(60).state is State.SUCCEEDED
        stage.go_on()
        assert stage.runs["behind late"] == 0
        stage.ends["late"].set()
        assert behind["late"].wait(60).state is State.SUCCEEDED
        for task in held.values():
            assert stage.queue.tasks.get(task.id).state is State.CANCELLED
        assert {name: number for name, number in stage.runs.items() if number > 1} == {}

    @pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
    def test_what_is_refused(self, stage: Stage, level: str) -> None:
        """Looked at is what is refused, and whatever it looks at may be locked until its end."""
        tasks = stage.begin()

        def refused() -> None:
            for task in tasks.values():
                for change in (task.run_now, task.requeue):
                    with pytest.raises(BadTaskStateError):
                        change()
                assert stage.queue.tasks.get(task.id).due_at

        with stage.locked(refused, level=level):
            stage.go_on()
        stage.check(tasks)

    def test_places_of_other_keys(self, stage: Stage) -> None:
        """A task that waits for one key is locked. Those that wait for others go on, whoever frees
        their places.
        """
        first = {
            key: stage.quick.options(serial_key=key, countdown=600).add(name=f"first {key}")
            for key in "abc"
        }
        behind = {
            key: stage.quick.options(serial_key=key).add(name=f"behind {key}") for key in "abc"
        }
        with stage.locked(lambda: stage.queue.tasks.get(behind["a"].id).delete()):
            stage.queue.db.session.add(stage.queue.Counter(id=8, count=0))
            for task in first.values():
                task.delete()
            stage.queue.db.session.commit()
            for key in "bc":
                assert behind[key].wait(60).state is State.SUCCEEDED
            assert stage.runs["behind a"] == 0
        assert behind["a"].wait(60).state is State.SUCCEEDED

    def test_the_deletion_of_another_task(self, stage: Stage) -> None:
        """Of the same queue: neither waits for the other."""
        one, other = (stage.quick.options(countdown=600).add(name=name) for name in "ab")
        with stage.locked(lambda: stage.queue.tasks.get(one.id).delete()):
            stage.queue.db.session.add(stage.queue.Counter(id=8, count=0))
            other.delete()
            stage.queue.db.session.commit()
            assert stage.queue.tasks.get(other.id).state is State.CANCELLED

    def test_a_batch(self, stage: Stage) -> None:
        """One of its tasks is deleted; the ends of the others cannot be counted."""
        specs = [stage.held.spec(name=name) for name in stage.ends]
        batch = stage.queue.tasks.batch(
            [*specs, stage.quick.options(countdown=600).spec(name="never")]
        )
        wait_until(lambda: stage.runs["soon"] and stage.runs["late"], what="both run")
        tasks = {task.url: task for task in stage.queue.tasks.find(state="leased")}
        waiting = stage.queue.tasks.find(state="scheduled")
        with stage.locked(lambda: [item.delete() for item in waiting]):
            stage.go_on()
        stage.ends["late"].set()
        wait_until(
            lambda: stage.queue.tasks.get_batch(batch.id).succeeded == 2, what="both are counted"
        )
        assert len(tasks) == 1
        assert {name: number for name, number in stage.runs.items() if number > 1} == {}

    @pytest.mark.parametrize(
        "options",
        [{"concurrency_key": "k"}, {"concurrency_key": "k", "queue": "limited"}],
        ids=["plain", "limited"],
    )
    def test_a_key(self, stage: Stage, options: dict[str, str]) -> None:
        """Which another task has that is deleted: no task of this key can begin, those of
        others do.
        """
        keyed = {
            name: stage.held.options(**(options | {"concurrency_key": name})).add(name=name)
            for name in stage.ends
        }
        wait_until(lambda: stage.runs["soon"] and stage.runs["late"], what="both run")
        behind = [
            stage.held.options(**(options | {"concurrency_key": name, "countdown": 600})).add(
                name=name
            )
            for name in stage.ends
        ]
        with stage.locked(lambda: [stage.queue.tasks.get(one.id).delete() for one in behind]):
            stage.go_on()
        stage.check(keyed)

    def test_a_key_that_is_new(self, stage: Stage) -> None:
        """Nobody has decided on it before: its row is inserted, and nobody else can."""
        tasks = stage.begin()
        first = stage.quick.options(serial_key="new", countdown=600).add(name="first")
        second = stage.quick.options(serial_key="new").spec(name="second")
        with stage.locked(lambda: stage.queue.tasks.get(first.id).delete()):
            waiting = stage.queue.tasks.add(second)
            stage.go_on()
            assert stage.runs["second"] == 0
        stage.queue.tasks.get(first.id).delete()
        assert stage.queue.tasks.get(waiting.id).wait(60).state is State.SUCCEEDED
        stage.check(tasks)

    def test_what_follows(self, stage: Stage) -> None:
        """Its unique_key is that of a task that is being added."""
        following = stage.follow.options(unique_key="one").spec()
        tasks = stage.begin(then=following)
        with stage.locked(lambda: stage.queue.tasks.add("/follow", unique_key="one")):
            stage.go_on()
        stage.check(tasks)

    def test_a_unique_key_that_is_taken(self, stage: Stage) -> None:
        """Another task takes the place of one that waits. MariaDB locks where others would be
        added, so they are there already.
        """
        tasks = stage.begin()
        keyed = stage.quick.options(unique_key="one", countdown=600).add(name="never")
        later = [
            stage.quick.options(countdown=1 + LEASE * number / 10).add(name=f"quick {number}")
            for number in range(20)
        ]
        with stage.locked(
            lambda: stage.queue.tasks.add(
                "/quick", {"name": "x"}, unique_key="one", on_conflict="replace"
            )
        ):
            stage.go_on_with(later)
        stage.queue.tasks.get(keyed.id).delete()
        stage.check(tasks)

    def test_a_queue(self, stage: Stage) -> None:
        """It is being paused: while that is not committed it is not."""
        tasks = stage.begin()
        with stage.locked(lambda: stage.queue.tasks.queue("default").pause()):
            stage.go_on()
        stage.check(tasks)

    def test_what_expires(self, stage: Stage) -> None:
        """The end of a task that nobody may begin any more cannot be counted in its batch;
        others of its lane begin.
        """
        tasks = stage.begin()
        gone = stage.quick.options(countdown=0.5, expires=60).spec(name="gone")
        batch = stage.queue.tasks.batch(
            [gone, stage.quick.options(countdown=600).spec(name="never")]
        )
        store = stage.queue.store
        table = store.database.tables.task
        expire = sa.update(table).where(table.c.expires_at.is_not(None)).values(expires_at=1)
        store.transact(lambda connection: connection.execute(expire))
        waiting = [
            task
            for task in stage.queue.tasks.find(state="scheduled")
            if task.eta.timestamp() > time.time() + 60
        ]
        with stage.locked(lambda: [item.delete() for item in waiting]):
            stage.go_on()
        wait_until(
            lambda: stage.queue.tasks.get_batch(batch.id).cancelled == 1, what="it is counted"
        )
        stage.check(tasks)

    def test_a_crashed_task(self, stage: Stage) -> None:
        """What is to be taken over is locked; the rest goes on."""
        tasks = stage.begin()
        crashed = stage.quick.options(countdown=600).add(name="crashed")
        store = stage.queue.store
        table = store.database.tables.task
        changes = {
            "state": "leased",
            "attempts": 1,
            "lease_id": "x",
            "held_by": "dead",
            "started_at": 1,
            "first_tried_at": 1,
            "due_at": 1,
        }
        row = sa.select(table).where(table.c.id == crashed.id).with_for_update()
        stage.queue.tasks.queue("default").pause()
        store.transact(
            lambda connection: connection.execute(
                sa.update(table).where(table.c.id == crashed.id).values(changes)
            )
        )
        with stage.locked(lambda: stage.queue.db.session.execute(row).all()):
            stage.queue.tasks.queue("default").resume()
            stage.go_on()
        assert stage.queue.tasks.get(crashed.id).wait(60).state is State.SUCCEEDED
        stage.check(tasks)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_only_write_lock(stage: Stage) -> None:
    """The application keeps it for longer than a lease, so that nobody can renew any; then nobody
    takes over what others run, before these have had their turn.
    """
    for number in range(3):
        names = [f"{number} {item}" for item in range(4)]
        stage.ends.update({name: threading.Event() for name in names})
        held = [stage.held.add(name=name) for name in names]
        wait_until(lambda names=names: all(stage.runs[name] for name in names), what="all run")  # type: ignore[misc]
        with stage.locked():
            ends = time.monotonic() + 2 * LEASE
            wait_until(lambda ends=ends: time.monotonic() > ends, what="leases have run out")  # type: ignore[misc]
        ends = time.monotonic() + LEASE
        wait_until(lambda ends=ends: time.monotonic() > ends, what="they were renewed, or not")  # type: ignore[misc]
        for name in names:
            stage.ends[name].set()
        for task in held:
            ended = task.wait(60)
            assert (ended.state, ended.attempts) == (State.SUCCEEDED, 1)
    assert set(stage.runs.values()) == {1}
