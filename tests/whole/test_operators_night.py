"""The operator's night: a system that is broken in six ways is understood by doctor, health and
why alone.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask

from flask_taskqueue import State
from tests.apps import runtime_of
from tests.databases import TestDatabase
from tests.waiting import wait_until
from tests.whole import night_app
from tests.whole.processes import process

RUN = ("-m", "flask", "--app", "tests.whole.night_app", "taskqueue", "run")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, database: TestDatabase) -> Iterator[str]:
    """A host and port where nobody listens, kept from others."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{kept.getsockname()[1]}"
        monkeypatch.setenv("NIGHT_HOST", where)
        monkeypatch.setenv("NIGHT_DATABASE", database.url)
        yield where


@contextmanager
def release(which: str | None = None) -> Iterator[Flask]:
    """The application as it was released, closed afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        if which is not None:
            patch.setenv("NIGHT_RELEASE", which)
        app = night_app.create_app()
    try:
        yield app
    finally:
        runtime_of(app).store.database.close()


def said(app: Flask, *command: str) -> str:
    """What a command prints."""
    return app.test_cli_runner().invoke(args=["taskqueue", *command]).output


@pytest.mark.slow
def test_a_broken_system_is_understood(host: str, tmp_path: Path) -> None:
    """A paused queue, a task that kills processes, a dispatcher that died, a dead host, a login
    hook, a missing route.
    """
    with release("old") as before, before.app_context():
        ids = {}
        for name, url in {
            "paused": "/mail",
            "poison": "/picture",
            "hook": "/reports/monthly",
            "route": "/legacy",
            "host": f"http://{host}/",
            "host too": f"http://{host}/too",
        }.items():
            queue = {"paused": "mail", "host": "hooks", "host too": "hooks"}.get(name, "default")
            ids[name] = re.findall(r"\b[0-9A-Z]{26}\b", said(before, "add", url, "--queue", queue))[
                0
            ]
        said(before, "pause", "mail")
    with release() as app:
        _look(app, ids, tmp_path)


def _look(app: Flask, ids: dict[str, str], tmp_path: Path) -> None:
    runtime = runtime_of(app)

    def is_over(name: str) -> bool:
        """Whether it is not tried again, or not before ten minutes are over."""
        with runtime.store.reading() as connection:
            task = runtime.store.tasks.get(connection, ids[name])
        return (
            task.state == (State.DEAD if name == "poison" else State.SCHEDULED)
            and task.attempts > 0
        )

    with process(RUN, {}, tmp_path / "output"):
        wait_until(
            lambda: all(map(is_over, ids.keys() - {"paused"})),
            what="all that may run has failed",
            timeout=90,
        )
    dispatcher = runtime.store.database.tables.dispatcher
    a_minute_ago = dispatcher.update().values(seen_at=dispatcher.c.seen_at - 60_000_000)
    runtime.store.transact(lambda connection: connection.execute(a_minute_ago))

    doctor = said(app, "doctor")
    for pattern in (
        r"✕ no dispatcher is alive, and 5 tasks wait\n  → start one: flask taskqueue run",
        r"! dispatcher \S+:\d+ was last seen (1 m|59 s)( \d+ s)? ago, and was not stopped: "
        r"its process died",
        r"! queue mail is paused.*, and 1 of its tasks waits\n  → let it run: flask "
        r"taskqueue resume mail",
        r"! 1 task gave up in the last hour: queue default, /picture: .*died",
        r"! queue hooks fails all the time: none of \d+ attempts .* succeeded; the latest: "
        r".*127\.0\.0\.1",
        r"! no route of this release answers POST /legacy, and 1 task waits for it",
        r"✕ /reports/monthly is not reached by tasks: the reply was 302, a redirect to "
        r"/login\n  → let tasks pass in the before_request",
        r"✓ /fine is reached by tasks",
    ):
        assert re.search(pattern, doctor), f"{pattern}\n{doctor}"

    health = said(app, "health")
    assert "no dispatcher is alive" in health
    assert "warning: queue hooks fails all the time" in health

    for name, patterns in {
        "paused": ("No dispatcher is alive", "Queue mail is paused"),
        "poison": ("It gave up .*died",),
        "hook": (
            "Attempt \\d+ failed: the reply was 302, a redirect to /login",
            "No dispatcher is alive",
        ),
        "route": ("Attempt \\d+ failed", "No route of this release answers POST /legacy"),
        "host": (
            "Attempt \\d+ failed: the connection failed: Connection refused",
            "No dispatcher is alive",
        ),
    }.items():
        why = said(app, "why", ids[name])
        assert all(re.search(pattern, why) for pattern in patterns), (name, why)
