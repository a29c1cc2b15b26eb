"""The stage of a scenario: a database, an application on it in this process, a log, and what
was done so far.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from unittest.mock import patch

import psutil
import sqlalchemy as sa
from flask import Flask

from flask_taskqueue import TaskSpec
from flask_taskqueue.core.errors import TransientError
from flask_taskqueue.store.database.transaction import close_engine
from tests.apps import runtime_of
from tests.databases import TestDatabase
from tests.waiting import wait_until
from tests.whole import loop_app
from tests.whole.processes import descendants, process

from . import log, operations
from .history import Fault, History
from .operations import Step
from .remains import read_leftovers, read_rows

FLASK = ("-m", "flask", "--app")


class Stage:
    """Where a scenario plays. It notes what it adds and what it does to processes, for the
    checker.
    """

    def __init__(self, database: TestDatabase, directory: Path, app: Flask, module: str) -> None:
        self.database = database
        self._module = module
        self.directory = directory
        self.expected: dict[str, str | None] = {}
        self.transactional: set[str] = set()
        self.poison: set[str] = set()
        self.faults: list[Fault] = []
        self.notes: dict[str, str] = {}
        self.steps: Sequence[Step] = ()
        """What clients are to do, if there are any."""
        self.script = ""
        """What is to be said of a run that cannot be told by its name."""
        self.app = app
        self.settings = runtime_of(app).settings
        self.store = runtime_of(app).store
        self._task = self.store.database.tables.task

    @property
    def log(self) -> Path:
        """What the handlers append to."""
        return self.directory / "log"

    @property
    def operations(self) -> Path:
        """What the clients append to."""
        return self.directory / "operations"

    @property
    def output(self) -> Path:
        """What the dispatchers print."""
        return self._output("dispatchers")

    def add(self, specs: Iterable[TaskSpec]) -> list[str]:
        """Store tasks; their ids, in this order. They are expected to succeed."""
        before = set(self._ids())
        specs = list(specs)
        assert loop_app.tasks.add_many(specs) == (len(specs), 0)
        added = [one for one in self._ids() if one not in before]
        assert len(added) == len(specs)
        self.expected |= dict.fromkeys(added)
        return added

    def add_mixed(self, each: int, *, keys: int = 20) -> None:
        """Store so many plain tasks, so many transactional ones, and so many with a serial key."""
        self.add(loop_app.plain.spec() for _ in range(each))
        self.transactional |= {*self.add(loop_app.count.spec() for _ in range(each))}
        names = [f"key-{number % keys}" for number in range(each)]
        random.Random(2).shuffle(names)
        steps = [
            loop_app.step.options(serial_key=key).spec(key=key, number=number)
            for number, key in enumerate(names)
        ]
        self.expected |= dict(zip(self.add(steps), names, strict=True))

    @contextmanager
    def dispatchers(
        self, processes: int | str = 3, *options: str, environment: Mapping[str, str] | None = None
    ) -> Iterator[Popen[bytes]]:
        """``flask taskqueue run`` with so many processes; none is named by ``""``."""
        command = (
            *FLASK,
            self._module,
            "taskqueue",
            "run",
            "--processes",
            *([] if processes == "" else [str(processes)]),
            *options,
        )
        with process(command, environment or {}, self.output) as running:
            yield running

    @contextmanager
    def module(
        self, name: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> Iterator[Popen[bytes]]:
        """A module of this package, run as a program; what it prints is kept apart."""
        with process(
            ("-m", f"{__package__}.{name}", *arguments), environment or {}, self._output(name)
        ) as running:
            yield running

    def kill(self, victim: psutil.Process) -> None:
        """Kill -9."""
        since = time.monotonic()
        victim.kill()
        self.faults.append(Fault("kill", since, time.monotonic(), victim.pid))

    def kill_one_of(self, parent: Popen[bytes], *, worked: int, spared: int | None = None) -> bool:
        """Kill a random child that has written ``worked`` lines, so that there is progress on a
        busy machine; whether there was one.
        """
        lines = Counter(line.pid for line in log.read(self.log))
        victims = [
            process
            for process in descendants(parent.pid)
            if lines[process.pid] >= worked and process.pid != spared
        ]
        if victims:
            self.kill(random.choice(victims))
        return bool(victims)

    def kill_until_drained(
        self, parent: Popen[bytes], *, every: float, worked: int, limit: float
    ) -> None:
        """Kill a random child every so many seconds until 98 of 100 tasks are done; then let
        the rest be done.
        """
        end = time.monotonic() + limit
        while self.live() > len(self.expected) / 50:
            assert time.monotonic() < end, (
                f"{self.live()} left after {limit:g} s and {len(self.faults)} "
                f"faults:\n{self.said()}"
            )
            time.sleep(every)
            self.kill_one_of(parent, worked=worked)
        self.wait_drained(end - time.monotonic())

    def live(self) -> int:
        """How many tasks have not ended."""
        with self.store.reading() as connection:
            live = self._task.c.state.in_(["scheduled", "leased"])
            return int(
                connection.scalar(sa.select(sa.func.count()).select_from(self._task).where(live))
            )

    def drained(self) -> bool:
        """Whether all have ended; False when the database does not say."""
        try:
            return self.live() == 0
        except (TransientError, sa.exc.DBAPIError):
            return False

    def wait_begun(self, count: int, limit: float = 20) -> None:
        """Wait until handlers have said so many things more."""
        before = len(log.read(self.log))
        wait_until(
            lambda: len(log.read(self.log)) >= before + count,
            what=f"handlers run:\n{self.said()}",
            timeout=limit,
        )

    def wait_drained(self, limit: float) -> None:
        """Wait until no task is left."""
        wait_until(self.drained, what="no task is left", timeout=limit)

    def _output(self, module: str) -> Path:
        return self.directory / f"{module}.output"

    def said(self, *modules: str) -> str:
        """The last that dispatchers and the programs of modules, or those of some modules,
        printed, each by itself.
        """
        places = [self._output(module) for module in modules] or sorted(
            self.directory.glob("*.output")
        )
        return "\n".join(place.read_text()[-12000:] for place in places if place.exists())

    def history(self) -> History:
        """What is to be checked."""
        with self.store.reading() as connection:
            rows, left = read_rows(connection, self.store), read_leftovers(connection, self.store)
        loop_app.db.session.remove()
        close_engine(loop_app.db.engine)  # a scenario may have cut its connections
        return History(
            expected=self.expected,
            lines=log.read(self.log),
            rows=rows,
            faults=self.faults,
            poison=self.poison,
            transactional=self.transactional,
            effects=Counter(loop_app.db.session.scalars(sa.select(loop_app.Effect.task_id))),
            operations=operations.read(
                self.operations,
                self.steps,
                set(loop_app.db.session.scalars(sa.select(loop_app.Order.task_id))),
            ),
            limits={name: queue.max_concurrent for name, queue in self.settings.queues.items()},
            left=left,
        )

    def _ids(self) -> list[str]:
        with self.store.reading() as connection:
            return list(connection.scalars(sa.select(self._task.c.id).order_by(self._task.c.id)))


@contextmanager
def stage(
    database: TestDatabase,
    directory: Path,
    settings: Mapping[str, str],
    module: str = "tests.whole.loop_app",
) -> Iterator[Stage]:
    """A stage with the tables made. The ``settings`` hold in every process; the dispatchers
    have the application of ``module``.
    """
    environment = {f"FLASK_TASKQUEUE_{name}": value for name, value in settings.items()}
    environment |= {
        "LOOP_DATABASE": database.url,
        "LOOP_LOG": str(directory / "log"),
        "FLASK_TASKQUEUE_CREATE_TABLES": "true",
    }
    with patch.dict(os.environ, environment):
        app = loop_app.create_app()
        with app.app_context():
            loop_app.db.create_all()
            loop_app.db.session.add(loop_app.Counter(id=1, count=0))
            loop_app.db.session.commit()
            try:
                yield Stage(database, directory, app, module)
            finally:
                loop_app.db.session.remove()
                for engine in loop_app.db.engines.values():
                    close_engine(engine)
                runtime_of(app).store.database.close()
