"""The database falls silent: connections stay, nothing comes through, until they are cut."""

from __future__ import annotations

import time

import sqlalchemy as sa

from tests.outages import Proxy
from tests.whole import loop_app
from tests.whole.processes import descendants

from .history import Fault
from .scenario import Scenario
from .stage import Stage


def play(stage: Stage, *, tasks: int, seconds: float, limit: float) -> None:
    """The dispatchers reach the database by a proxy that swallows everything for so long; the same processes go on."""
    url = sa.make_url(stage.database.url)
    proxy = Proxy(str(url.host), url.port or 3306)
    through = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
    stage.add(loop_app.slow.spec(seconds=0.02) for _ in range(tasks))
    stage.transactional |= {*stage.add(loop_app.count.spec() for _ in range(tasks))}
    try:
        with stage.dispatchers(2, environment={"LOOP_DATABASE": through}) as running:
            stage.wait_begun(20)
            children = {one.pid for one in descendants(running.pid)}
            since = time.monotonic()
            proxy.hold()
            time.sleep(seconds)
            proxy.let_go()
            stage.faults.append(Fault("outage", since, time.monotonic()))
            stage.wait_drained(limit)
            assert {one.pid for one in descendants(running.pid)} == children
    finally:
        proxy.switch(False)


BLACK_HOLE = Scenario(
    name="black hole",
    play=play,
    small={"tasks": 200, "seconds": 3.0, "limit": 40},
    full={"tasks": 2000, "seconds": 30.0, "limit": 120},
    # PostgreSQL of the tests is reached by a socket file, to which no proxy leads.
    databases=("mariadb",),
    settings={"LEASE": "6"},
)
