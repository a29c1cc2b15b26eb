"""Clients do whatever can be done with the queue, in a random order that a seed makes, while
processes and servers are harmed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import sqlalchemy as sa

from flask_taskqueue.cli.options import UNAVAILABLE
from flask_taskqueue.core.errors import TransientError
from flask_taskqueue.engine.maintenance import Retention, sweep
from tests.databases import Servers, TestDatabase, fresh
from tests.waiting import wait_until
from tests.whole.processes import descendants

from . import log, operations
from .client import Client
from .history import Fault
from .own_servers import OwnDatabase, own_server
from .plan import QUEUES, Harm, make_plan
from .scenario import Scenario
from .stage import Stage

LEASE = 5.0
GRACE = 1.0
HOSTS = 2
_SOON = 600_000_000
"""Microseconds: what is due later waits until after the end."""
_WITHOUT_DATABASE = (1, UNAVAILABLE)
"""How a command ends when the application it loads finds no database, and when it finds none
itself.
"""
_ENDED = "the dispatchers end when they are stopped"


@contextmanager
def own_place(name: str, servers: Servers, directory: Path) -> Iterator[TestDatabase]:
    """A server of the scenario's own, where there is a server."""
    with (fresh if name == "sqlite" else own_server)(name, servers, directory) as database:
        yield database


def play(
    stage: Stage, *, seed: int, clients: int, steps: int, harms: dict[str, int], limit: float
) -> None:
    """Play the plan of a seed to its end, let go what was held back, and wait until nothing is
    left to be done.
    """
    outages = isinstance(stage.database, OwnDatabase)
    kinds = [
        kind
        for kind, times in harms.items()
        for _ in range(times)
        if outages or kind not in ("outage", "cut")
    ]
    asked = {"seed": seed, "clients": clients, "steps": steps, "harms": kinds}
    plan = make_plan(**asked)
    stage.steps, stage.script = plan.steps, f"seed {seed}\n{plan}"
    director = Client(stage.app, stage.operations)
    with ExitStack() as stack:
        crew = Crew(
            stage, stack, stack.enter_context(stage.module("client", json.dumps(asked))), limit
        )
        for harm in plan.harms:
            crew.wait_for(lambda harm=harm: crew.begun() >= harm.after or crew.are_done())
            crew.harm(harm)
        crew.wait_for(crew.are_done)
        for steps, over in ((plan.opening, crew.have_fired), (plan.closing, crew.drained)):
            for step in steps:
                director.play(step)
            wait_until(over, what=f"all is done\n{stage.said()}", timeout=limit)
        crew.stop_all()
    deaths = [line for line in log.read(stage.log) if line.word == "die"]
    stage.faults += [Fault("kill", line.at, line.at + 1, line.pid) for line in deaths]
    sweep(stage.store, Retention.of(stage.settings))
    stage.transactional |= crew.once()


