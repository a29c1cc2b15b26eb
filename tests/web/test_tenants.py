"""Two applications on one database with one prefix: one of them has the tables, the other
leaves them alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import ConfigurationError, State, Task
from flask_taskqueue.core.ownership import Application
from flask_taskqueue.diagnosis import findings
from flask_taskqueue.runtime import Runtime
from flask_taskqueue.store import DispatcherEntry
from tests.apps import Bench, bench
from tests.databases import TestDatabase
from tests.waiting import wait_until

REFUSED = "belong to application 'shop', and this is 'blog'"


class Tenant:
    """An application of this name, called from outside of any context."""

    def __init__(self, one: Bench, name: str) -> None:
        self.bench, self.app = one, one.app
        self.ran: list[str] = []
        one.app.name = name
        one.tasks.worker("/w")(self._work)

    @property
    def runtime(self) -> Runtime:
        """Its runtime."""
        return self.bench.runtime

    def add(self) -> Task:
        """Add a task, at once."""
        with self.app.app_context():
            return self.bench.tasks.add("/w")

    def join(self, *, commit: bool) -> None:
        """Add a task in the session's transaction."""
        with self.app.app_context():
            self.bench.db.session.execute(sa.update(self.bench.Counter).values(count=1))
            self.bench.tasks.add("/w")
            (self.bench.db.session.commit if commit else self.bench.db.session.rollback)()

    def drain(self) -> list[str]:
        """Attempt what is due; what has run."""
        with self.app.app_context():
            self.bench.tasks.drain()
        return self.ran

    def command(self, *words: str, answer: str | None = None) -> tuple[int, str]:
        """Exit code and output of a command."""
        result = self.app.test_cli_runner().invoke(args=["taskqueue", *words], input=answer)
        return result.exit_code, result.output

    def owner(self) -> Application | None:
        """What the tables say."""
        schema = self.runtime.store.database.tables.schema
        with self.runtime.store.reading() as connection:
            row = connection.execute(sa.select(schema)).one_or_none()
        return (
            None
            if row is None or row.application is None
            else Application(row.application, tuple(row.fingerprints.split()))
        )

    def look_again(self) -> None:
        """Forget that the tables were ours a moment ago."""
        self.runtime.store.ownership._sure_until = 0

    def _work(self) -> None:
        self.ran.append(self.app.name)


@pytest.fixture
def tenants(database: TestDatabase) -> Iterator[Any]:
    """Makes applications on one database, each with a secret."""
    with ExitStack() as stack:

        @contextmanager
        def made(name: str, secret: str, config: dict[str, Any]) -> Iterator[Tenant]:
            with bench(database.url, SECRET_KEY=secret, **config) as one:
                tenant = Tenant(one, name)
                try:
                    yield tenant
                finally:
                    tenant.runtime.stop()

        yield lambda name, secret, **config: stack.enter_context(made(name, secret, config))


def see_dispatcher(tenant: Tenant) -> None:
    """Have a dispatcher of this application be alive in another process."""
    known = {
        "host": "web1",
        "pid": 17,
        "version": "1",
        "transport": "wsgi",
        "queues": None,
        "concurrency": 8,
        "in_flight": 0,
    }
    sighting = DispatcherEntry(id="other", fingerprint=tenant.runtime.keys.fingerprints[0], **known)
    tenant.runtime.store.transact(
        lambda connection: tenant.runtime.store.dispatchers.see(connection, sighting)
    )


def test_an_application_leaves_the_tables_of_another_alone(tenants: Any) -> None:
    """Whatever it is asked to do with them; who owns them notices nothing."""
    shop, blog = tenants("shop", "a secret of the shop"), tenants("blog", "a secret of the blog")
    task = shop.add()
    for refused in (blog.add, blog.drain, blog.runtime.start, lambda: blog.join(commit=True)):
        with pytest.raises(ConfigurationError, match=REFUSED):
            refused()
    for words in (
        ["run-now", task.id],
        ["delete", task.id],
        ["pause", "default"],
        ["run", "--burst"],
        ["run"],
        ["purge", "default", "--yes"],
    ):
        code, output = blog.command(*words)
        assert (code, REFUSED in output) == (1, True), (words, output)
    assert shop.drain() == ["shop"]
    assert blog.ran == []


