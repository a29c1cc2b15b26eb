"""Schedules on each database: any number of dispatchers, each fire time once."""

from __future__ import annotations

import random
import threading
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import InvalidScheduleError, UnknownScheduleError
from flask_taskqueue.core.names import task_id
from flask_taskqueue.core.schedules.schedule import Schedule
from flask_taskqueue.core.states import State
from flask_taskqueue.core.tasks.packed import pack
from flask_taskqueue.core.tasks.request import TaskRequest
from flask_taskqueue.core.tasks.spec import NewTask
from flask_taskqueue.core.times import to_datetime, to_micros
from flask_taskqueue.engine.cron import Cron
from flask_taskqueue.store import ScheduleDefinition, Store, Waiting
from tests.refusals import refusing
from tests.store.conftest import get

START = datetime(2026, 1, 5, 12, tzinfo=UTC)


def definition(name: str, text: str, timezone: str = "UTC", **fields: Any) -> ScheduleDefinition:
    """A schedule that adds a task for /w."""
    task = pack([NewTask(id=task_id(), request=TaskRequest("GET", "/w", {}, b""), queue="mail")])
    given = {
        "misfire": "run_once",
        "overlap": "skip",
        "description": None,
        "task": task or "",
        **fields,
    }
    return ScheduleDefinition(name=name, text=text, timezone=timezone, **given)


def cron(store: Store, *definitions: ScheduleDefinition) -> Cron:
    """A dispatcher's cron."""

    def find(known: Collection[str]) -> list[ScheduleDefinition]:
        return [definition for definition in definitions if definition.name not in known]

    return Cron(lambda: store, find)


def fired(store: Store, name: str) -> list[datetime]:
    """The fire times that tasks were added for, by their eta."""
    task = store.database.tables.task
    with store.reading() as connection:
        return [
            to_datetime(eta)
            for eta in connection.scalars(
                sa.select(task.c.eta).where(task.c.schedule == name).order_by(task.c.eta)
            )
        ]


def end(store: Store, at: datetime, **fields: Any) -> None:
    """End every task."""
    task = store.database.tables.task
    changes = {
        "state": State.SUCCEEDED.value,
        "due_at": None,
        "finished_at": to_micros(at),
        **fields,
    }
    store.transact(
        lambda connection: connection.execute(
            sa.update(task).where(task.c.finished_at.is_(None)).values(changes)
        )
    )


def row(store: Store, name: str) -> Any:
    """A schedule as it is stored."""
    with store.reading() as connection:
        return store.schedules.get(connection, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "first", [datetime(2026, 3, 27, 12, tzinfo=UTC), datetime(2026, 10, 23, 12, tzinfo=UTC)]
)
def test_three_dispatchers_fire_each_time_once(store: Store, first: datetime) -> None:
    """Over simulated days in which the clocks change, each at moments of its own."""
    definitions = [
        definition("nightly", "every day 02:30", "Europe/Berlin", overlap="allow"),
        definition("hourly", "0 * * * *", "Europe/Berlin", overlap="allow", misfire="all"),
        definition("grid", "every 6 hours synchronized", "America/New_York", overlap="allow"),
    ]
    dispatchers = [cron(store, *definitions) for _ in range(3)]
    for one in dispatchers:
        one.declare(first)
    until = first + timedelta(days=4)
    now = first
    while now < until:
        now += timedelta(minutes=50)
        together(
            *(
                partial(dispatcher.tick, now + timedelta(seconds=random.uniform(-30, 30)))
                for dispatcher in dispatchers
            )
        )
    for one in dispatchers:
        one.tick(until)
    for one in definitions:
        expected = [
            at for at in Schedule.parse(one.text, one.timezone).next_runs(first, 120) if at <= until
        ]
        assert fired(store, one.name) == expected


