"""The plan of a random run, made from its seed alone: what the clients do, and what is done to
the processes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .operations import Step
from .wishes import PATHS, Wisher

QUEUES: dict[str, dict[str, Any]] = {
    "narrow": {"max_concurrent": 2},
    "paced": {"rate": "50/s"},
    "halting": {},
    "shelf": {},
}
"""Of them `shelf` is paused at the beginning, and never resumed."""
SCHEDULES = ("steady", "halted", "single")
MOST_DEATHS = 0.03
"""How many of the steps end their client between an add and its commit."""

ADDING = {"add": 50, "add_list": 8, "add_many": 4, "batch": 7}
CHANGING = {
    **{
        "delete": 5,
        "delete_many": 2,
        "delete_matching": 1,
        "purge": 1,
        "requeue": 6,
        "requeue_dead": 1,
        "run_now": 3,
        "queue_run_now": 1,
    },
    **{
        "pause": 2,
        "resume": 2,
        "configure": 3,
        "cron_pause": 1,
        "cron_resume": 1,
        "cron_run_now": 1,
        "rewind": 2,
    },
}
TRANSACTIONAL = (
    "delete",
    "delete_many",
    "requeue",
    "run_now",
    "pause",
    "resume",
    "configure",
    "cron_pause",
    "cron_resume",
    "cron_run_now",
)


@dataclass(frozen=True, slots=True)
class Harm:
    """What is done to the processes once so many steps have begun; ``choice`` chooses among
    them.
    """

    after: int
    kind: str
    choice: int

    def __str__(self) -> str:
        return f"after {self.after} steps: {self.kind} ({self.choice})"


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a run does."""

    clients: Sequence[Sequence[Step]]
    harms: Sequence[Harm]
    opening: Sequence[Step]
    """At the end what was held back is let go: queues and schedules."""
    closing: Sequence[Step]
    """Then no schedule fires any more."""

    @property
    def steps(self) -> list[Step]:
        """Those of all, by number."""
        every = [step for client in (*self.clients, self.opening, self.closing) for step in client]
        return sorted(every, key=lambda step: step.number)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.steps), *map(str, self.harms)])


def make_plan(seed: int, *, clients: int, steps: int, harms: Sequence[str]) -> Plan:
    """So many clients of so many steps each, and each of the harms somewhere among them."""
    chance = random.Random(seed)
    numbers = iter(range(clients * (steps + 1) + 100))
    every = tuple(tuple(_client(chance, client, numbers, steps)) for client in range(clients))
    kinds = chance.sample(harms, len(harms))
    stretch = clients * steps / (len(kinds) + 1)
    places = [int(stretch * (place + chance.uniform(0.6, 1.4))) for place in range(len(kinds))]
    opening = [
        Step(number=next(numbers), client=clients, do="resume", queue=name)
        for name in ("default", *QUEUES)
        if name != "shelf"
    ]
    opening += [
        Step(number=next(numbers), client=clients, do="cron_resume", schedule=name)
        for name in SCHEDULES
    ]
    closing = [
        Step(number=next(numbers), client=clients + 1, do="cron_pause", schedule=name)
        for name in SCHEDULES
    ]
    return Plan(
        every,
        [
            Harm(at, kind, chance.randrange(100))
            for at, kind in zip(sorted(places), kinds, strict=True)
        ],
        opening,
        closing,
    )


def _client(
    chance: random.Random, client: int, numbers: Iterator[int], steps: int
) -> Iterator[Step]:
    if client == 0:
        yield Step(number=next(numbers), client=client, do="pause", queue="shelf")
    wisher = Wisher(chance, f"{client}-")
    deaths = max(1, round(steps * MOST_DEATHS))
    kinds = ADDING | CHANGING
    for _ in range(steps):
        do = chance.choices(list(kinds), list(kinds.values()))[0]
        step = {
            "number": next(numbers),
            "client": client,
            "do": do,
            "transaction": _transaction(chance, do, deaths),
        }
        deaths -= step["transaction"] == "killed"
        yield Step(
            **step,
            **(_adding(chance, wisher, do) if do in ADDING else _changing(chance, wisher, do)),
        )


def _transaction(chance: random.Random, do: str, deaths: int) -> str | None:
    wanted = chance.choices([None, "commit", "rollback", "killed"], [60, 20, 12, 8])[0]
    if do in ADDING:
        return wanted if wanted != "killed" or deaths > 0 else "commit"
    return wanted if do in TRANSACTIONAL and wanted != "killed" else None


def _adding(chance: random.Random, wisher: Wisher, do: str) -> dict[str, Any]:
    queue = chance.choices(["default", *QUEUES], [50, 20, 10, 12, 8])[0]
    if do == "add":
        return {"queue": queue, "wishes": (wisher.wish(queue),)}
    wishes = tuple(
        wisher.wish(queue, alone=False)
        for _ in range(chance.randint(2, 12 if do == "add_many" else 6))
    )
    if do != "batch":
        return {"queue": queue, "wishes": wishes}
    found = {
        name: wisher.follower(queue) for name in ("on_finish", "on_dead") if chance.random() < 0.8
    }
    return {"queue": queue, "wishes": wishes, **found}


def _changing(chance: random.Random, wisher: Wisher, do: str) -> dict[str, Any]:
    queue = chance.choice(["default", *QUEUES])
    match do:
        case "delete" | "run_now" | "requeue":
            return {"targets": tuple(wisher.some(do, 1))}
        case "delete_many":
            return {"queue": queue, "targets": tuple(wisher.some("delete", 4))}
        case "delete_matching":
            return {"queue": queue, "targets": (chance.choice(PATHS),)}
        case "pause" | "resume":
            return {"queue": chance.choice(["halting", "narrow"])}
        case "configure":
            limits = chance.choice(
                [
                    {"max_concurrent": chance.choice([1, 2, 3, None])},
                    {"rate": chance.choice(["20/s", "80/s", None])},
                ]
            )
            return {"queue": chance.choice(["narrow", "paced"]), "limits": limits}
        case "rewind":
            return {"schedule": chance.choice(SCHEDULES), "minutes": chance.randint(3, 20)}
        case _:
            return {"queue": queue, "schedule": "steady" if do == "cron_run_now" else "halted"}