def test_looking_is_not_refused_and_tells(tenants: Any) -> None:
    """Lists and statistics can be read; doctor and health say whose the tables are."""
    shop, blog = (
        tenants("shop", "a secret of the shop"),
        tenants("blog", "a secret of the blog", TASKQUEUE_QUEUES={"mail": {}}),
    )
    task = shop.add()
    with blog.app.app_context():
        assert blog.bench.tasks.get(task.id).state is State.SCHEDULED
        assert [counts.queue for counts in blog.bench.tasks.statistics()] == ["default"]
        (error,) = [finding for finding in findings(blog.runtime) if "belong" in finding.text]
    assert (error.level, error.anchor) == ("error", "troubleshooting#another-application")
    assert "belong to another application" in blog.command("health")[1]
    ready = blog.app.test_client().get("/taskqueue/health/ready")
    assert (
        ready.status_code,
        shop.app.test_client().get("/taskqueue/health/ready").status_code,
    ) == (503, 200)


@pytest.mark.parametrize("joined", [False, True])
def test_of_several_that_begin_at_once_one_gets_the_tables(tenants: Any, joined: bool) -> None:
    """All tasks that are stored are of the one; the others have been refused."""
    several = [tenants(f"app{number}", f"a secret of app {number}") for number in range(4)]
    together = threading.Barrier(4)
    stored: list[str] = []
    refused: list[str] = []

    def begin(tenant: Tenant) -> None:
        together.wait(30)
        for _ in range(3):
            try:
                tenant.join(commit=True) if joined else tenant.add()
                stored.append(tenant.app.name)
            except ConfigurationError:
                refused.append(tenant.app.name)
            except (
                sa.exc.OperationalError
            ):  # SQLite's word to a session that read before another wrote
                assert joined
                tenant.bench.db.session.remove()

    threads = [threading.Thread(target=begin, args=(task,)) for task in several]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    owner = several[0].owner()
    assert owner is not None
    assert set(stored) == {owner.name}
    assert owner.name not in refused


def test_what_the_session_rolls_back_gives_nobody_the_tables(tenants: Any) -> None:
    """On SQLite, where the session's transaction alone can write, the first use is part of it."""
    shop, blog = tenants("shop", "a secret of the shop"), tenants("blog", "a secret of the blog")
    shop.join(commit=False)
    owner = shop.owner()
    assert owner is None or owner.name == "shop"
    (blog if owner is None else shop).join(commit=True)
    with pytest.raises(ConfigurationError):
        (shop if owner is None else blog).add()


def test_the_same_secret_is_the_same_application(tenants: Any) -> None:
    """A process that loads it under another name, and one whose key is newer, as long as either
    knows the other's.
    """
    old, other = tenants("shop", "the old secret"), tenants("worker", "the old secret")
    new = tenants("shop", "the new secret", SECRET_KEY_FALLBACKS=["the old secret"])
    for _ in range(2):
        for one in (old, other, new):
            one.look_again()
            one.add()
    assert len(new.drain()) == 6
    newest = tenants("shop", "the newest secret", SECRET_KEY_FALLBACKS=["the new secret"])
    newest.add()
    owner = newest.owner()
    assert owner is not None
    assert owner.fingerprints == newest.runtime.keys.fingerprints
    new.runtime.start()


def test_a_renewed_owner_is_written_once(tenants: Any) -> None:
    """Old and new processes beside each other do not take turns in writing it."""
    old, new = (
        tenants("shop", "the old secret"),
        tenants("shop", "the new secret", SECRET_KEY_FALLBACKS=["the old secret"]),
    )
    for one in (old, new):
        one.add()
    renewed = new.owner()
    for one in (old, new):
        one.drain()
        assert one.owner() == renewed


