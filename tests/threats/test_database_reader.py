"""Threat: whoever can read the database, a dump or a backup of it learns what tasks hold."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from flask import request

from flask_taskqueue import DecryptionError, Task, TaskSpec
from flask_taskqueue.core.security.encryption import MARK as SEALED
from flask_taskqueue.core.states import State
from tests.apps import Bench
from tests.apps import bench as application
from tests.databases import TestDatabase

MARK = "hunter2-do-not-show"
OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


def bench(database: TestDatabase, *keys: str) -> Any:
    """An application with these keys, and a handler that notes what it gets."""
    return application(database.url, TASKQUEUE_ENCRYPTION_KEYS=list(keys))


def handler(queue: Bench) -> list[str]:
    """What the handler of ``/w`` got; it answers with the marker."""
    got: list[str] = []

    @queue.tasks.worker("/w", retry={"task_retry_limit": 0})
    def w() -> tuple[str, int, dict[str, str]]:
        got.append(request.headers.get("X-A", "") + request.get_data(as_text=True))
        return MARK, 500 if "fail" in got[-1] else 200, {"X-B": MARK}

    return got


def values(queue: Bench) -> Iterator[tuple[str, str]]:
    """Every text and every bytes in the queue's tables, with where it is."""
    database = queue.store.database
    with database.engine.connect() as connection:
        for table in database.tables.all:
            for row in connection.execute(sa.select(table)):
                for name, value in row._mapping.items():
                    if isinstance(value, str | bytes):
                        yield (
                            f"{table.name}.{name}",
                            value if isinstance(value, str) else value.decode("latin-1"),
                        )


def rewrite(queue: Bench, task: Task, **changed: Any) -> None:
    """Change a row by hand."""
    table = queue.store.database.tables.task
    with queue.store.database.engine.begin() as connection:
        connection.execute(sa.update(table).where(table.c.id == task.id).values(changed))


