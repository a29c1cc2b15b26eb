"""An application whose tasks are looked at and changed by commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from click.testing import Result

from flask_taskqueue import PermanentFailure, Task
from tests.apps import Bench, bench
from tests.databases import TestDatabase

QUEUES: dict[str, Any] = {
    "mail": {"rate": "20/m", "tombstone_ttl": "1h"},
    "slow": {"max_concurrent": 1, "rate_per_key": "10/m"},
}


@dataclass
class Console:
    """A terminal in front of an application."""

    bench: Bench

    def run(self, *words: str, answer: str | None = None) -> Result:
        """What a command came to."""
        return self.bench.app.test_cli_runner().invoke(args=["taskqueue", *words], input=answer)

    def json(self, *words: str) -> Any:
        """The document that a command printed, with nothing else beside it."""
        result = self.run(*words, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def add(self, what: str = "good", **options: Any) -> Task:
        """A task."""
        return self.bench.tasks.add("/work", {"what": what}, **options)

    def state(self, task: Task) -> str:
        """Where it is now."""
        return self.bench.tasks.get(task.id).state.value


@pytest.fixture
def console(sqlite_database: TestDatabase) -> Iterator[Console]:
    """An application on a SQLite file."""
    with bench(sqlite_database.url, TASKQUEUE_QUEUES=QUEUES) as one:

        @one.tasks.worker("/work", queue="mail")
        def work(what: str) -> str:
            if what == "bad":
                raise PermanentFailure("the address does not exist")
            if what == "later":
                raise ValueError("not yet")
            return what

        yield Console(one)