def test_one_of_the_same_name_follows_one_that_is_gone(
    tenants: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Its secret was replaced, or is made anew at each start: that is said once, by a warning."""
    before, after = tenants("shop", "a secret"), tenants("shop", "another secret")
    before.add()
    assert any(
        "none of whose dispatchers is alive" in finding.text for finding in findings(after.runtime)
    )
    assert after.drain() == ["shop"]
    after.add()
    after.drain()
    (said,) = [
        record.message
        for record in caplog.records
        if record.message.startswith("this application takes tables over: ")
    ]
    assert "with another secret" in said
    assert "SECRET_KEY_FALLBACKS" in said


def test_one_of_the_same_name_does_not_take_tables_from_the_living(tenants: Any) -> None:
    """A dispatcher with the other secret works there; its place is told."""
    before, after = tenants("shop", "a secret"), tenants("shop", "another secret")
    before.add()
    see_dispatcher(before)
    for refused in (after.add, after.drain, after.runtime.start):
        with pytest.raises(ConfigurationError, match=r"whose dispatcher is alive \(web1:17\)"):
            refused()
    table = before.runtime.store.database.tables.dispatcher
    stale = sa.update(table).values(seen_at=table.c.seen_at - 31_000_000)
    before.runtime.store.transact(lambda connection: connection.execute(stale))
    after.add()


def test_without_a_secret_nothing_is_compared(tenants: Any) -> None:
    """Such a process adds tasks, and cannot run a dispatcher anyhow."""
    shop, nobody = tenants("shop", "a secret of the shop"), tenants("blog", "")
    nobody.add()
    assert nobody.owner() is None
    shop.add()
    nobody.add()
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        nobody.drain()
    assert "set SECRET_KEY" in nobody.command("adopt", "--yes")[1]


def test_a_command_hands_the_tables_over(tenants: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks first; a dispatcher of the other takes nothing more, carries no bulk change on,
    and its process adds nothing more.
    """
    monkeypatch.setattr("flask_taskqueue.engine.scheduler._BEAT_INTERVAL", 0.1)
    shop, blog = tenants("shop", "a secret of the shop"), tenants("blog", "a secret of the blog")
    scheduler = shop.runtime.start()
    assert blog.command("adopt", answer="n\n")[0] == 1
    with pytest.raises(ConfigurationError, match=REFUSED):
        blog.add()
    code, output = blog.command("adopt", "--yes")
    assert (code, "belong to application 'blog'" in output) == (0, True)
    wait_until(lambda: not dispatchers(blog), what="the dispatcher of the shop has retired")
    task = blog.add()
    with pytest.raises(
        ConfigurationError, match="belong to application 'blog', and this is 'shop'"
    ):
        shop.add()
    assert scheduler.dispatcher.drain() is None
    assert {job.id for job in scheduler._jobs.get_jobs()} == {"renew", "watch"}
    with blog.app.app_context():
        assert blog.bench.tasks.get(task.id).state is State.SCHEDULED
    assert blog.drain() == ["blog"]


def dispatchers(tenant: Tenant) -> list[Any]:
    """Those that the tables know."""
    with tenant.app.app_context():
        return tenant.bench.tasks.dispatchers()


def test_a_dispatcher_says_why_it_takes_nothing_more(
    tenants: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One error, with both names; what runs ends and is recorded."""
    monkeypatch.setattr("flask_taskqueue.engine.scheduler._BEAT_INTERVAL", 0.1)
    shop, blog = tenants("shop", "a secret of the shop"), tenants("blog", "a secret of the blog")
    release, running = threading.Event(), threading.Event()

    @shop.bench.tasks.worker("/slow")
    def slow() -> None:
        running.set()
        release.wait(30)

    shop.runtime.start()
    with shop.app.app_context():
        task = slow.add()
    assert running.wait(15)
    blog.runtime.store.ownership.adopt()
    wait_until(lambda: not dispatchers(blog), what="the dispatcher of the shop has retired")
    release.set()
    with shop.app.app_context():
        assert task.wait(15).state is State.SUCCEEDED
    (said,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert said.startswith(
        "this dispatcher takes nothing more: the queue's tables belong to application "
        "'blog', and this is 'shop'"
    )


def test_tables_that_were_made_anew_are_the_dispatchers_again(tenants: Any) -> None:
    """In development they are dropped and created while it runs."""
    shop = tenants("shop", "a secret of the shop")
    shop.add()
    schema = shop.runtime.store.database.tables.schema
    shop.runtime.store.transact(lambda connection: connection.execute(sa.delete(schema)))
    assert shop.runtime.store.transact(shop.runtime.store.ownership.hold) is None
    owner = shop.owner()
    assert owner is not None
    assert owner.name == "shop"
