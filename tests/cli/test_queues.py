"""Commands on queues and on everything: queues, purge, cron, stats, top, prune, routes."""

from __future__ import annotations

import json
import re

import pytest
import sqlalchemy as sa

from flask_taskqueue.core.times import SECOND
from tests.cli.conftest import Console


def test_queues_are_shown_with_their_hour(console: Console) -> None:
    """What waits, what ended, the limits, how late it is."""
    console.bench.run(console.add("bad"))
    console.add(queue="slow")
    console.run("pause", "slow")
    rows = {line.split()[0]: line.split() for line in console.run("queues").stdout.splitlines()}
    assert rows["QUEUE"][:4] == ["QUEUE", "DUE", "RUNNING", "SCHEDULED"]
    assert rows["mail"][1:9] == ["0", "0", "0", "0", "1", "0", "1", "20/m"]
    assert rows["slow"][-3:-1] == ["paused", "by"]
    documents = {one["queue"]: one for one in console.json("queues")}
    assert documents["slow"]["paused_at"].endswith("Z")


def test_pause_and_resume_as_json(console: Console) -> None:
    """Whether it changed anything."""
    assert console.json("pause", "mail") == {"action": "pause", "name": "mail", "changed": True}
    assert console.json("pause", "mail")["changed"] is False
    assert console.json("resume", "mail")["changed"] is True
    assert console.json("configure", "mail", "--rate", "5/s")["rate"] == 5
    assert console.run("pause", "none").exit_code == 3


def test_a_rate_of_0_is_no_pause(console: Console) -> None:
    """It is shown as what it is, and resuming says what lets tasks start."""
    console.run("configure", "mail", "--rate", "0")
    (line,) = [one for one in console.run("queues").stdout.splitlines() if "mail" in one]
    assert line.endswith("takes nothing: its rate is 0")
    assert console.run("resume", "mail").stdout == (
        "mail was not paused. Its rate is 0, so it takes nothing: flask taskqueue configure mail "
        "--rate 5/s, or --rate none\n"
    )
    console.run("pause", "mail")
    assert console.run("resume", "mail").stdout.startswith("Resumed mail. Its rate is 0")
    console.run("configure", "mail", "--rate", "none")
    assert console.run("resume", "mail").stdout == "mail was not paused.\n"


def test_the_rate_per_key_is_changed_and_shown(console: Console) -> None:
    """Also that of a task: by `add`, `show` and `why`."""
    told = console.run("configure", "mail", "--rate-per-key", "6/h", "--bucket-size-per-key", "1")
    assert told.stdout == (
        "mail: rate 20/m, bucket size 5, max concurrent -, rate per key 6/h, "
        "bucket size per key 1.\n"
    )
    refused = console.run("add", "/work", "-p", "what=good", "--rate-key", "ana")
    assert "rate_key is 'ana', but queue mail has no rate for it" in refused.stderr
    added = console.json("add", "/work", "-p", "what=good", "--queue", "slow", "--rate-key", "ana")
    assert added["rate_key"] == "ana"
    shown = console.run("show", added["id"]).stdout
    assert any(line.split() == ["rate", "key", "ana"] for line in shown.splitlines())
    assert console.run("configure", "mail", "--rate-per-key", "none").stdout.endswith(
        "max concurrent -.\n"
    )