class TestADatabaseReaderStealsSecrets:
    """With TASKQUEUE_ENCRYPTION_KEYS bodies, headers, what follows, schedules and replies are
    encrypted in the tables.
    """

    def test_every_way_into_the_tables(self, database: TestDatabase, tmp_path: Path) -> None:
        """add, add_many, a list, a batch, then, debounce, schedules, kept and failed replies:
        delivered in the clear, stored sealed.
        """
        with bench(database, NEW) as queue:
            got, tasks = handler(queue), queue.tasks
            held = TaskSpec("/w", payload=MARK, headers={"X-A": MARK})
            tasks.schedule("daily", "/w", "every day 00:00", payload=MARK, headers={"X-A": MARK})
            kept = tasks.add(
                TaskSpec(
                    "/w", payload=MARK, headers={"X-A": MARK}, keep_result=True, then=[held, held]
                )
            )
            tasks.add(TaskSpec("/w", payload=f"fail {MARK}", headers={"X-A": MARK}))
            for _ in range(2):
                tasks.add("/w", payload=f"debounced {MARK}", unique_key="a", on_conflict="debounce")
            tasks.add_many([held] * 3)
            tasks.queue("default").add([held, held])
            tasks.batch([held], on_finish=held, on_dead=held)
            tasks.add(
                "/w", payload=f"later {MARK}", eta=datetime.now(UTC).replace(hour=23, minute=59)
            )
            tasks.get_schedule("daily").run_now()
            self._absent(queue, tmp_path)
            tasks.drain()
            assert got.count(MARK * 2) == 11
            assert {f"{MARK}fail {MARK}", f"debounced {MARK}"} <= set(got)
            result = tasks.get(kept.id).result
            assert result is not None
            assert (result.text, result.headers["x-b"]) == (MARK, MARK)
            self._absent(queue, tmp_path)
            sealed = {
                place.partition("_")[2]
                for place, value in values(queue)
                if value.startswith(SEALED.decode())
            }
            assert sealed >= {
                "task.body",
                "task.headers",
                "task.follow_up",
                "attempt.reply_headers",
                "attempt.reply_body",
            }
            assert sealed >= {"batch.on_dead", "schedule.task"}
            shown = queue.app.test_cli_runner().invoke(
                args=["taskqueue", "show", kept.id, "--json", "--attempts"]
            )
            assert shown.output.count(MARK) == 4
        files = [path.read_bytes() for path in tmp_path.glob("test.db*")]
        assert not any(MARK.encode() in file for file in files)

    def test_rows_from_before(self, sqlite_database: TestDatabase) -> None:
        """Plain ones are delivered like the others; schedules are sealed when they are next
        declared.
        """
        with bench(sqlite_database) as queue:
            handler(queue)
            plain = queue.tasks.add("/w", payload=MARK, then=TaskSpec("/w", payload=MARK))
        with bench(sqlite_database, NEW) as queue:
            got = handler(queue)
            queue.tasks.drain()
            assert (queue.tasks.get(plain.id).state, got) == (State.SUCCEEDED, [MARK, MARK])

    def test_another_key_or_none(
        self, sqlite_database: TestDatabase, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The task is dead, says why, and is as before once its key is back and it is requeued;
        the others go on.
        """
        caplog.set_level(logging.ERROR, logger="flask_taskqueue")
        with bench(sqlite_database, OLD) as queue:
            handler(queue)
            lost = queue.tasks.add("/w", payload=MARK)
            changed = queue.tasks.add("/w", payload=MARK)
            rewrite(queue, changed, body=SEALED + b"00000000:gAAAAA")
            ended = queue.tasks.batch([TaskSpec("/w")], on_finish=TaskSpec("/w", payload=MARK))
        for keys in ([NEW], []):
            with bench(sqlite_database, *keys) as queue:
                got = handler(queue)
                good = queue.tasks.add("/w", payload="good")
                for task in (lost, changed):
                    if queue.tasks.get(task.id).state is State.DEAD:
                        queue.tasks.requeue(task.id)
                queue.tasks.drain()
                assert (queue.tasks.get(good.id).state, got) == (State.SUCCEEDED, ["good"])
                for task in (lost, changed):
                    dead = queue.tasks.get(task.id)
                    assert (dead.state, dead.attempts) == (State.DEAD, 1)
                    assert "which is not among TASKQUEUE_ENCRYPTION_KEYS" in str(dead.last_error)
                assert queue.tasks.get_batch(ended.id).is_finished
        assert f"batch {ended.id}: nothing follows" in caplog.text
        with bench(sqlite_database, NEW, OLD) as queue:
            got = handler(queue)
            queue.tasks.requeue(lost.id)
            queue.tasks.drain()
            assert (queue.tasks.get(lost.id).state, got) == (State.SUCCEEDED, [MARK])

    def test_a_kept_result_of_another_key(self, sqlite_database: TestDatabase) -> None:
        """Asking for it raises; the task itself can be read."""
        with bench(sqlite_database, OLD) as queue:
            handler(queue)
            kept = queue.run(queue.tasks.add("/w", payload=MARK, keep_result=True))
        with bench(sqlite_database, NEW) as queue:
            assert queue.tasks.get(kept.id).state is State.SUCCEEDED
            with pytest.raises(DecryptionError, match="TASKQUEUE_ENCRYPTION_KEYS"):
                _ = queue.tasks.get(kept.id).result

    @pytest.mark.slow
    def test_rotation(self, database: TestDatabase) -> None:
        """All is sealed with the newest key, what was plain too, some at a time and from where
        it stopped; then the old key can go.
        """
        with bench(database) as queue:
            handler(queue)
            plain = queue.tasks.add("/w", payload=MARK, headers={"X-A": MARK})
        with bench(database, OLD) as queue:
            handler(queue)
            kept = queue.run(queue.tasks.add("/w", payload=MARK, keep_result=True))
            queue.tasks.add_many(
                [TaskSpec("/w", payload=MARK, headers={"X-A": MARK}, countdown=60)] * 250
            )
            queue.tasks.schedule("daily", "/w", "every day 00:00", payload=MARK)
            queue.tasks.schedules()
            queue.tasks.batch(
                [TaskSpec("/w", countdown=60)], on_finish=TaskSpec("/w", payload=MARK)
            )
            rewrite(queue, plain, body=MARK.encode())
        with bench(database, NEW, OLD) as queue:
            store = queue.store
            begun = next(iter(store.key_rotation.rotate(store.database)))
            assert 0 < begun.changed <= 100
            rotate = queue.app.test_cli_runner().invoke(args=["taskqueue", "rotate-keys"])
            rows = (
                253 + 1 + 1 + 1
            )  # tasks, the kept reply, the batch, the schedule; plain's own attempt kept nothing
            assert rotate.output == f"Encrypted {rows - begun.changed} rows with the newest key.\n"
            again = queue.app.test_cli_runner().invoke(args=["taskqueue", "rotate-keys"])
            assert again.output == "Encrypted 0 rows with the newest key.\n"
            told = queue.app.test_cli_runner().invoke(args=["taskqueue", "rotate-keys", "--json"])
            assert json.loads(told.output) == {"encrypted": 0, "unreadable": 0}
        with bench(database, NEW) as queue:
            got = handler(queue)
            queue.tasks.queue("default").run_now()
            queue.tasks.get_schedule("daily").run_now()
            queue.tasks.drain()
            assert queue.tasks.find(state=State.DEAD) == []
            assert (got.count(MARK * 2), got.count(MARK)) == (250, 2)
            result = queue.tasks.get(kept.id).result
            assert result is not None
            assert result.text == MARK

    @pytest.mark.slow
    def test_rotation_without_the_old_key(self, sqlite_database: TestDatabase) -> None:
        """What cannot be read is left as it is, and told; without keys there is nothing to
        rotate to.
        """
        with bench(sqlite_database, OLD) as queue:
            handler(queue)
            lost = queue.tasks.add("/w", payload=MARK)
        for keys, code, told in (
            ([NEW], 1, "1 row cannot be decrypted"),
            ([], 1, "there are no TASKQUEUE_ENCRYPTION_KEYS"),
        ):
            with bench(sqlite_database, *keys) as queue:
                ended = queue.app.test_cli_runner().invoke(args=["taskqueue", "rotate-keys"])
                assert (ended.exit_code, told in ended.output) == (code, True)
        with bench(sqlite_database, OLD) as queue:
            got = handler(queue)
            queue.tasks.drain()
            assert (queue.tasks.get(lost.id).state, got) == (State.SUCCEEDED, [MARK])

    def _absent(self, queue: Bench, directory: Path) -> None:
        for place, value in values(queue):
            assert MARK not in value, place
        for path in directory.glob("test.db*"):
            assert MARK.encode() not in path.read_bytes(), path.name
