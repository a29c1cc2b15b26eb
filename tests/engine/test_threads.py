"""Signals reach the threads of the server, not ours, where that matters."""

from __future__ import annotations

import signal
import sys
import threading
from types import ModuleType
from typing import Any

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


def test_a_store_is_built_once_whatever_threads_ask_for_it(
    sqlite_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight threads that ask at the same time get one store, and so one engine."""
    stores: list[object] = []
    with bench(sqlite_database.url) as one:
        runtime = one.runtime
        runtime.substitute()
        opened, open_database = [], runtime.binding.open
        barrier = threading.Barrier(8)

        def counting(*arguments: Any) -> Any:
            opened.append(open_database(*arguments))
            return opened[-1]

        monkeypatch.setattr(type(runtime.binding), "open", lambda _, *given: counting(*given))

        def ask() -> None:
            barrier.wait()
            stores.append(runtime.store)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(stores) == 8
        assert set(stores) == {runtime.store}
        assert len(opened) == 1
