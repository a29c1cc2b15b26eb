"""The overview, on each database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask_taskqueue import RetryOptions
from flask_taskqueue.core.failures import Failure, Signature, group
from flask_taskqueue.store import CAP, QueueCounts
from tests.apps import Bench
from tests.dashboard.conftest import Open


def overview(one: Bench) -> Any:
    """The JSON twin."""
    return one.app.test_client().get("/taskqueue/overview.json").get_json()


def test_nothing_is_shown_kindly(opened: Open) -> None:
    """An empty table gives a page with zeros, dashes and sentences, not an error."""
    one = opened()
    page = one.app.test_client().get("/taskqueue/").text
    assert "No attempts in the last hour." in page
    assert "No recent failures." in page
    assert overview(one)["totals"]["due"] == 0


def test_each_task_is_in_one_count(opened: Open) -> None:
    """Due, running, retrying, scheduled, dead and succeeded are counted apart, by queue."""
    one = opened()
    one.tasks.add("/fine")
    one.tasks.add("/broken", retry=RetryOptions(min_backoff_seconds=500))
    one.tasks.add("/hopeless", queue="mail")
    one.tasks.drain()
    one.tasks.add("/fine")
    one.tasks.add("/fine", countdown=3600)
    one.tasks.add("/fine", countdown=timedelta(days=1), queue="mail", priority=3)
    found = overview(one)
    lines = {line["queue"]: line for line in found["queues"]}
    counted = ("due", "running", "retrying", "scheduled", "waiting", "dead", "succeeded")
    assert [lines["default"][name] for name in counted] == [1, 0, 1, 1, 0, 0, 1]
    assert [lines["mail"][name] for name in counted] == [0, 0, 0, 1, 0, 1, 0]
    assert (found["totals"]["attempts_last_hour"], found["totals"]["failed_last_hour"]) == (3, 2)
    assert sum(bar["attempts"] for bar in found["chart"]["bars"]) == 3
    assert found["p95"] is not None


def test_the_chart_has_ranges(opened: Open) -> None:
    """By the URL, as a link on the page and in the twin; one that there is not is the last hour."""
    one = opened()
    one.tasks.add("/fine")
    one.tasks.add("/hopeless")
    one.tasks.drain()
    client = one.app.test_client()
    for name, bars, seconds in (
        ("1h", 60, 60),
        ("24h", 96, 900),
        ("7d", 84, 7200),
        ("30d", 90, 28_800),
        ("<b>", 60, 60),
    ):
        chart = client.get("/taskqueue/overview.json", query_string={"range": name}).get_json()[
            "chart"
        ]
        assert (chart["range"], len(chart["bars"]), chart["span"]) == (
            "1h" if name == "<b>" else name,
            bars,
            seconds,
        )
        assert (chart["attempts"], chart["failures"]) == (2, 1)
        page = client.get("/taskqueue/", query_string={"range": name}).text
        assert f'aria-current="true">{chart["range"]}</a>' in page
        assert "<b>:" not in page
        assert page.count("<rect") >= 2


def test_failures_are_grouped(opened: Open) -> None:
    """Attempts that failed alike are one line, the latest error its text."""
    one = opened()
    for number in range(3):
        one.tasks.add("/hopeless", {"why": f"no user {number}"})
    one.tasks.add("/hopeless", {"why": "disk full"})
    one.tasks.drain()
    failures = overview(one)["failures"]
    assert sorted((failure["count"], failure["dead"]) for failure in failures) == [(1, 1), (3, 3)]
    assert {failure["error"] for failure in failures} >= {"disk full"}
    assert "disk full" in one.app.test_client().get("/taskqueue/").text


def test_a_banner_says_that_nothing_dispatches(on_file: Open) -> None:
    """With tasks due and no dispatcher seen, the page begins with it and names the command."""
    one = on_file()
    assert "Nothing is due now" in one.app.test_client().get("/taskqueue/").text
    one.tasks.add("/fine")
    page = one.app.test_client().get("/taskqueue/").text
    assert "No dispatcher is running" in page
    assert "1 task is due" in page
    assert "flask taskqueue run" in page


def test_a_queue_is_paused_and_resumed(on_file: Open) -> None:
    """By a form that works without a script, and the next page says so."""
    one = on_file()
    client = one.app.test_client()
    reply = client.post("/taskqueue/queues/mail/pause", follow_redirects=True)
    assert "Paused the queue." in reply.text
    assert one.tasks.queue("mail").statistics().is_paused
    assert (
        "There was nothing to change."
        in client.post("/taskqueue/queues/mail/pause", follow_redirects=True).text
    )
    client.post("/taskqueue/queues/mail/resume")
    assert not one.tasks.queue("mail").statistics().is_paused
    assert client.post("/taskqueue/queues/none/pause").status_code == 404


def test_the_twin_is_json_by_accept_too(on_file: Open) -> None:
    """The same address answers a script that prefers JSON; a browser gets the page."""
    client = on_file().app.test_client()
    assert client.get("/taskqueue/", headers={"Accept": "application/json"}).is_json
    assert (
        client.get("/taskqueue/", headers={"Accept": "text/html,*/*;q=0.8"}).mimetype == "text/html"
    )
    assert (
        client.post(
            "/taskqueue/queues/none/pause", headers={"Accept": "application/json"}
        ).get_json()["name"]
        == "Not found"
    )


def test_the_applications_jinja_does_not_matter(on_file: Open) -> None:
    """Other delimiters, and no autoescaping, change nothing here."""
    one = on_file(TASKQUEUE_DASHBOARD_TITLE="<script>alert(1)</script>")
    one.app.jinja_options = {
        "variable_start_string": "[[",
        "variable_end_string": "]]",
        "autoescape": False,
    }
    page = one.app.test_client().get("/taskqueue/").text
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


def test_sums_end_where_counting_ends() -> None:
    """Two counts that end at the cap do not add up to more than it."""
    both = QueueCounts(due=CAP, due_since=7) + QueueCounts(due=5, retrying=1, due_since=3)
    assert (both.due, both.retrying, both.due_since) == (CAP, 1, 3)


def test_what_varies_does_not_part_a_group() -> None:
    """Numbers, quoted texts, identifiers and the count of attempts are no difference; queue,
    path, reason and status are.
    """
    common = {
        "task_id": "a",
        "number": 1,
        "reason": "failure",
        "status": 500,
        "finished_at": 5,
        "queue": "default",
        "url": "/user/7?x=1",
    }
    errors = [
        "KeyError: 'ana' at 0x7f3a, after 12 ms (gave up after 5 attempts)",
        "KeyError: 'bo' at 0x1, after 7 ms",
        "KeyError: 'bo' at 0x1, after 7 ms: 01K0ABCDEFGH and 0b5e3c1a-6f0d-4a9a-9d56-2f1e1f0a7b11",
        "KeyError: 'bo' at 0x1, after 7 ms: 01K0ABCDEFGX and 1b5e3c1a-6f0d-4a9a-9d56-2f1e1f0a7b11",
    ]
    failures = [
        Failure(**{**common, "error": error, "state": "dead", "url": f"/user/{place}"})
        for place, error in enumerate(errors)
    ]
    groups = group(failures)
    assert [group.count for group in groups] == [2, 2]
    assert groups[0].error == "KeyError: 'ana' at 0x7f3a, after 12 ms"
    one = failures[0]
    others = [
        one._replace(queue="mail"),
        one._replace(url="/other"),
        one._replace(reason="timeout"),
        one._replace(status=503),
    ]
    assert len({Signature.of(other).id for other in [one, *others]}) == 5
