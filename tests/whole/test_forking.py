"""Forks in the middle of a running dispatcher."""

from __future__ import annotations

from pathlib import Path

from tests.databases import TestDatabase
from tests.whole.processes import process


def test_a_forked_child_has_neither_the_dispatcher_nor_its_connections(
    database: TestDatabase, tmp_path: Path
) -> None:
    """It can add, and run a dispatcher of its own; the parent's goes on."""
    environment = {"LOOP_DATABASE": database.url, "LOOP_LOG": str(tmp_path / "log")}
    with process(["-m", "tests.whole.forking"], environment, tmp_path / "output") as running:
        assert running.wait(30) == 0, (tmp_path / "output").read_text()


def test_a_child_that_a_handler_forks_uses_none_of_its_parents_connections(
    database: TestDatabase, tmp_path: Path
) -> None:
    """Neither the session's nor those of engines that the application made by itself; the
    parent's transaction is left whole.
    """
    environment = {"LOOP_DATABASE": database.url, "LOOP_LOG": str(tmp_path / "log")}
    with process(["-m", "tests.whole.inheriting"], environment, tmp_path / "output") as running:
        assert running.wait(60) == 0, (tmp_path / "output").read_text()
