"""Dispatchers in other processes hear of new tasks."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from flask_taskqueue import State
from tests.databases import TestDatabase
from tests.whole import loop_app
from tests.whole.chaos.stage import stage


def test_a_dispatcher_elsewhere_is_told_at_once(database: TestDatabase, tmp_path: Path) -> None:
    """With a poll of a minute, a task that this process adds runs in another within seconds."""
    with stage(database, tmp_path, {"POLL_INTERVAL": "60"}) as here:
        first = loop_app.plain.add()
        with here.dispatchers(1):
            first.wait(20)
            for _ in range(3):
                assert loop_app.plain.add().wait(10).state is State.SUCCEEDED
            loop_app.db.session.execute(sa.update(loop_app.Counter).values(count=7))
            joined = loop_app.plain.add()
            loop_app.db.session.commit()
            assert joined.wait(10).state is State.SUCCEEDED
