"""The module answers as App Engine's own does: the same scenarios, the recorded answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_taskqueue.appengine import taskqueue
from tests.apps import Bench, bench
from tests.databases import TestDatabase

from .scenarios import PLAYS, answer, scenarios

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parent / "vectors" / "taskqueue.json").read_text(encoding="utf-8")
)
SCENARIOS = scenarios()


@pytest.fixture
def shop(database: TestDatabase) -> Iterator[Bench]:
    """An application with the queues of record.py."""
    queues = {
        "mail": {"rate": "5/s"},
        "pull": {"mode": "pull"},
        "pull-thrice": {"mode": "pull", "retry": {"task_retry_limit": 2}},
    }
    with bench(database.url, TASKQUEUE_QUEUES=queues) as found:
        yield found


def test_every_scenario_was_recorded() -> None:
    """None is played without something to compare it with."""
    assert SCENARIOS.keys() == RECORDED.keys()


@pytest.mark.parametrize("name", sorted(SCENARIOS.keys() - PLAYS.keys()))
def test_a_task_is_made_as_there(name: str) -> None:
    """Or refused with the same exception; this needs no application."""
    assert heard(name) == RECORDED[name]


@pytest.mark.parametrize("name", sorted(PLAYS))
def test_a_queue_does_as_there(shop: Bench, name: str) -> None:
    """The same values, the same exceptions."""
    assert heard(name) == RECORDED[name]


def heard(name: str) -> Any:
    """What our module answers, through JSON as the recorded answer came."""
    return json.loads(json.dumps(answer(lambda: SCENARIOS[name](taskqueue))))
