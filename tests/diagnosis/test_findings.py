"""What is found wrong: each thing made wrong for real, and found with its remedy."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, Response, redirect, request
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect

from flask_taskqueue import TaskQueue, include_object
from flask_taskqueue.core.delivery.verdict import Verdict
from flask_taskqueue.core.diagnosis.facts import Finding
from flask_taskqueue.core.diagnosis.problems import judge_dispatchers
from flask_taskqueue.diagnosis import findings
from flask_taskqueue.diagnosis.database import judge_clock
from flask_taskqueue.store.database.transaction import close_engine
from tests.apps import Bench, bench, closing, runtime_of, served
from tests.databases import TestDatabase
from tests.diagnosis.conftest import Ward

DOCS = Path(__file__).parents[2] / "docs"


def look(app: Flask) -> list[Finding]:
    """What is found, the ways of this machine's SQLite left out; each remedy leads to a place
    in the documentation.
    """
    found = [finding for finding in findings(runtime_of(app)) if "WAL-reset" not in finding.text]
    for finding in found:
        assert finding.level == "ok" or finding.remedy, finding
        if finding.anchor:
            page, _, label = finding.anchor.partition("#")
            text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
            assert not label or f"({label})=" in text or f"## {label}" in text.lower(), (
                finding.anchor
            )
    return found


def bad(app: Flask) -> dict[str, str]:
    """What is not well: by its text its level."""
    return {finding.text: finding.level for finding in look(app) if finding.level != "ok"}


@pytest.fixture
def patient(sqlite_database: TestDatabase) -> Iterator[Bench]:
    """An application in which all is well, with a dispatcher and a worker that notes when it
    runs.
    """
    with bench(sqlite_database.url) as one:
        one.app.extensions["ran"] = []

        @one.tasks.worker("/work")
        def work() -> None:
            one.app.extensions["ran"].append(request.path)

        Ward(one).see()
        yield one


def test_where_all_is_well_nothing_is_wrong(patient: Bench) -> None:
    """The route is pinged, and its handler does not run."""
    assert bad(patient.app) == {}
    texts = [finding.text for finding in look(patient.app)]
    assert "/work is reached by tasks" in texts
    assert any(text.startswith("dispatcher web1:4711 was seen") for text in texts)
    assert patient.app.extensions["ran"] == []


def test_a_schedule_whose_task_cannot_be_made_is_found(patient: Bench) -> None:
    """With the reason; the log says it once only."""
    patient.tasks.schedule("lost", "/nowhere", "@daily")
    assert bad(patient.app) == {
        "schedule lost does not fire, because its task cannot be made: no route of the application "
        "answers POST /nowhere": "error"
    }


def test_a_schedule_that_another_release_has_stored_is_found(
    patient: Bench, sqlite_database: TestDatabase
) -> None:
    """Until a dispatcher of this release has looked at it; to find it changes nothing."""
    patient.tasks.schedule("one", "/work", "@daily")
    patient.runtime.cron.tick()
    with bench(sqlite_database.url) as canary:
        canary.tasks.worker("/work")(lambda: None)
        canary.tasks.schedule("one", "/work", "0 3 1 1 *")
        canary.runtime.cron.tick()
    found = (
        "schedule one is stored as another release declares it (0 3 1 1 *): a dispatcher of that "
        "release was the last to look at it"
    )
    with patient.app.app_context():
        for _ in range(2):
            assert bad(patient.app) == {found: "warning"}
        patient.runtime.cron.tick()
        assert bad(patient.app) == {}


def test_limits_that_another_release_configures_are_found(
    patient: Bench, sqlite_database: TestDatabase
) -> None:
    """Until a dispatcher of this release configures them; to find them changes nothing."""
    patient.store.configure_queues()
    with bench(sqlite_database.url, TASKQUEUE_QUEUES={"default": {"max_concurrent": 4}}) as canary:
        canary.store.configure_queues()
    for _ in range(2):
        ((text, level),) = bad(patient.app).items()
        assert level == "warning"
        assert text.startswith("queue default has the limits that another release configures")
    patient.store.configure_queues()
    assert bad(patient.app) == {}


def test_a_login_hook_that_redirects_is_found(patient: Bench) -> None:
    """And is well again once it lets tasks pass."""
    lets_pass: list[bool] = []

    @patient.app.before_request
    def login() -> Any:
        return (
            None
            if lets_pass and patient.tasks.is_task_request()
            else redirect("/login?next=secret")
        )

    assert bad(patient.app) == {
        "/work is not reached by tasks: the reply was 302, a redirect to /login": "error"
    }
    lets_pass.append(True)
    assert bad(patient.app) == {}


def test_a_hook_that_answers_200_is_found(patient: Bench) -> None:
    """The status says success, and no handler runs."""

    @patient.app.before_request
    def maintenance() -> str:
        return "We are back soon."

    (text,) = bad(patient.app)
    assert "something before the handler answered 200, so tasks are attempted in vain" in text


def test_a_redirect_to_https_has_its_own_remedy(patient: Bench) -> None:
    """The base URL, which is what the application believes its address to be."""

    @patient.app.before_request
    def secure() -> Any:
        return None if request.is_secure else redirect(request.url.replace("http:", "https:"))

    (found,) = [finding for finding in look(patient.app) if finding.level == "error"]
    assert "TASKQUEUE_BASE_URL" in found.remedy
    assert found.anchor == "troubleshooting#redirected-to-https"


def test_csrf_protection_of_the_applications_own_is_found(patient: Bench) -> None:
    """Flask-WTF's is kept away from worker routes by itself."""
    patient.app.config["WTF_CSRF_CHECK_DEFAULT"] = True
    CSRFProtect(patient.app)
    checked: list[bool] = []

    @patient.app.before_request
    def check() -> Any:
        return Response("The CSRF token is missing.", 400) if checked else None

    assert bad(patient.app) == {}
    checked.append(True)
    assert bad(patient.app) == {
        "/work is not reached by tasks: the reply was 400, of a CSRF check": "error"
    }


