"""Clients of the queue, each of which does its steps one after the other; run as a program it is
all of them, and replaces those that die.

python -m tests.whole.chaos.client PLAN, where PLAN is what `make_plan` is called with, as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy as sa
from flask import Flask

from flask_taskqueue import BadTaskStateError, InvalidTaskError, Task, TaskQueueError
from tests.apps import runtime_of
from tests.waiting import wait_until
from tests.whole import loop_app

from . import operations, random_app
from .operations import DEADLOCK, Step
from .plan import Plan, make_plan
from .random_app import db, mark, spec_of, tasks

ASKED_TOO_MUCH = InvalidTaskError, BadTaskStateError
"""Refusals that are no fault of the database."""
PATIENCE = 60.0
"""Seconds that the database may be away."""


class Client:
    """Knows the tasks that it was told of, by the log."""

    def __init__(self, app: Flask, log: Path) -> None:
        self._store = runtime_of(app).store
        self._log = log
        said = operations.lines(log)
        self.begun = {line["step"] for line in said if line["word"] == "ask"}
        stored = {line["step"] for line in said if line["word"] == "ack" and line["stored"]}
        self._ids = {
            label: task
            for line in said
            if line["step"] in stored
            for label, (task, _) in line.get("tasks", {}).items()
        }

    def play(self, step: Step) -> None:
        """Do a step: say so before, what it was told, and that it is over."""
        operations.write(self._log, "ask", step)
        try:
            if step.transaction is not None:
                db.session.add(loop_app.Order(task_id=step.marker))
            answer = getattr(self, step.do)(step)
            found = answer if isinstance(answer, dict) else {}
            operations.write(self._log, "told", step, tasks=found, answer=None if found else answer)
            self._end(step.transaction)
        except (TaskQueueError, sa.exc.SQLAlchemyError) as error:
            with suppress(sa.exc.DBAPIError):  # on a connection that is lost
                db.session.rollback()
            operations.write(self._log, "refused", step, error=_named(error), text=str(error)[:500])
            if not isinstance(error, ASKED_TOO_MUCH):
                wait_until(self._answers, what="the database answers", timeout=PATIENCE)
        else:
            operations.write(self._log, "ack", step, stored=step.transaction != "rollback")
            self._ids |= {
                label: item for label, (item, _) in found.items() if step.transaction != "rollback"
            }
        with suppress(sa.exc.DBAPIError):
            db.session.remove()

    def add(self, step: Step) -> Mapping[str, Any]:
        """One task, by one of the ways to add it."""
        (wish,) = step.wishes
        spec = spec_of(wish)
        added = tasks.queue(step.queue).add(spec) if step.number % 2 else tasks.add(spec)
        return {wish.label: _told(added)}

    def add_list(self, step: Step) -> Mapping[str, Any]:
        """Some in a list."""
        added = tasks.queue(step.queue).add([spec_of(wish) for wish in step.wishes])
        return {wish.label: _told(task) for wish, task in zip(step.wishes, added, strict=True)}

    def add_many(self, step: Step) -> Any:
        """Some of which no ids are told."""
        return list(tasks.add_many(map(spec_of, step.wishes)))

    def batch(self, step: Step) -> Any:
        """A batch; its id."""
        follow = {
            name: spec_of(wish)
            for name in ("on_finish", "on_dead")
            if (wish := getattr(step, name)) is not None
        }
        return tasks.batch(map(spec_of, step.wishes), **follow).id

    def delete(self, step: Step) -> Any:
        """One task; whether there was anything to delete."""
        return [tasks.delete(item) for item in self._found(step)]

    def delete_many(self, step: Step) -> Any:
        """Some tasks of one queue."""
        return tasks.queue(step.queue).delete(self._found(step))

    def delete_matching(self, step: Step) -> Any:
        """All of a queue with this path."""
        return tasks.queue(step.queue).delete_matching(url=step.targets[0])

    def purge(self, step: Step) -> Any:
        """All of a queue."""
        return tasks.queue(step.queue).purge()

    def requeue(self, step: Step) -> Any:
        """A dead task, which succeeds now if it was broken."""
        for label in step.targets:
            mark(label).touch()
        return [tasks.requeue(item).state for item in self._found(step)]

    def requeue_dead(self, step: Step) -> Any:
        """All dead tasks of a queue."""
        return tasks.queue(step.queue).requeue_dead()

    def run_now(self, step: Step) -> Any:
        """A task that was to wait."""
        return [tasks.run_now(item).state for item in self._found(step)]

    def queue_run_now(self, step: Step) -> Any:
        """All tasks of a queue that are to wait."""
        return tasks.queue(step.queue).run_now()

    def pause(self, step: Step) -> Any:
        """A queue."""
        return tasks.queue(step.queue).pause()

    def resume(self, step: Step) -> Any:
        """A queue."""
        return tasks.queue(step.queue).resume()

    def configure(self, step: Step) -> Any:
        """Limits of a queue."""
        return tasks.queue(step.queue).configure(**step.limits)

    def cron_pause(self, step: Step) -> Any:
        """A schedule."""
        return tasks.get_schedule(step.schedule).pause()

    def cron_resume(self, step: Step) -> Any:
        """A schedule."""
        return tasks.get_schedule(step.schedule).resume()

    def cron_run_now(self, step: Step) -> Any:
        """Add what a schedule adds."""
        return {f"run-{step.number}": _told(tasks.get_schedule(step.schedule).run_now())}

    def rewind(self, step: Step) -> Any:
        """Have a schedule stand as if no dispatcher had run for some minutes; the instant from
        which it is to fire.
        """
        schedule = self._store.database.tables.schedule
        mine = schedule.c.name == tasks.get_schedule(step.schedule).name

        def work(connection: sa.Connection) -> Any:
            connection.execute(
                sa.update(schedule)
                .where(mine)
                .values(next_at=schedule.c.next_at - step.minutes * 60_000_000)
            )
            return connection.scalar(sa.select(schedule.c.next_at).where(mine))

        return self._store.transact(work)

    def _answers(self) -> bool:
        try:
            with self._store.reading() as connection:
                return bool(connection.scalar(sa.select(1)))
        except (TaskQueueError, sa.exc.SQLAlchemyError):
            return False

    def _found(self, step: Step) -> list[str]:
        return [self._ids[label] for label in step.targets if label in self._ids]

    def _end(self, transaction: str | None) -> None:
        if transaction == "killed":
            db.session.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        if transaction == "rollback":
            db.session.rollback()
        elif transaction == "commit":
            db.session.commit()


def _told(task: Task) -> tuple[str, str]:
    return task.id, str(task.disposition)


def _named(error: BaseException | None) -> str:
    """What was raised; a deadlock by that name, whoever wraps it."""
    name, chain = type(error).__name__, error
    while chain is not None:
        if "deadlock" in str(chain).lower():
            return DEADLOCK
        chain = chain.__cause__
    return name


def keep(plan: Plan) -> None:
    """Fork a process for each client; one that was killed is followed by another, until all
    have done their steps.
    """
    living: dict[int, int] = {}
    missing = [*range(len(plan.clients))]
    while missing or living:
        for number in missing:
            child = os.fork()
            if not child:
                _work(plan.clients[number])
            living[child] = number
        gone, status = os.wait()
        number = living.pop(gone)
        missing = [number] if status else []
        if status and os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            sys.exit(f"client {number} ended with {os.waitstatus_to_exitcode(status)}")


def _work(steps: Sequence[Step]) -> NoReturn:
    """Do what is left of them, and end."""
    code = 1
    try:
        app = random_app.create_app()
        with app.app_context():
            client = Client(app, Path(os.environ["LOOP_LOG"]).with_name("operations"))
            for step in steps:
                if step.number not in client.begun:
                    client.play(step)
        code = 0
    except Exception:  # noqa: BLE001 - a forked process ends here, whatever happened
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    keep(make_plan(**json.loads(sys.argv[1])))