def together(*calls: Any) -> None:
    """Make calls at the same time."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_task_is_what_was_declared_and_due_at_its_fire_time(store: Store) -> None:
    """Its id is new each time, and the task knows its schedule."""
    one = cron(store, definition("hourly", "0 * * * *"))
    one.declare(START)
    one.tick(START + timedelta(hours=1))
    end(store, START + timedelta(hours=1))
    one.tick(START + timedelta(hours=2))
    assert one.has_added
    assert fired(store, "hourly") == [START + timedelta(hours=1), START + timedelta(hours=2)]
    last = get(store, row(store, "hourly").last_task_id)
    assert (last.method, last.url, last.queue, last.schedule, last.eta) == (
        "GET",
        "/w",
        "mail",
        "hourly",
        to_micros(START) + 2 * 3600 * 10**6,
    )


def test_a_plain_interval_waits_for_its_task(store: Store) -> None:
    """And begins to count at its end."""
    one = cron(store, definition("every", "every 5 minutes"))
    one.declare(START)
    one.tick(START + timedelta(minutes=5))
    one.tick(START + timedelta(minutes=10))
    assert len(fired(store, "every")) == 1
    end(store, START + timedelta(minutes=12))
    one.tick(START + timedelta(minutes=15))
    assert to_datetime(row(store, "every").next_at) == START + timedelta(minutes=17)
    one.tick(START + timedelta(minutes=17))
    assert len(fired(store, "every")) == 2


@pytest.mark.parametrize("text", ["every 5 minutes", "*/5 * * * *", "every 5 minutes synchronized"])
def test_a_clock_that_was_ahead_stops_no_schedule(store: Store, text: str) -> None:
    """Whatever fired, or ended, at a time that has not come yet."""
    one = cron(store, definition("every", text))
    one.declare(START)
    ahead = START + timedelta(days=1)
    one.tick(ahead)
    end(store, ahead + timedelta(seconds=1))
    assert to_datetime(row(store, "every").next_at) > ahead
    one.tick(START + timedelta(minutes=1))
    next_at = to_datetime(row(store, "every").next_at)
    assert next_at <= START + timedelta(minutes=6)
    before = len(fired(store, "every"))
    one.tick(next_at)  # perhaps it has fired for this time already
    one.tick(next_at + timedelta(minutes=5))
    assert len(fired(store, "every")) == before + 1


def test_a_dispatcher_that_looked_before_another_fired_changes_nothing(store: Store) -> None:
    """The time that it has read may be some seconds old."""
    one, other = (cron(store, definition("every", "*/5 * * * *")) for _ in range(2))
    one.declare(START)
    due = to_datetime(row(store, "every").next_at)
    one.tick(due)
    next_at = row(store, "every").next_at
    other.tick(due - timedelta(seconds=3))
    assert row(store, "every").next_at == next_at


def test_a_changed_text_counts_from_now_and_a_changed_task_does_not(store: Store) -> None:
    """A restart with the same text keeps what is due."""
    cron(store, definition("one", "0 * * * *")).declare(START)
    cron(store, definition("one", "0 * * * *", description="new")).declare(
        START + timedelta(hours=3)
    )
    assert to_datetime(row(store, "one").next_at) == START + timedelta(hours=1)
    assert row(store, "one").description == "new"
    cron(store, definition("one", "30 * * * *")).declare(START + timedelta(hours=3))
    assert to_datetime(row(store, "one").next_at) == START + timedelta(hours=3, minutes=30)


def test_what_is_no_longer_declared_no_longer_fires(store: Store) -> None:
    """Its row stays, in case another version of the application declares it."""
    cron(store, definition("old", "0 * * * *")).declare(START)
    cron(store, definition("new", "0 * * * *")).tick(START + timedelta(days=1))
    assert fired(store, "old") == []


def test_a_paused_schedule_misses_nothing_by_it(store: Store) -> None:
    """It goes on with the next fire time after it was resumed."""
    one = cron(store, definition("hourly", "0 * * * *"))
    one.declare(START)
    assert store.transact(lambda connection: store.schedules.pause(connection, "hourly", "ana"))
    assert not store.transact(lambda connection: store.schedules.pause(connection, "hourly", "bo"))
    one.tick(START + timedelta(hours=5))
    assert fired(store, "hourly") == []
    assert store.transact(lambda connection: store.schedules.resume(connection, "hourly"))
    with store.reading() as connection:
        now = store.schedules.now(connection)
    assert now < to_datetime(row(store, "hourly").next_at) <= now + timedelta(hours=1)


def test_run_now_adds_a_task_beside_the_fire_times(store: Store) -> None:
    """Also of one that is paused; one that does not exist is an error."""
    cron(store, definition("hourly", "0 * * * *")).declare(START)
    added = task_id()
    store.transact(lambda connection: store.schedules.run_now(connection, "hourly", added))
    assert get(store, added).schedule == "hourly"
    assert to_datetime(row(store, "hourly").next_at) == START + timedelta(hours=1)
    with pytest.raises(UnknownScheduleError, match="'weekly'"):
        store.transact(lambda connection: store.schedules.run_now(connection, "weekly", task_id()))


@pytest.mark.parametrize("column", ["text", "timezone", "task"])
def test_a_broken_row_is_left_with_its_error(store: Store, column: str) -> None:
    """The other schedules go on."""
    added(store, definition("bad", "0 * * * *"))
    one = cron(store, definition("good", "0 * * * *"))
    one.declare(START)
    schedule = store.database.tables.schedule
    store.transact(
        lambda connection: connection.execute(
            sa.update(schedule)
            .where(schedule.c.name == "bad")
            .values({column: '[{"no": 1}]', "next_at": to_micros(START)})
        )
    )
    one.tick(START + timedelta(hours=1))
    assert row(store, "bad").next_at is None
    assert row(store, "bad").last_error
    assert len(fired(store, "good")) == 1


def rival(text: str, **fields: Any) -> ScheduleDefinition:
    """What another release declares under the same name."""
    task = pack([NewTask(id=task_id(), request=TaskRequest("GET", "/2", {}, b""), queue="mail")])
    return definition("one", text, **({"task": task} | fields))


def added_by(store: Store, url: str) -> list[datetime]:
    """The fire times for which a task with this URL was added."""
    task = store.database.tables.task
    with store.reading() as connection:
        found = connection.scalars(
            sa.select(task.c.eta).where(task.c.url == url).order_by(task.c.eta)
        )
        return [to_datetime(eta) for eta in found]


@pytest.mark.slow
def test_each_release_fires_what_it_declares_while_several_run(store: Store) -> None:
    """Whatever the others declare under the same name; each as if it were alone."""
    hourly = cron(store, definition("one", "0 * * * *", overlap="allow"))
    often = cron(store, rival("*/7 * * * *", overlap="allow"))
    rarely = cron(store, rival("every 90 minutes", overlap="allow"))
    now = START
    while now < START + timedelta(hours=5):
        for one in random.sample((hourly, often, rarely), 3):
            one.tick(now)
        now += timedelta(minutes=1)
    hours = [START + timedelta(hours=hour) for hour in range(1, 5)]
    sevens = Schedule.parse("*/7 * * * *").next_runs(START, 60)
    sevens = [at for at in sevens if at < START + timedelta(hours=5)]
    intervals = [START + timedelta(minutes=minutes) for minutes in (90, 180, 270)]
    assert fired(store, "one") == sorted({*hours, *sevens, *intervals})
    assert set(added_by(store, "/w")) >= set(hours) - set(sevens) - set(intervals)
    assert set(added_by(store, "/2")) >= {*sevens, *intervals} - set(hours)


def test_a_release_that_is_rolled_back_leaves_nothing_behind(store: Store) -> None:
    """The release that ran before, and was never restarted, fires what it declares."""
    fleet = cron(store, definition("one", "0 * * * *", overlap="allow"))
    fleet.tick(START)
    for canary in (rival("0 * * * *"), rival("0 3 1 1 *"), rival("*/5 * * * *", misfire="all")):
        cron(store, canary).tick(START + timedelta(minutes=10))
    fleet.tick(START + timedelta(hours=1))
    fleet.tick(START + timedelta(hours=2))
    assert added_by(store, "/w") == [START + timedelta(hours=1), START + timedelta(hours=2)]
    assert added_by(store, "/2") == []
    assert row(store, "one").text == "0 * * * *"


def test_a_process_of_an_old_release_that_starts_late_leaves_nothing_behind(store: Store) -> None:
    """It fires what it declares while it runs."""
    new = cron(store, definition("one", "0 * * * *", overlap="allow"))
    new.tick(START)
    late = cron(store, rival("30 * * * *", overlap="allow"))
    late.tick(START + timedelta(minutes=10))
    new.tick(START + timedelta(minutes=11))
    late.tick(START + timedelta(minutes=30))
    for hours in (1, 2):
        new.tick(START + timedelta(hours=hours))
    assert added_by(store, "/2") == [START + timedelta(minutes=30)]
    assert added_by(store, "/w") == [START + timedelta(hours=1), START + timedelta(hours=2)]


def test_a_fire_time_of_two_releases_is_fired_once(store: Store) -> None:
    """By whichever comes first, at the same moment too."""
    releases = [
        cron(store, definition("one", "0 * * * *", overlap="allow")),
        cron(store, rival("0 */1 * * *", overlap="allow")),
        cron(store, rival("0 * * * *", overlap="allow")),
    ]
    for release in releases:
        release.tick(START)
    for hours in range(1, 6):
        together(*(partial(release.tick, START + timedelta(hours=hours)) for release in releases))
        for release in releases:  # a second later, as each would whose row was locked by another
            release.tick(START + timedelta(hours=hours, seconds=1))
    assert fired(store, "one") == [START + timedelta(hours=hours) for hours in range(1, 6)]


def test_what_passes_during_a_pause_is_not_missed_while_two_releases_run(store: Store) -> None:
    """Neither release remembers a fire time from before the pause."""
    releases = [
        cron(store, definition("one", "0 * * * *")),
        cron(store, rival("*/20 * * * *")),
    ]
    for release in releases:
        release.tick(START)
    store.transact(lambda connection: store.schedules.pause(connection, "one", None))
    for release in releases:
        release.tick(START + timedelta(hours=1, minutes=5))
    store.transact(lambda connection: store.schedules.resume(connection, "one"))
    for release in releases:
        release.tick(START + timedelta(hours=1, minutes=6))
    assert fired(store, "one") == []


def test_whoever_only_looks_changes_no_schedule(store: Store) -> None:
    """A command of another release stores what has no row yet, and nothing else."""
    cron(store, definition("one", "0 * * * *")).tick(START)
    before = row(store, "one")
    cron(store, rival("0 3 1 1 *"), definition("two", "0 * * * *")).introduce()
    assert row(store, "one") == before
    assert row(store, "two").text == "0 * * * *"


def test_a_schedule_that_the_database_refuses_holds_up_no_other(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither where it is stored as it is declared nor where it fires; both are tried again."""
    names = {
        name: definition(name, "every 1 hours", description="unfit" if name == "a" else None)
        for name in "abc"
    }
    one = cron(store, *names.values())
    with (
        refusing(store, "schedule", "{}description = 'unfit'"),
        refusing(store, "task", "{}schedule = 'b'"),
    ):
        one.tick(START)
        one.tick(START + timedelta(hours=1, minutes=1))
    assert [len(fired(store, name)) for name in "abc"] == [0, 0, 1]
    assert "schedule a cannot be stored as it is declared, yet: " in caplog.text
    assert "schedule b cannot fire yet: " in caplog.text
    one.tick(START + timedelta(hours=1, minutes=2))
    assert len(fired(store, "b")) == 1
    assert row(store, "a").description == "unfit"


