"""Doctor and health know failure: each trouble made for real, on each database."""

from __future__ import annotations

import json
import re

import pytest

from flask_taskqueue.store import MOST_DEAD
from tests.diagnosis.conftest import Ward
from tests.diagnosis.test_findings import bad

HOUR = 3600 * 1_000_000


def health(ward: Ward) -> tuple[int, dict[str, list[str]]]:
    """Exit code and document of the command."""
    result = ward.bench.app.test_cli_runner().invoke(args=["taskqueue", "health", "--json"])
    return result.exit_code, json.loads(result.stdout)


def told(ward: Ward, pattern: str) -> list[str]:
    """What doctor says that fits; health says it too, as a problem if it is an error and as a
    warning otherwise.
    """
    found = {text: level for text, level in bad(ward.bench.app).items() if re.search(pattern, text)}
    document = health(ward)[1]
    for text, level in found.items():
        same = document["problems" if level == "error" else "warnings"]
        assert any(_untimed(problem).startswith(_untimed(text)) for problem in same), (
            text,
            document,
        )
    return list(found)


def _untimed(text: str) -> str:
    """A text without the seconds that pass between two looks."""
    return re.sub(r"\b\d+ [ms]( \d+ s)? ago", "some time ago", text)


def test_tasks_that_gave_up_are_told_with_their_commonest_cause(ward: Ward) -> None:
    """For an hour."""
    ward.see()
    assert told(ward, "gave up in the last hour") == []
    tasks = [ward.add("bad") for _ in range(3)] + [ward.add("later", retry={"task_retry_limit": 0})]
    ward.bench.tasks.drain()
    ward.see()
    (text,) = told(ward, "gave up in the last hour")
    assert (
        text
        == "4 tasks gave up in the last hour, most (3) of them like this: queue default, /work: "
        "the address does not exist"
    )
    assert health(ward)[0] == 0
    for task in tasks:
        ward.change(task, finished_at=ward.now() - HOUR - 1)
    assert told(ward, "gave up in the last hour") == []


def test_one_task_that_gave_up_is_one_task(ward: Ward) -> None:
    """Numbers agree with their words."""
    ward.add("bad")
    ward.bench.tasks.drain()
    assert told(ward, "gave up in the last hour") == [
        "1 task gave up in the last hour: queue default, /work: the address does not exist"
    ]


def test_more_than_can_be_looked_at(ward: Ward) -> None:
    """Is said to be more."""
    ward.see()
    first = ward.add("bad")
    ward.bench.tasks.drain()
    table = ward.store.database.tables.task
    with ward.store.reading() as connection:
        row = connection.execute(table.select().where(table.c.id == first.id)).one()._asdict()
    rows = [row | {"id": f"{number:026d}"} for number in range(MOST_DEAD)]
    ward.store.transact(lambda connection: connection.execute(table.insert(), rows))
    (text,) = told(ward, "gave up in the last hour")
    assert text.startswith("more than 1,000 tasks gave up in the last hour, all of them like this")


def test_a_queue_that_fails_all_the_time_is_told(ward: Ward) -> None:
    """With its latest error; not one in which something succeeds."""
    ward.see()
    for _ in range(3):
        ward.add("later", retry={"min_backoff_seconds": 600})
    ward.bench.tasks.drain()
    ward.see()
    (text,) = told(ward, "fails all the time")
    assert text == (
        "queue default fails all the time: none of 3 attempts in the last 60 minutes "
        "succeeded; the latest: /work: ValueError: not yet"
    )
    ward.add("good")
    ward.bench.tasks.drain()
    ward.see()
    assert told(ward, "fails all the time") == []


def test_waiting_tasks_that_no_route_answers_are_told(ward: Ward) -> None:
    """With the method, without the query; not those for other hosts."""
    ward.see()
    tasks = [ward.add() for _ in range(4)]
    ward.change(tasks[0], url="/gone?token=x")
    ward.change(tasks[1], url="/gone")
    ward.change(tasks[2], method="PUT")
    ward.change(tasks[3], url="https://other.example/gone")
    assert sorted(told(ward, "no route")) == [
        "no route of this release answers POST /gone, and 2 tasks wait for it",
        "no route of this release answers PUT /work, and 1 task waits for it",
    ]


def test_a_dispatcher_that_died_is_told(ward: Ward) -> None:
    """Since when; one that was stopped is not."""
    ward.see()
    ward.see("two", pid=4712)
    dispatcher = ward.store.database.tables.dispatcher
    died = (
        dispatcher.update()
        .where(dispatcher.c.id == "two")
        .values(seen_at=ward.now() - 300 * 1_000_000)
    )
    ward.store.transact(lambda connection: connection.execute(died))
    (text,) = told(ward, "died")
    assert re.match(
        r"dispatcher web1:4712 was last seen 5 m( \d+ s)? ago, and was not stopped", text
    )
    ward.store.transact(lambda connection: ward.store.dispatchers.remove(connection, "two"))
    assert told(ward, "died") == []


@pytest.mark.parametrize("waits", [False, True])
def test_a_queue_that_no_dispatcher_takes_is_told(ward: Ward, waits: bool) -> None:
    """As a problem once tasks wait in it."""
    ward.see(queues=["default", "single", "stopped"])
    if waits:
        ward.add(queue="mail")
    assert told(ward, "takes from") == [
        "no dispatcher takes from queue mail" + (", and 1 task waits" if waits else "")
    ]
    assert health(ward)[0] == (1 if waits else 0)


def test_strangers_are_told_no_errors(ward: Ward) -> None:
    """Who has no token is told only what keeps the queue from working."""
    ward.see()
    ward.add("bad")
    ward.bench.tasks.drain()
    ward.see()
    reply = ward.bench.app.test_client().get("/taskqueue/health/dispatcher")
    assert reply.get_json()["warnings"] == []
    assert "address" not in reply.text
