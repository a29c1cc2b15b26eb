"""What a search, a filter and a change of all that match find: what whoever asks may see, on
each database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from flask_taskqueue import State
from flask_taskqueue.engine.maintenance import carry_on
from flask_taskqueue.store.tasks import listings
from tests.apps import Bench
from tests.dashboard.conftest import Open

HIDDEN = {
    "read": "user=ana&note=a%25b&api_key=9f-s3cr3t",
    "all": "api_key=9f-s3cr3t&session_token=abc",
}
"""The part of a URL that each kind of user does not see."""

OTHER = {"read": "user=bob&note=x%23y&zeta=7", "all": "api_key=7a&session_token="}
"""What another task has there instead."""


ACCESS = {"read": {"view", "run", "delete", "requeue"}, "all": True}


@dataclass
class Door:
    """An application with a dashboard, and who asks."""

    bench: Bench
    who: str = "read"

    def add(self, query: str, **options: Any) -> str:
        """A task that waits, with this query in its URL."""
        return self.bench.tasks.add(f"/seen?{query}", method="GET", countdown=900, **options).id

    def get(self, page: str = "tasks", **arguments: Any) -> Any:
        """The JSON twin of a page."""
        reply = self.bench.app.test_client().get(f"/taskqueue/{page}.json", query_string=arguments)
        assert reply.status_code == 200
        return reply.json

    def find(self, **arguments: Any) -> list[str]:
        """The ids that are listed, of all pages."""
        ids, after = [], ""
        while after is not None:
            reply = self.get(**arguments, after=after)
            ids += [task["id"] for task in reply["tasks"]]
            after = reply["next"]
        return ids

    def delete_all(self, **arguments: str) -> None:
        """Delete what matches, and carry out what that leaves to a dispatcher."""
        self.bench.app.test_client().post(
            "/taskqueue/tasks/delete", data={"scope": "all", "state": "scheduled", **arguments}
        )
        while carry_on(self.bench.store):
            pass


@pytest.fixture
def door(opened: Open) -> Door:
    """A dashboard with small pages."""
    door = Door(
        opened(TASKQUEUE_DASHBOARD_ACCESS=lambda: ACCESS[door.who], TASKQUEUE_DASHBOARD_PAGE_SIZE=3)
    )
    door.bench.app.add_url_rule("/seen", view_func=lambda: "")
    return door


@pytest.mark.slow
@pytest.mark.parametrize("who", ["read", "all"])
def test_nothing_hidden_can_be_found(door: Door, who: str) -> None:
    """Of two tasks that look alike every search and every filter finds both or neither."""
    door.who = who
    shown = {"read": "", "all": "user=eve&"}[who]
    pair = {door.add(shown + HIDDEN[who]), door.add(shown + OTHER[who])}
    hidden = HIDDEN[who]
    guesses = {
        hidden[begin : begin + size] for size in (5, 9) for begin in range(len(hidden) - size)
    }
    for guess in sorted({*guesses, "%", "_", "9F-S3CR3T", f"/seen?{shown}{hidden}", "\u2022"}):
        for field in ("q", "url"):
            assert set(door.find(**{field: guess, "state": "scheduled"})) in (set(), pair), (
                field,
                guess,
            )
    if who == "all":
        veiled = "user=eve&api_key=\u2022\u2022\u2022&session_token=\u2022\u2022\u2022"
        assert (
            set(door.find(q=veiled[:20]))
            == set(door.find(q="=EVE"))
            == set(door.find(url=f"/seen?{veiled}"))
            == pair
        )
    else:
        assert set(door.find(url="/seen")) == set(door.find(q="SEEN")) == pair
        assert door.find(q="seen?") == door.find(q="user=") == []


def test_what_is_shown_is_found(door: Door) -> None:
    """Ids, names, errors and paths by whoever may look; queries by those who see them."""
    named, plain = door.add("user=ana&token=x", name="letter-7"), door.add("user=ana")
    for who in ACCESS:
        door.who = who
        assert door.find(q="LETTER") == [named]
        assert door.find(q=named[5:]) == [named]
        assert set(door.find(q="/see")) == {named, plain}
    assert set(door.find(q="user=ana")) == {named, plain}
    assert door.find(url="/seen?user=ana") == [plain]
    door.who = "read"
    assert door.find(url="/seen?user=ana") == []


def test_pages_tell_nothing_hidden(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a look ends, and whether there is more, depends on what is shown; candidates are
    passed by, some at a time.
    """
    monkeypatch.setattr(listings, "_JUDGED", 2)
    for number in range(9):
        door.add("token=right" if number % 2 else "token=wrong")
    assert door.find(q="right") == []
    reply = door.get(q="right")
    assert (reply["next"], reply["is_partial"], reply["counts"]) == (None, False, {})
    monkeypatch.setattr(listings, "LOOKED_AT", 4)
    assert len({door.get(q=guess)["next"] for guess in ("right", "wrong", "none")}) == 1
    assert len(door.find(q="seen")) == len(set(door.find(q="seen"))) == 9


@pytest.mark.parametrize("number", [3, 120])
def test_all_that_match_are_those_that_are_seen_to(door: Door, number: int) -> None:
    """Few at once and many in the background, when a dispatcher carries it out: hidden text
    changes nothing.
    """
    ids = [door.add(f"token=s3cr3t&n={each}") for each in range(number)]
    for wanted in ({"q": "s3cr3t"}, {"url": "/seen?token=s3cr3t&n=1"}, {"q": "n=1"}):
        door.delete_all(**wanted)
        assert {task.state for task in door.bench.tasks.find(limit=200)} == {State.SCHEDULED}, (
            wanted
        )
    door.delete_all(url="/seen")
    assert {door.bench.tasks.get(each).state for each in ids} == {State.CANCELLED}


def test_what_somebody_looked_for_is_for_those_who_see_it(door: Door) -> None:
    """The audit log and the changes in the background tell of URLs only to those who may see
    them.
    """
    door.who = "all"
    for _ in range(101):
        door.add("user=ana")
    door.delete_all(queue="default", url="/seen?user=ana", q="ana")
    told = "scheduled tasks, queue default, url /seen?user=ana, q ana"
    system = door.get("system")
    assert [system["audit"][0]["subject"], system["bulks"][0]["told"]] == [told, told]
    door.who = "read"
    system = door.get("system")
    assert {system["audit"][0]["subject"], system["bulks"][0]["told"]} == {
        "scheduled tasks, queue default, …"
    }
