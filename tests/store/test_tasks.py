"""Tasks stored, found and changed, on each database."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from flask_taskqueue.core.delivery.outcome import Outcome
from flask_taskqueue.core.errors import (
    BadTaskStateError,
    TaskAlreadyExistsError,
    TombstonedTaskError,
    UnknownTaskError,
)
from flask_taskqueue.core.states import Record, State
from flask_taskqueue.core.tasks.request import TaskRequest
from flask_taskqueue.core.times import SECOND, to_micros
from flask_taskqueue.store import AttemptResult, Filter, Store
from flask_taskqueue.store.tasks.filters import LastStatus
from tests.store.conftest import add, claim, get

EVERY_BYTE = bytes(range(256)) * 400


def test_what_is_added_is_what_is_read(store: Store) -> None:
    """Each field comes back as it went in: any bytes, non-ASCII texts, microseconds."""
    eta = datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    request = TaskRequest("PUT", "/w?x=1", {"X-Name": "é"}, EVERY_BYTE)
    record = add(
        store,
        request=request,
        name="N-1",
        queue="mail",
        priority=-9,
        eta=eta,
        deadline=1.5,
        retry="{}",
        target="http://x",
    )
    assert get(store, record.id) == record
    assert record.body == EVERY_BYTE
    assert (record.eta, record.due_at) == (to_micros(eta), to_micros(eta))
    assert record.headers == '{"X-Name":"\\u00e9"}'


def test_without_an_eta_a_task_is_due_when_it_is_stored(store: Store) -> None:
    """By the database's clock, which also says when it was created."""
    record = add(store)
    assert record.eta == record.due_at == record.created_at
    assert abs(record.created_at - time.time_ns() // 1000) < 60 * SECOND


def test_a_countdown_is_counted_by_the_databases_clock(store: Store) -> None:
    """The eta lies exactly that far after the creation, on whatever clock that was."""
    record = add(store, delay=90 * SECOND)
    assert record.eta - record.created_at == pytest.approx(90 * SECOND, abs=1000)
    assert claim(store) == []


def test_a_name_belongs_to_one_live_task(store: Store) -> None:
    """A second of the same queue is refused, of another queue or case it is not."""
    add(store, name="one")
    with pytest.raises(TaskAlreadyExistsError, match="'one'"):
        add(store, name="one")
    add(store, name="one", queue="mail")
    add(store, name="One")


def test_a_name_outlives_its_task(store: Store) -> None:
    """Until the ended task is pruned the name is a tombstone."""
    record = add(store, name="one")
    store.transact(lambda connection: store.tasks.delete(connection, record.id))
    with pytest.raises(TombstonedTaskError, match="cancelled"):
        add(store, name="one")


def test_of_two_that_add_a_name_at_once_one_succeeds(store: Store) -> None:
    """The unique index decides, so no race gives two tasks."""
    outcomes: list[str] = []
    barrier = threading.Barrier(4)

    def race() -> None:
        barrier.wait()
        try:
            add(store, name="same")
        except TaskAlreadyExistsError:
            outcomes.append("refused")
        else:
            outcomes.append("added")

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["added", "refused", "refused", "refused"]


def test_a_rolled_back_task_never_was(store: Store) -> None:
    """An error in the transaction leaves nothing behind."""

    def work(connection: sa.Connection) -> None:
        from flask_taskqueue.core.tasks.spec import NewTask

        store.inserts.add(
            connection, NewTask(id="X" * 26, request=TaskRequest("POST", "/w", {}, b""))
        )
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.transact(work)
    with pytest.raises(UnknownTaskError, match="XXX"):
        get(store, "X" * 26)


def test_find_filters_and_pages(store: Store) -> None:
    """Newest first, each filter alone and together, a page after another."""
    first = add(store, queue="mail", name="n")
    second = add(store, request=TaskRequest("POST", "/other", {}, b""))
    third = add(store)

    def find(limit: int = 10, **wanted: object) -> list[str]:
        with store.reading() as connection:
            return [record.id for record in store.search.find(connection, Filter(**wanted), limit)]  # type: ignore[arg-type]

    by_age = sorted([first.id, second.id, third.id], reverse=True)
    assert find() == by_age
    assert find(queue="mail") == [first.id]
    assert find(name="n", state=State.SCHEDULED) == [first.id]
    assert find(url="/other") == [second.id]
    assert find(state=State.DEAD) == []
    assert find(limit=2) == by_age[:2]
    assert find(before=by_age[1]) == by_age[2:]


def test_find_looks_at_what_became_of_tasks(store: Store) -> None:
    """By the last status, a class of them or the reason, by the number of attempts, and by age."""
    table = store.database.tables.task
    first, second, third = (add(store) for _ in range(3))

    def change(record: Record, **values: object) -> None:
        store.transact(
            lambda connection: connection.execute(
                sa.update(table).where(table.c.id == record.id).values(values)
            )
        )

    change(first, last_status=502, last_reason="failure", attempts=3)
    change(second, last_status=None, last_reason="timeout", attempts=1)
    change(
        third,
        last_status=204,
        last_reason="success",
        attempts=2,
        created_at=third.created_at - 60 * SECOND,
    )

    def find(**wanted: object) -> set[str]:
        with store.reading() as connection:
            return {record.id for record in store.search.find(connection, Filter(**wanted), 10)}  # type: ignore[arg-type]

    assert find(status=LastStatus.parse("5xx")) == find(status=LastStatus.parse(502)) == {first.id}
    assert find(status=LastStatus.parse("timeout")) == {second.id}
    assert find(status=LastStatus.parse("4XX")) == set()
    assert find(attempts_at_least=2) == {first.id, third.id}
    assert find(since=third.created_at - SECOND) == {first.id, second.id}
    assert find(since=0) == {first.id, second.id, third.id}
    assert find(since=first.created_at + 7200 * SECOND) == set()


def test_search_finds_parts_of_texts(store: Store) -> None:
    """Of id, name, URL and last error, whatever the case; what SQL takes for a pattern is taken
    literally.
    """
    table = store.database.tables.task
    named = add(store, name="Invoice-17")
    linked = add(store, request=TaskRequest("POST", "/mail?to=100%25", {}, b""))
    failed = add(store)
    store.transact(
        lambda connection: connection.execute(
            sa.update(table).where(table.c.id == failed.id).values(last_error="no_such Ünicode")
        )
    )

    def search(text: str, **wanted: object) -> set[str]:
        with store.reading() as connection:
            return {
                record.id
                for record in store.search.find(connection, Filter(search=text, **wanted), 10)
            }  # type: ignore[arg-type]

    assert search("invoice") == search("voice-1") == {named.id}
    assert search("MAIL?TO") == {linked.id}
    assert search("100%") == {linked.id}
    assert search("no_s") == {failed.id}
    assert search("n%s") == search("i_v") == set()
    assert search(named.id[-8:].lower()) == {named.id}
    assert search("invoice", queue="mail") == set()


def test_search_ends_with_the_newest_tasks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older ones are not looked at, so that it costs the same on any table."""
    ids = [add(store).id for _ in range(4)]
    monkeypatch.setattr("flask_taskqueue.store.tasks.filters.SEARCHED", 3)
    with store.reading() as connection:
        assert [task.id for task in store.search.find(connection, Filter(search="/W"), 10)] == ids[
            :0:-1
        ]


@pytest.mark.parametrize("state", [None, *State])
def test_find_gives_the_same_whichever_way_it_looks(
    store: Store, monkeypatch: pytest.MonkeyPatch, state: State | None
) -> None:
    """Along the index of a state or along the ids, with those that wait for a key; a look ends
    and says so, `find` never does.
    """
    task = store.database.tables.task
    for number in range(12):
        record = add(
            store, request=TaskRequest("POST", "/even" if number % 2 == 0 else "/odd", {}, b"")
        )
        now = list(State)[number % len(State)]
        ended = (
            {"due_at": None, "finished_at": 100 - number}
            if now.is_finished
            else {"due_at": record.due_at + 600 * SECOND}
        )
        values = sa.update(task).where(task.c.id == record.id).values(state=now.value, **ended)
        store.transact(lambda connection, values=values: connection.execute(values))
    keyed = [add(store, lock_key="s:ana").id for _ in range(2)]
    assert len(claim(store, 2)) == 1
    assert sorted(get(store, one).due_at is None for one in keyed) == [False, True]
    with store.reading() as connection:
        for wanted in (
            Filter(state=state),
            Filter(state=state, url="/odd"),
            Filter(state=state, queue="nowhere"),
        ):
            monkeypatch.setattr("flask_taskqueue.store.tasks.search.OF_STATE", 50)
            found = store.search.find(connection, wanted, 3)
            assert found == store.search.look(connection, wanted, 3).records
            monkeypatch.setattr("flask_taskqueue.store.tasks.search.OF_STATE", 1)
            assert found == store.search.find(connection, wanted, 3)
        monkeypatch.setattr("flask_taskqueue.store.tasks.search.SEARCHED", 1)
        some = store.search.look(connection, Filter(state=state), 9)
    assert len(some.records) <= 1
    assert some.is_partial


def test_delete_cancels_what_has_not_ended(store: Store) -> None:
    """Scheduled or leased; what has ended is left as it is, an unknown id is an error."""
    scheduled, leased = add(store, delay=SECOND * 100), add(store)
    claim(store)
    for record in (scheduled, leased):
        assert store.transact(lambda connection, one=record.id: store.tasks.delete(connection, one))
        assert not store.transact(
            lambda connection, one=record.id: store.tasks.delete(connection, one)
        )
        ended = get(store, record.id)
        assert (ended.state, ended.due_at) == ("cancelled", None)
        assert ended.finished_at is not None
    with pytest.raises(UnknownTaskError):
        store.transact(lambda connection: store.tasks.delete(connection, "nobody"))


def test_only_the_dead_are_requeued(store: Store) -> None:
    """From their first attempt; anything else says what it is."""
    record = add(store)
    with pytest.raises(BadTaskStateError, match="is scheduled; only a dead task"):
        store.transact(lambda connection: store.tasks.requeue(connection, record.id))
    task = store.database.tables.task
    store.transact(
        lambda connection: connection.execute(
            sa.update(task).values(state="dead", due_at=None, attempts=5, crashes=2)
        )
    )
    store.transact(lambda connection: store.tasks.requeue(connection, record.id))
    again = get(store, record.id)
    assert (again.state, again.attempts, again.crashes, again.eta) == (
        "scheduled",
        0,
        0,
        record.eta,
    )
    assert [record.id for record in claim(store)] == [record.id]


def test_run_now_makes_a_scheduled_task_due(store: Store) -> None:
    """Its eta stays what it was."""
    record = add(store, delay=SECOND * 100)
    store.transact(lambda connection: store.tasks.run_now(connection, record.id))
    assert [record.eta for record in claim(store)] == [record.eta]
    with pytest.raises(BadTaskStateError, match="is leased"):
        store.transact(lambda connection: store.tasks.run_now(connection, record.id))


def test_finished_tasks_are_pruned_when_they_are_old(store: Store) -> None:
    """Each state by its own age, attempts and names with them; live tasks never."""
    table = store.database.tables.task
    ids = {state: add(store, name=str(state)).id for state in State}
    past = to_micros(datetime.now(UTC) - timedelta(hours=1))
    for state, task_id in ids.items():
        finished = past if state.is_finished else None
        store.transact(
            lambda connection, task_id=task_id, state=state, finished=finished: connection.execute(
                sa.update(table)
                .where(table.c.id == task_id)
                .values(state=state.value, finished_at=finished, due_at=None if finished else 1)
            )
        )

    def prune(**keep: float) -> int:
        return store.transact(
            lambda connection: store.finished_tasks.prune(connection, tombstones={}, **keep)
        )

    assert prune(keep_succeeded=7200, keep_dead=7200) == 0
    assert prune(keep_succeeded=60, keep_dead=7200) == 2
    assert prune(keep_succeeded=60, keep_dead=60) == 1
    assert prune(keep_succeeded=0, keep_dead=0) == 0
    add(store, name="succeeded")


def die(store: Store) -> None:
    """Attempt what is due, which is the end of it."""
    results = [
        AttemptResult(record, Outcome(State.DEAD, "failure", 500, "no"), 0.1)
        for record in claim(store)
    ]
    store.transact(lambda connection: store.recording.record(connection, results))


def test_a_requeued_task_has_its_unique_key_again(store: Store) -> None:
    """So that a second one is not added beside it; while another has the key it stays dead, and
    says why.
    """
    first = add(store, unique_key="k")
    die(store)
    second = add(store, unique_key="k")
    with pytest.raises(
        TaskAlreadyExistsError, match="another task that has not ended has its unique_key 'k' now"
    ):
        store.transact(lambda connection: store.tasks.requeue(connection, first.id))
    assert store.transact(lambda connection: store.tasks.requeue_some(connection, Filter())) == 0
    store.transact(lambda connection: store.tasks.delete(connection, second.id))
    store.transact(lambda connection: store.tasks.requeue(connection, first.id))
    assert (get(store, first.id).state, get(store, first.id).unique_key) == ("scheduled", "k")
    assert add(store, unique_key="k").id == first.id


def test_of_dead_tasks_with_one_key_the_newest_is_requeued(store: Store) -> None:
    """All of them may be asked for; only one can have the key."""
    for _ in range(2):
        newest = add(store, unique_key="k")
        die(store)
    assert store.transact(lambda connection: store.tasks.requeue_some(connection, Filter())) == 1
    assert get(store, newest.id).unique_key == "k"
    assert store.transact(lambda connection: store.tasks.requeue_some(connection, Filter())) == 0
