"""Several processes that upgrade the tables at once."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.databases import TestDatabase
from tests.whole.processes import process

FLASK = ("-m", "flask", "--app", "tests.whole.loop_app", "taskqueue")


def test_of_five_processes_one_upgrades(
    empty_database: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait for it, and all end well."""
    monkeypatch.setenv("LOOP_DATABASE", empty_database.url)
    outputs = [tmp_path / f"output{number}" for number in range(5)]
    with ExitStack() as stack:
        for one in [
            stack.enter_context(process([*FLASK, "upgrade"], {}, output)) for output in outputs
        ]:
            assert one.wait(30) == 0
    said = [output.read_text() for output in outputs]
    assert sorted(text.count("Added table taskqueue_task.") for text in said) == [0, 0, 0, 0, 1]
    assert all("complete" in text for text in said)
    engine = sa.create_engine(empty_database.url, poolclass=sa.NullPool)
    assert sa.inspect(engine).has_table("taskqueue_schema")