def test_old_fire_times_are_forgotten(store: Store) -> None:
    """After thirty days; the schedule goes on."""
    one = cron(store, definition("hourly", "0 * * * *"))
    one.declare(datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=365))
    one.tick(datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=364))
    assert store.transact(store.schedules.prune) == 1


def added(store: Store, one: ScheduleDefinition) -> None:
    """Add a schedule while the app runs."""
    store.transact(lambda connection: store.added_schedules.add(connection, one))


def test_an_added_schedule_is_fired_by_every_dispatcher_once(store: Store) -> None:
    """By those that declare nothing, and those that declare others; once for each fire time."""
    added(store, definition("hot", "0 * * * *"))
    with store.reading() as connection:
        (at,) = (row.next_at for row in Waiting.of(store.schedules.rows(connection)).values())
    for dispatcher in (cron(store), cron(store, definition("other", "30 * * * *")), cron(store)):
        dispatcher.tick(at)
    assert fired(store, "hot") == [at]
    assert cron(store).tick(at) <= 5
    store.transact(lambda connection: store.added_schedules.delete(connection, "hot"))
    cron(store).tick(at + timedelta(hours=1))
    assert fired(store, "hot") == [at]


def test_a_changed_schedule_counts_from_now_on(store: Store) -> None:
    """If its text or its time zone changes; a description changes nothing else."""
    added(store, definition("hot", "0 * * * *"))

    def change(**columns: Any) -> sa.Row[Any]:
        def work(connection: sa.Connection) -> sa.Row[Any]:
            store.added_schedules.change(connection, "hot", columns)
            return store.schedules.get(connection, "hot")

        return store.transact(work)

    with store.reading() as connection:
        before = store.schedules.get(connection, "hot")
    assert change(description="new").next_at == before.next_at
    after = change(text="17 3 * * *")
    assert to_datetime(after.next_at).strftime("%H:%M") == "03:17"
    assert (after.description, after.timezone, after.task) == ("new", "UTC", before.task)