def test_queues_are_added_changed_and_deleted(console: Console) -> None:
    """Beside the configured ones; with --json as documents."""
    assert console.run("queues", "add", "tours", "--rate", "5/s").stdout == "Added tours.\n"
    changed = console.json(
        "queues", "change", "tours", "--rate", "none", "--retry", '{"task_retry_limit": 1}'
    )
    assert changed == {"action": "change", "name": "tours", "changed": True}
    settings = console.bench.tasks.queue("tours").settings
    assert settings.rate is None
    assert settings.retry is not None
    assert settings.retry.task_retry_limit == 1
    console.add(queue="tours", countdown=60)
    assert "tours" in console.run("queues").stdout
    for command, words in (
        (("add", "tours"), "there is a queue 'tours' already"),
        (("change", "tours"), "there is nothing to change"),
        (("change", "tours", "--priority", "high"), "--priority is 'high'"),
        (("change", "tours", "--retry", "{"), "--retry is not valid JSON"),
        (("delete", "mail", "--yes"), "'mail' is configured"),
    ):
        refused = console.run("queues", *command)
        assert refused.exit_code, command
        assert words in refused.stderr, command
    assert console.run("queues", "delete", "tours", answer="n\n").exit_code
    deleted = console.run("queues", "delete", "tours", answer="y\n")
    assert deleted.stdout == "Deleted tours and cancelled 1 task.\n"
    assert "tours" not in console.run("queues").stdout
    assert console.run("add", "/work", "--queue", "tours").exit_code == 3


def test_purge_counts_and_asks_first(console: Console) -> None:
    """A dry run only counts; of the old ones only, if so asked."""
    old, new = console.add(countdown=60), console.add(countdown=60)
    assert console.run("purge", "mail", "--dry-run").stdout == "Would cancel 2 tasks.\n"
    assert (
        "This will cancel 2 tasks of queue mail."
        in console.run("purge", "mail", answer="n\n").stderr
    )
    assert console.json("purge", "mail", "--older-than", "1h", "--yes") == {
        "action": "purge",
        "dry_run": False,
        "matched": 0,
        "changed": 0,
    }
    assert console.run("purge", "mail", answer="y\n").stdout == "Cancelled 2 tasks.\n"
    assert {console.state(old), console.state(new)} == {"cancelled"}
    assert console.run("purge", "mail", "--yes").stderr == "No tasks match.\n"


def test_what_is_kept_for_its_name_is_told(console: Console) -> None:
    """By purge and prune, with the settings that say how long."""
    task = console.add(queue="mail", name="once")
    console.bench.tasks.drain()
    assert console.bench.tasks.get(task.id).state == "succeeded"
    why = "whose names must not be taken again yet: the tombstone_ttl of their queue, or"
    purged = console.run("purge", "mail", "--state", "succeeded", "--yes")
    assert f"Kept 1 succeeded task, {why}" in purged.stderr
    assert "No tasks match" not in purged.stderr
    assert f"Kept 1 task, {why}" in console.run("prune", "--older-than", "0", "--yes").stderr
    console.bench.run(console.add(queue="mail"))
    purged = console.run("purge", "mail", "--state", "succeeded", "--yes")
    assert purged.stdout == "Forgot 1 succeeded task.\n"


def test_purge_by_state(console: Console) -> None:
    """What waits is cancelled; what has ended is forgotten with its attempts, but for names
    that stay taken.
    """
    dead, done, waits = (
        console.bench.run(console.add("bad")),
        console.bench.run(console.add()),
        console.add(countdown=60),
    )
    named = console.bench.run(console.add("bad", name="kept"))
    assert console.run("purge", "mail", "--state", "leased", "--yes").stderr == "No tasks match.\n"
    assert console.run("purge", "slow", "--state", "dead", "--yes").stderr == "No tasks match.\n"
    assert (
        console.run("purge", "mail", "--state", "dead", "--dry-run").stdout
        == "Would forget 1 dead task.\n"
    )
    assert (
        "This will forget 1 dead task of queue mail."
        in console.run("purge", "mail", "--state", "dead", answer="n\n").stderr
    )
    assert (
        console.run("purge", "mail", "--state", "dead", "--yes").stdout == "Forgot 1 dead task.\n"
    )
    assert console.run("show", dead.id).exit_code == 3
    assert {console.state(done), console.state(named), console.state(waits)} == {
        "succeeded",
        "dead",
        "scheduled",
    }
    assert console.json("stats")["dead"] == 1
    assert (
        console.run("purge", "mail", "--state", "scheduled", "--yes").stdout
        == "Cancelled 1 scheduled task.\n"
    )
    assert (
        console.json("purge", "mail", "--state", "cancelled", "--older-than", "1h", "--yes")[
            "changed"
        ]
        == 0
    )
    assert console.json("purge", "mail", "--state", "cancelled", "--yes")["changed"] == 1