def test_routes_that_lack_post_are_found(patient: Bench) -> None:
    """A task sends POST unless told otherwise."""

    @patient.tasks.worker("/only-get", methods=("GET",))
    def only_get() -> None: ...

    assert bad(patient.app) == {
        "/only-get answers GET, not POST, which is what a task sends unless its method is "
        "given": "warning"
    }


def test_routes_with_variables_are_pinged_with_values_made_up(patient: Bench) -> None:
    """Of any converter."""

    @patient.tasks.worker("/item/<int:item>/<uuid:other>/<any(a, b):kind>/<path:rest>")
    def item(**_: object) -> None: ...

    assert bad(patient.app) == {}
    assert any(finding.text.startswith("/item/<int:item>/") for finding in look(patient.app))


def test_async_handlers_without_the_extra_are_found(
    patient: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flask runs them through asgiref."""

    @patient.tasks.worker("/async")
    async def handler() -> None: ...

    assert bad(patient.app) == {}
    monkeypatch.setitem(sys.modules, "asgiref", None)
    assert list(bad(patient.app)) == [
        "/async has an async handler, and Flask cannot run it without its async extra"
    ]


def test_a_base_url_that_does_not_answer_is_found(sqlite_database: TestDatabase) -> None:
    """By a signed ping over HTTP; TRUSTED_HOSTS without its host too."""
    with bench(
        sqlite_database.url, TASKQUEUE_TRANSPORT="http", TASKQUEUE_BASE_URL="http://127.0.0.1:9"
    ) as one:
        one.tasks.worker("/work")(lambda: None)
        Ward(one).see()
        (text,) = bad(one.app)
        assert text.startswith("/work, by HTTP, is not reached by tasks: the connection failed")
    with bench(sqlite_database.url, TASKQUEUE_TRANSPORT="http") as one, served(one.app) as url:
        one.tasks.worker("/work")(lambda: None)
        object.__setattr__(one.runtime.settings, "base_url", url)
        assert bad(one.app) == {}
        one.app.config["TRUSTED_HOSTS"] = ["www.example.com"]
        found = bad(one.app)
        assert found["/work, by HTTP, is not reached by tasks: the reply was 400"] == "error"


def test_another_secret_in_the_web_process_is_found(sqlite_database: TestDatabase) -> None:
    """The ping is signed, so it is refused as the deliveries would be."""
    with bench(sqlite_database.url) as web, served(web.app) as url:
        web.tasks.worker("/work")(lambda: None)
        with bench(
            f"{sqlite_database.url}2", TASKQUEUE_TRANSPORT="http", TASKQUEUE_BASE_URL=url
        ) as one:
            one.app.config["SECRET_KEY"] = "a secret that the web process does not have"
            one.tasks.worker("/work")(lambda: None)
            Ward(one).see()
            (found,) = [finding for finding in look(one.app) if finding.level == "error"]
            assert found.text == "/work, by HTTP, is not reached by tasks: the reply was 403"
            assert "the same SECRET_KEY" in found.remedy


def test_without_a_secret_nothing_can_be_sent(patient: Bench) -> None:
    """Deliveries are signed."""
    patient.app.config["SECRET_KEY"] = None
    assert bad(patient.app) == {"deliveries are signed": "error"}


def test_a_missing_dispatcher_is_found(patient: Bench) -> None:
    """A problem once tasks wait; one of other queues does not serve."""
    ward = Ward(patient)
    ward.store.transact(lambda connection: ward.store.dispatchers.remove(connection, "one"))
    assert bad(patient.app) == {"no dispatcher is alive": "warning"}
    patient.tasks.add("/work")
    assert bad(patient.app) == {"no dispatcher is alive, and 1 task waits": "error"}
    ward.see(queues=["mail"])
    assert bad(patient.app) == {"no dispatcher takes from queue default, and 1 task waits": "error"}
    ward.see("two")
    ward.pause(by="ana")
    assert "queue default is paused by ana, and 1 of its tasks waits" in bad(patient.app)
    patient.tasks.queue("default").resume()
    ward.stop()
    assert "queue default has the rate 0, and 1 of its tasks waits" in bad(patient.app)


def test_two_dispatchers_in_one_process_are_found(patient: Bench) -> None:
    """By host and process id, from wherever one looks."""
    Ward(patient).see("two")
    (text,) = bad(patient.app)
    assert text.startswith("process web1:4711 has 2 dispatchers")


def test_missing_indexes_and_tables_are_found(ward: Ward) -> None:
    """On each database, by looking at it."""
    ward.see()
    tables = ward.store.database.tables
    index = next(index for index in tables.task.indexes if str(index.name).endswith("_due"))
    with ward.store.database.engine.begin() as connection:
        connection.execute(sa.schema.DropIndex(index))
    assert f"the index {index.name} is missing, so claims read the whole table" in bad(
        ward.bench.app
    )
    with ward.store.database.engine.begin() as connection:
        connection.execute(sa.schema.DropTable(tables.fire))
    assert bad(ward.bench.app)[f"the table {tables.fire.name} is missing"] == "error"


def test_a_pool_smaller_than_the_threads_is_found(sqlite_database: TestDatabase) -> None:
    """Handlers would wait for each other's connections."""
    options = {"pool_size": 2, "max_overflow": 1}
    with bench(
        sqlite_database.url, TASKQUEUE_CONCURRENCY=8, SQLALCHEMY_ENGINE_OPTIONS=options
    ) as one:
        Ward(one).see()
        assert bad(one.app) == {
            "8 tasks run at a time (TASKQUEUE_CONCURRENCY), but the application's pool has 3 "
            "connections": "warning",
        }


def test_a_file_without_a_write_ahead_log_is_found(patient: Bench, tmp_path: Path) -> None:
    """As while somebody else writes in another mode."""
    database = patient.store.database
    database.close()
    patient.db.session.remove()
    close_engine(patient.db.engine)
    other = sqlite3.connect(str(database.engine.url.database), isolation_level=None)
    assert other.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
    other.execute("BEGIN IMMEDIATE")
    assert any(
        text.startswith("the SQLite file has journal_mode=delete, not WAL")
        for text in map(str, database.findings())
    )
    other.execute("ROLLBACK")
    other.close()
    database.close()
    assert bad(patient.app) == {}


def test_an_in_memory_database_is_found() -> None:
    """No dispatcher can run on it."""
    with bench("sqlite://") as one:
        assert any("in-memory" in text and level == "error" for text, level in bad(one.app).items())


def test_tables_that_a_migration_would_drop_are_found(sqlite_database: TestDatabase) -> None:
    """Those of the application's database that are not in its metadata, unless Alembic is told."""

    def application(**options: Any) -> Flask:
        app = Flask(__name__)
        url = sqlite_database.url
        app.config.update(
            TESTING=True,
            SECRET_KEY="a secret for tests",
            SQLALCHEMY_DATABASE_URI=url,
            TASKQUEUE_DATABASE_URI=url,
        )
        db = SQLAlchemy(app)
        Migrate(app, db, **options)
        TaskQueue(app)
        return app

    wrong, right = application(), application(include_object=include_object)
    with closing(wrong), closing(right):
        missing = "Flask-Migrate does not know taskqueue_task"
        assert any(text.startswith(missing) for text in bad(wrong))
        assert not any("Flask-Migrate" in text for text in bad(right))


def test_settings_that_came_too_late_are_found(patient: Bench) -> None:
    """Before, they are an error at the start."""
    patient.app.config["TASKQUEUE_CONCURENCY"] = 4
    (text,) = bad(patient.app)
    assert "did you mean TASKQUEUE_CONCURRENCY?" in text


@pytest.mark.parametrize(
    ("config", "deadline", "longest"),
    [
        ({}, None, 30),
        ({"TASKQUEUE_DEADLINE": 40}, None, 40),
        ({"TASKQUEUE_QUEUES": {"slow": {"deadline": "5m"}}}, 40, 300),
        ({"TASKQUEUE_QUEUES": {"slow": {"deadline": "5m"}}}, "10m", 600),
    ],
)
def test_what_a_server_must_allow_is_the_longest_deadline(
    sqlite_database: TestDatabase, config: dict[str, Any], deadline: Any, longest: int
) -> None:
    """Of the settings, the queues and the handlers; told where deliveries go through a server."""
    for transport in ("http", "wsgi"):
        with bench(
            sqlite_database.url,
            TASKQUEUE_TRANSPORT=transport,
            TASKQUEUE_BASE_URL="http://127.0.0.1:9",
            **config,
        ) as one:
            one.tasks.worker("/work", deadline=deadline)(lambda: None)
            found = [finding for finding in look(one.app) if "longest deadline" in finding.text]
        assert [(finding.level, finding.text) for finding in found] == [
            ("ok", f"a delivery over HTTP may take {longest} s, the longest deadline of this app")
        ] * (transport == "http")
        assert all(f"more than {longest} s" in finding.remedy for finding in found)
        assert all("proxy_next_upstream off" in finding.remedy for finding in found)


def test_a_database_that_is_away_is_found(sqlite_database: TestDatabase) -> None:
    """With what its driver says; the other looks go on."""
    with bench(
        sqlite_database.url, TASKQUEUE_DATABASE_URI="postgresql+psycopg://nobody@127.0.0.1:1/none"
    ) as one:
        one.tasks.worker("/work")(lambda: None)
        one.app.config["TASKQUEUE_CONCURENCY"] = 4
        found = bad(one.app)
        assert sorted(found.values()) == ["error", "warning"]
        text = next(text for text, level in found.items() if level == "error")
        assert re.match(
            "the database cannot be reached: OperationalError: .*port 1 failed: Connection refused",
            text,
        )
        result = one.app.test_cli_runner().invoke(args=["taskqueue", "list"])
        assert (result.exit_code, "Connection refused" in result.stderr) == (69, True)


@pytest.mark.parametrize("off", [90, -90])
def test_a_wrong_clock_of_this_host_is_found(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, off: int
) -> None:
    """By asking a database that has a clock of its own."""
    ward.see()
    monkeypatch.setattr("time.time", lambda real=time.time: real() + off)
    found = [text for text in bad(ward.bench.app) if "the clock of this host" in text]
    if ward.store.database.dialect.clock_is_local:
        assert found == []
    else:
        direction = "ahead of" if off > 0 else "behind"
        assert len(found) == 1
        assert re.fullmatch(
            rf"the clock of this host is 1 m (29|30|31) s {direction} the database's, by "
            r"which tasks are due",
            found[0],
        )


def test_one_task_waits_and_two_wait(patient: Bench) -> None:
    """Numbers agree with their words."""
    assert [
        next(judge_dispatchers([], ["default"], {"default": number}, datetime.now(UTC))).text
        for number in (1, 2000)
    ] == [
        "no dispatcher is alive, and 1 task waits",
        "no dispatcher is alive, and 2,000 tasks wait",
    ]


def test_clocks_apart_are_found() -> None:
    """By how much, and which is ahead."""
    assert judge_clock(0.4).level == "ok"
    assert (
        judge_clock(-90).text
        == "the clock of this host is 1 m 30 s behind the database's, by which tasks are due"
    )
    assert "5 s ahead of" in judge_clock(5).text


def test_the_doctors_command(patient: Bench) -> None:
    """Marks and remedies for people, a document for programs, exit code 1 with a problem only."""
    runner = patient.app.test_cli_runner()
    closed: list[bool] = []

    @patient.app.before_request
    def login() -> Any:
        return redirect("/login") if closed else None

    well = runner.invoke(args=["taskqueue", "doctor"])
    assert well.exit_code == 0
    assert "✓ /work is reached by tasks\n" in well.stdout
    assert re.search(r"^0 problems, \d warnings?\.$", well.stdout, re.MULTILINE)

    closed.append(True)
    ill = runner.invoke(args=["taskqueue", "doctor"])
    assert ill.exit_code == 1
    assert ill.stdout.startswith(
        "✕ /work is not reached by tasks: the reply was 302, a redirect to /login\n  → let "
        "tasks pass"
    )
    assert "(docs: troubleshooting#redirected)" in ill.stdout
    document = json.loads(runner.invoke(args=["taskqueue", "doctor", "--json"]).stdout)
    assert {"level", "text", "remedy", "anchor"} == set(document[0])
    assert document[0]["level"] == "error"


def test_a_ping_is_no_ticket_to_a_handler(patient: Bench) -> None:
    """A ping that somebody captured and sends again gets 204, and no handler runs; it fits no
    other route.
    """
    sent: list[Any] = []
    patient.tasks.worker("/other")(lambda: None)
    with served(patient.app) as url:
        patient.app.before_request(lambda: sent.append((dict(request.headers), request.get_data())))
        _, attempts = patient.runtime.dispatcher(transport="http", base_url=url)
        answer, verdict = attempts.ping("POST", "/work")
        assert (answer.status, verdict) == (204, Verdict("ping"))
        attempts.close()
    headers, body = sent[0]
    client = patient.app.test_client()
    assert client.post("/work", headers=headers, data=body).status_code == 204
    assert client.post("/other", headers=headers, data=body).status_code == 403
    changed = {**headers, "X-TaskQueue-QueueName": "default"}
    assert client.post("/work", headers=changed, data=body).status_code == 403
    assert patient.app.extensions["ran"] == []


@pytest.mark.parametrize(
    ("config", "closed"),
    [
        (
            {"TASKQUEUE_METRICS": True, "TASKQUEUE_DASHBOARD": True, "TASKQUEUE_API": True},
            {"TASKQUEUE_METRICS", "TASKQUEUE_DASHBOARD", "TASKQUEUE_API"},
        ),
        ({"TASKQUEUE_METRICS": True, "TASKQUEUE_METRICS_TOKEN": "a-token-for-the-tests"}, set()),
        ({"TASKQUEUE_METRICS": True, "TASKQUEUE_METRICS_ACCESS": lambda: True}, set()),
        ({"TASKQUEUE_DASHBOARD": True, "TASKQUEUE_DASHBOARD_ACCESS": lambda: None}, set()),
        ({"TASKQUEUE_API": True, "TASKQUEUE_API_TOKEN": "a-token-for-the-tests"}, set()),
        ({"TASKQUEUE_DASHBOARD": True, "DEBUG": True}, set()),
    ],
)
def test_what_is_closed_to_everybody_is_told(
    sqlite_database: TestDatabase, config: dict[str, Any], closed: set[str]
) -> None:
    """With what opens it; and what opens what is open."""
    with bench(sqlite_database.url, **config) as one:
        told = [
            found
            for found in look(one.app)
            if found.text.startswith("TASKQUEUE_") or found.text.startswith("what TASKQUEUE_")
        ]
    assert {found.text.split()[0] for found in told if found.level == "warning"} == closed
    assert len(told) == sum(
        config.get(key) is True
        for key in ("TASKQUEUE_METRICS", "TASKQUEUE_DASHBOARD", "TASKQUEUE_API")
    )