def test_code_takes_over_what_was_added(store: Store) -> None:
    """From then on nothing but the code changes it; what is not declared any more stays added."""
    added(store, definition("one", "0 * * * *"))
    added(store, definition("two", "0 * * * *"))
    cron(store, definition("one", "0 * * * *")).declare(START)
    with pytest.raises(InvalidScheduleError, match="is declared in the code"):
        store.transact(lambda connection: store.added_schedules.delete(connection, "one"))
    with pytest.raises(InvalidScheduleError, match="is declared in the code"):
        store.transact(
            lambda connection: store.added_schedules.change(connection, "one", {"misfire": "all"})
        )
    with pytest.raises(InvalidScheduleError, match="there is a schedule named 'one' already"):
        added(store, definition("one", "0 * * * *"))
    with store.reading() as connection:
        states = {row.name: row.added_at is None for row in store.schedules.rows(connection)}
    assert states == {"one": True, "two": False}


def test_of_two_who_add_a_name_one_succeeds(store: Store) -> None:
    """The other is told."""
    told: list[str] = []

    def add(number: int) -> None:
        try:
            added(store, definition("hot", f"{number} * * * *"))
            told.append("added")
        except InvalidScheduleError as error:
            told.append(str(error)[:33])

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["added"] + 3 * ["there is a schedule named 'hot' al"[:33]]
