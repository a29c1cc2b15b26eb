"""App Engine's own SDK, bridged to Cloud Tasks, with our routes in the place of Cloud Tasks."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.apps import bench, served
from tests.databases import TestDatabase

from .scenarios import PLAYS
from .test_same_answers import RECORDED

SDK = os.environ.get("TEST_APPENGINE_SDK", "")
TOKEN = "a-token-for-the-bridge"
OTHERWISE = {"unknown_queue_counted": {"raises": "UnknownQueueError"}}
"""What Cloud Tasks itself answers otherwise; besides, it knows no past (see ``counted``)."""
PULLED = {"push_and_pull", "wrong_modes", "bounds_of_leases", "exceptions", "constants"} | {
    name for name in PLAYS if "pull" in name or "lease" in name
}


@pytest.mark.skipif(not SDK, reason="set TEST_APPENGINE_SDK to a Python that has App Engine's SDK")
def test_the_sdk_gets_the_answers_that_it_gives(database: TestDatabase) -> None:
    """Over HTTP, from the routes of Cloud Tasks' API."""
    names = sorted(PLAYS.keys() - PULLED)
    with bench(
        database.url,
        TASKQUEUE_QUEUES={"mail": {"rate": "5/s"}},
        TASKQUEUE_SERVICES={"v1.default": None},
        TASKQUEUE_API=True,
        TASKQUEUE_API_URL_PREFIX="",
        TASKQUEUE_API_TOKEN=TOKEN,
    ) as shop:
        shop.app.add_url_rule("/work", "work", lambda: "", methods=["POST"])

        @shop.app.post("/empty")
        def empty() -> str:
            shop.store.transact(
                lambda connection: (
                    connection.execute(sa.delete(shop.store.database.tables.task)).rowcount
                )
            )
            return "empty"

        with served(shop.app) as url:
            script = Path(__file__).with_name("bridge.py")
            done = subprocess.run(
                [SDK, script, url, TOKEN, *names],
                env={**os.environ, "PYTHONPATH": ""},
                capture_output=True,
                text=True,
                timeout=300,
            )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    counted = answers.pop("counted")["returns"]
    assert [counted[0][:2], *counted[2:]] == [["mail", 2], [0], 2, []]
    expected = {name: OTHERWISE.get(name, RECORDED[name]) for name in names}
    assert answers == {name: expected[name] for name in answers}
