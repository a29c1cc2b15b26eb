"""Signals reach the threads of the server, not ours, where that matters."""

from __future__ import annotations

import signal
import sys
from types import ModuleType

import pytest

from tests.apps import bench
from tests.databases import TestDatabase


@pytest.mark.parametrize("server", ["uwsgi", "another"])
def test_under_uwsgi_no_thread_of_ours_takes_signals(
    sqlite_database: TestDatabase, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    """Elsewhere they take them as before, for programs that handlers start inherit it; whoever
    starts the dispatcher always does.
    """
    monkeypatch.delitem(sys.modules, "uwsgi", raising=False)
    monkeypatch.setitem(sys.modules, server, ModuleType(server))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    masks: list[set[int]] = []
    with bench(sqlite_database.url) as one:
        handler = one.tasks.worker("/w")(
            lambda: masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        )
        runtime = one.runtime
        runtime.start()
        handler.add().wait(30)
        runtime.stop()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    assert [{signal.SIGTERM, signal.SIGINT} <= mask for mask in masks] == [server == "uwsgi"]