def test_prune_forgets_what_ended_long_ago(console: Console) -> None:
    """As the settings say, or by age; it counts and asks first."""
    old, new = console.bench.run(console.add()), console.bench.run(console.add("bad"))
    table = console.bench.store.database.tables.task
    store = console.bench.store
    past = (
        sa.update(table)
        .where(table.c.id == old.id)
        .values(finished_at=table.c.finished_at - 2 * 86_400 * SECOND)
    )
    store.transact(lambda connection: connection.execute(past))
    assert console.run("prune", "--dry-run").stdout == "Would forget 1 task.\n"
    assert "This will forget 1 finished task." in console.run("prune", answer="n\n").stderr
    assert console.run("prune", "--yes").stdout == "Forgot 1 task.\n"
    assert console.run("show", old.id).exit_code == 3
    assert console.run("prune", "--yes").stderr == "No tasks match.\n"
    assert console.json("prune", "--older-than", "0", "--yes")["changed"] == 1
    assert console.run("show", new.id).exit_code == 3


def test_stats_are_the_sums(console: Console) -> None:
    """Over all queues, with who dispatches."""
    console.bench.run(console.add("bad"))
    console.add(queue="slow")
    sums = console.json("stats")
    assert (
        sums["scheduled"],
        sums["dead"],
        sums["executed_last_hour"],
        sums["failed_last_hour"],
    ) == (1, 1, 1, 1)
    assert (sums["dispatchers"], sums["slots"]) == (0, 0)
    assert sums["oldest_due_seconds"] >= 0
    lines = console.run("stats").stdout
    assert re.search(r"^attempts, last hour +1, of which 1 failed$", lines, re.MULTILINE)


def test_stats_of_longer(console: Console) -> None:
    """Up to thirty days."""
    console.bench.run(console.add("bad"))
    assert re.search(
        r"^attempts, last 1 d +1, of which 1 failed$",
        console.run("stats", "--since", "24h").stdout,
        re.MULTILINE,
    )
    sums = console.json("stats", "--since", "30m")
    assert (sums["executed_since"], sums["failed_since"], sums["since"][-1]) == (1, 1, "Z")
    assert console.run("stats", "--since", "31d").exit_code == 2
    assert console.run("stats", "--since", "never").exit_code == 2


def test_top_looks_again_and_again(console: Console) -> None:
    """So many times, as tables or as a stream."""
    console.add()
    shown = console.run("top", "--times", "2", "-n", "0.01").stdout
    assert shown.count("QUEUE") == 2
    assert shown.count("No dispatcher is alive.") == 2
    lines = console.run("top", "--times", "2", "--interval", "0.01", "--jsonl").stdout.splitlines()
    assert [[load["queue"] for load in json.loads(line)["queues"]] for line in lines] == [
        ["default", "mail", "slow"]
    ] * 2
    runtime = console.bench.runtime
    runtime.start()
    try:
        assert "0/8" in console.run("top", "--times", "1").stdout
    finally:
        runtime.stop()


def test_routes_are_those_of_handlers(console: Console) -> None:
    """With what their tasks have unless they say otherwise."""
    (route,) = [one for one in console.json("routes") if one["rule"] == "/work"]
    assert (route["methods"], route["queue"], route["transactional"], route["async"]) == (
        ["POST"],
        "mail",
        False,
        False,
    )
    assert route["handler"].endswith("work")
    assert re.search(r"^/work +POST +mail ", console.run("routes").stdout, re.MULTILINE)


