"""Lists with the same keys, added by many at once."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import State, TaskQueueError, TaskSpec, TransientError
from tests.apps import Bench, bench
from tests.databases import TestDatabase

KEYS = [f"key-{number}" for number in range(40)]


def shuffled(seed: int, on_conflict: Any) -> list[TaskSpec]:
    """A task of each key."""
    keys = random.Random(seed).sample(KEYS, len(KEYS))
    return [TaskSpec("/w", {"key": key}, unique_key=key, on_conflict=on_conflict) for key in keys]


def in_a_list(shop: Bench, specs: list[TaskSpec]) -> None:
    """As one transaction of the queue's own."""
    assert [task.url for task in shop.tasks.queue("default").add(specs)] == ["/w"] * len(specs)


def in_the_session(shop: Bench, specs: list[TaskSpec]) -> None:
    """As part of the session's transaction, which nobody would run again."""
    shop.tasks.queue("default").add(specs, transactional=True)
    shop.db.session.commit()


def as_many(shop: Bench, specs: list[TaskSpec]) -> None:
    """By a few statements."""
    shop.tasks.add_many(specs)


@pytest.mark.slow
@pytest.mark.parametrize("on_conflict", ["skip", "replace", "debounce"])
@pytest.mark.parametrize("add", [in_a_list, in_the_session, as_many])
def test_lists_in_any_order_raise_no_deadlock(
    database: TestDatabase, add: Callable[..., None], on_conflict: str, patient: dict[str, Any]
) -> None:
    """Each key has one task in the end, and nobody is told of the others' transactions."""
    errors: list[Exception] = []
    with bench(database.url, **(patient if database.name == "sqlite" else {})) as shop:

        @shop.tasks.worker("/w")
        def handler(key: str) -> None: ...

        in_a_list(shop, shuffled(0, "skip"))

        def work(seed: int) -> None:
            try:
                with shop.app.app_context():
                    for number in range(4):
                        add(shop, shuffled(10 * seed + number, on_conflict))
            except (TaskQueueError, sa.exc.SQLAlchemyError, AssertionError) as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        if (database.name, add, on_conflict != "skip") == ("mariadb", in_the_session, True):
            errors = [
                error for error in errors if not isinstance(error, TransientError)
            ]  # it locks what is beside a key as well
        assert errors == []
        live = shop.tasks.find(state=State.SCHEDULED, limit=1000)
        assert len(live) == len(KEYS)