class Crew:
    """The processes of a run: dispatchers on some hosts, and ``clients``."""

    def __init__(
        self, stage: Stage, stack: ExitStack, clients: subprocess.Popen[bytes], limit: float
    ) -> None:
        self._stage = stage
        self._stack = stack
        self._clients = clients
        self._limit = limit
        self._hosts: list[tuple[ExitStack, subprocess.Popen[bytes]]] = [
            self._host() for _ in range(HOSTS)
        ]

    def begun(self) -> int:
        """How many steps have begun."""
        return operations.begun(self._stage.operations)

    def are_done(self) -> bool:
        """Whether the clients have done their steps."""
        code = self._clients.poll()
        assert not code, (
            f"the clients ended with {code}:\n{self._stage.said('client')}\n{self._stage.said()}"
        )
        return code == 0

    def wait_for(self, reached: Callable[[], bool]) -> None:
        """Wait until that is so, as long as steps begin."""
        before, since = -1, time.monotonic()
        while not reached():
            if (begun := self.begun()) != before:
                before, since = begun, time.monotonic()
            assert time.monotonic() - since < self._limit, (
                f"no step began for {self._limit:g} s:\n{self._stage.said()}"
            )
            time.sleep(0.05)

    def harm(self, harm: Harm) -> None:
        """Do it."""
        call = {
            "kill": self._kill,
            "pause": self._pause,
            "stop": self._stop,
            "power": self._power,
            "client": self._kill_client,
        }
        call |= {"long pause": self._pause_long, "outage": self._restart_server, "cut": self._cut}
        call[harm.kind](harm.choice)

    def have_fired(self) -> bool:
        """Whether each schedule has fired all that it should have by now."""
        schedule = self._stage.store.database.tables.schedule
        with self._stage.store.reading() as connection:
            late = schedule.c.next_at <= self._stage.store.database.dialect.now
            return not connection.scalar(
                sa.select(sa.func.count()).select_from(schedule).where(late)
            )

    def drained(self) -> bool:
        """Whether nothing is left to be done now; False when the database does not say."""
        task = self._stage.store.database.tables.task
        soon = sa.or_(
            task.c.due_at.is_(None), task.c.due_at < self._stage.store.database.dialect.now + _SOON
        )
        waiting = sa.and_(task.c.state == "scheduled", task.c.queue != "shelf", soon)
        try:
            with self._stage.store.reading() as connection:
                count = (
                    sa.select(sa.func.count())
                    .select_from(task)
                    .where(sa.or_(task.c.state == "leased", waiting))
                )
                return not connection.scalar(count)
        except (TransientError, sa.exc.DBAPIError):
            return False

    def stop_all(self) -> None:
        """Stop all dispatchers, as one does."""
        for number in range(len(self._hosts)):
            self._child(number)  # one that has just begun would not end as asked
            self._hosts[number][1].terminate()
        for _, running in self._hosts:
            assert running.wait(GRACE + 30) == 0, f"{_ENDED}:\n{self._stage.said()}"

    def once(self) -> set[str]:
        """The tasks of the transactional handler that have succeeded."""
        task = self._stage.store.database.tables.task
        with self._stage.store.reading() as connection:
            return set(
                connection.scalars(
                    sa.select(task.c.id).where(
                        task.c.url == "/act-once", task.c.state == "succeeded"
                    )
                )
            )

    def _host(self) -> tuple[ExitStack, subprocess.Popen[bytes]]:
        """A supervisor with two processes, which ends at the latest with the play."""
        own = self._stack.enter_context(ExitStack())
        return own, own.enter_context(self._stage.dispatchers(2, "--threads", "4"))

    def _children(self, choice: int) -> list[psutil.Process]:
        return descendants(self._hosts[choice % HOSTS][1].pid)

    def _child(self, choice: int) -> psutil.Process:
        found: list[psutil.Process] = []

        def is_there() -> bool:
            found[:] = self._children(choice) if self._is_up(choice % HOSTS) else []
            return bool(found)

        wait_until(
            is_there, what=f"a dispatcher is there\n{self._stage.said()}", timeout=self._limit
        )
        return found[choice // HOSTS % len(found)]

    def _is_up(self, number: int) -> bool:
        """Whether a host has dispatchers; one whose command found no database when it began is
        begun again.
        """
        own, running = self._hosts[number]
        if running.poll() is None:
            return bool(descendants(running.pid))
        found_none = running.returncode in _WITHOUT_DATABASE and any(
            fault.kind == "outage" for fault in self._stage.faults
        )
        assert found_none, f"a host ended with {running.returncode}:\n{self._stage.said()}"
        own.close()
        self._hosts[number] = self._host()
        return False

    def _kill(self, choice: int) -> None:
        self._stage.kill(self._child(choice))

    def _kill_client(self, choice: int) -> None:
        alive = descendants(self._clients.pid)
        if alive:
            alive[choice % len(alive)].kill()

    def _pause(self, choice: int) -> None:
        self._suspend(choice, LEASE / 5)

    def _pause_long(self, choice: int) -> None:
        self._suspend(choice, LEASE * 1.5)

    def _suspend(self, choice: int, seconds: float) -> None:
        victim = self._child(choice)
        since = time.monotonic()
        victim.suspend()
        time.sleep(seconds)
        victim.resume()
        until = time.monotonic()
        self._stage.faults.append(Fault("pause", since, until, victim.pid))
        if (
            self._stage.store.database.dialect.locks_by_writing
        ):  # it may have held the only lock, and nobody else could write
            self._stage.faults.append(Fault("outage", since, until))

    def _stop(self, choice: int) -> None:
        self._child(choice)
        own, running = self._hosts[choice % HOSTS]
        children, since = self._children(choice), time.monotonic()
        running.terminate()
        assert running.wait(GRACE + 30) == 0, f"{_ENDED}:\n{self._stage.said()}"
        self._stage.faults += [
            Fault("stop", since, time.monotonic(), child.pid) for child in children
        ]
        own.close()
        self._hosts[choice % HOSTS] = self._host()

    def _power(self, choice: int) -> None:
        """All processes of a host end at once, and nobody gives anything back."""
        self._child(choice)
        own, running = self._hosts[choice % HOSTS]
        children, since = self._children(choice), time.monotonic()
        os.killpg(running.pid, signal.SIGKILL)
        own.close()
        self._stage.faults += [
            Fault("kill", since, time.monotonic(), child.pid) for child in children
        ]
        self._hosts[choice % HOSTS] = self._host()

    def _restart_server(self, _choice: int) -> None:
        self._outage(lambda database: database.restart(0.3))

    def _cut(self, _choice: int) -> None:
        self._outage(lambda database: database.terminate_connections())

    def _outage(self, harm: Callable[[OwnDatabase], None]) -> None:
        database = self._stage.database
        assert isinstance(database, OwnDatabase)
        since = time.monotonic()
        harm(database)
        self._stage.faults.append(Fault("outage", since, time.monotonic()))


RANDOM = Scenario(
    name="random",
    play=play,
    small={
        "clients": 2,
        "steps": 40,
        "harms": {"kill": 1, "pause": 1, "stop": 1, "client": 1, "outage": 1, "cut": 1},
        "limit": 60,
    },
    full={
        "clients": 3,
        "steps": 100,
        "harms": {
            "kill": 3,
            "pause": 1,
            "stop": 2,
            "client": 2,
            "outage": 1,
            "cut": 2,
            "power": 1,
            "long pause": 1,
        },
        "limit": 90,
    },
    seeds=20,
    place=own_place,
    module="tests.whole.chaos.random_app",
    settings={
        "LEASE": f"{LEASE:g}",
        "GRACE_PERIOD": f"{GRACE:g}",
        "QUEUES": json.dumps(QUEUES),
        "RETRY": json.dumps({"min_backoff_seconds": 0.05, "max_backoff_seconds": 0.5}),
        "KEEP_ATTEMPTS": "1000",
    },
)