def test_schedules_in_the_same_style(console: Console) -> None:
    """As JSON, in UTC, and with the exit code of what is not there."""
    console.bench.tasks.schedule("tidy", "/work", "every 5 minutes", {"what": "good"})
    (schedule,) = console.json("cron", "list")
    assert schedule["next_at"].endswith("Z")
    assert len(schedule["next_runs"]) == 5
    assert re.search(r"in \d", console.run("cron", "list").stdout)
    assert re.search(r"\d\d:\d\d:\d\dZ", console.run("cron", "list", "--utc").stdout)
    assert console.json("cron", "pause", "tidy") == {
        "action": "pause",
        "name": "tidy",
        "changed": True,
    }
    assert console.json("cron", "run", "tidy")["schedule"] == "tidy"
    assert console.run("cron", "resume", "none").exit_code == 3


def test_schedules_are_added_changed_and_deleted(console: Console) -> None:
    """Those that code declares are left alone, and a mistake is answered with a sentence."""
    console.bench.tasks.schedule("tidy", "/work", "every 5 minutes", {"what": "good"})
    added = console.run("cron", "add", "hot", "every 10 seconds", "/work", "-p", "what=good")
    assert added.stdout == "Added hot.\n"
    assert console.json("cron", "run", "hot")["schedule"] == "hot"
    changed = console.json("cron", "change", "hot", "--schedule", "0 4 * * *", "--overlap", "allow")
    assert changed == {"action": "change", "name": "hot", "changed": True}
    (hot,) = [one for one in console.json("cron", "list") if one["name"] == "hot"]
    assert (hot["text"], hot["overlap"], hot["is_declared"]) == ("0 4 * * *", "allow", False)
    assert hot["added_at"].endswith("Z")
    for words, code, sentence in (
        (("add", "tidy", "@daily", "/work"), 1, "schedule 'tidy' is declared in the code"),
        (("add", "hot", "@daily", "/work"), 1, "there is a schedule named 'hot' already"),
        (("add", "cold", "sometimes", "/work"), 1, "sometimes"),
        (("change", "tidy", "--schedule", "@daily"), 1, "is declared in the code"),
        (("change", "hot"), 2, "give at least one option"),
        (("delete", "tidy"), 1, "is declared in the code"),
        (("delete", "none"), 3, "there is no schedule 'none'"),
    ):
        refused = console.run("cron", *words)
        assert (refused.exit_code, sentence in refused.stderr) == (code, True), refused.stderr
    assert console.run("cron", "delete", "hot").stdout == "Deleted hot.\n"
    assert [one["name"] for one in console.json("cron", "list")] == ["tidy"]


def test_a_dispatcher_of_no_queue_is_refused(console: Console) -> None:
    """As with a variable that is not set: it would take nothing, and say nothing."""
    result = console.run("run", "--burst", "--queues", " , ")
    assert result.exit_code == 2
    assert "--queues names no queue" in result.stderr


@pytest.mark.parametrize(
    "url", ["http://h/?a=b", "http+unix://%2Ftmp%2Fx", "app", "http://h:99999"]
)
def test_run_takes_no_base_url_that_paths_cannot_be_appended_to(console: Console, url: str) -> None:
    """Every task would fail there."""
    task = console.add()
    result = console.run("run", "--burst", "--transport", "http", "--base-url", url)
    assert result.exit_code != 0
    assert f"--base-url is {url!r}; it must be a URL" in result.output
    assert console.bench.tasks.get(task.id).attempts == 0


def test_the_options_of_the_list_of_queues_before_a_subcommand(console: Console) -> None:
    """``--json`` holds for what it does; ``--utc`` is refused, which says nothing there."""
    added = console.run("queues", "--json", "add", "reports", "--rate", "5/s")
    assert json.loads(added.stdout) == {"action": "add", "name": "reports", "changed": True}
    assert console.run("queues", "delete", "reports", "--yes").stdout.startswith("Deleted reports")
    refused = console.run("queues", "--utc", "add", "reports")
    assert (refused.exit_code, "leave it out" in refused.output) == (2, True)
