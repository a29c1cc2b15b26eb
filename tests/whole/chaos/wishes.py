"""Wishes: random tasks, as far as what becomes of them can be known."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

from .operations import Wish

PATHS = ("/act", "/act-once")
LATER = 3600.0
"""Seconds away: after the end of every run."""

_DOES = {
    **{"well": 56, "slow": 10, "fail": 8, "retry": 6, "overrun": 4, "late": 2},
    **{"permanent": 3, "broken": 5, "flop": 3, "die": 2, "poison": 1},
}
_MOST = {"die": 2, "poison": 1, "late": 2}
"""How many of one client's tasks do this: what ends a process stops everybody, and so does what
is longer than the grace period.
"""
_TIMES = {"fail": (1, 3), "retry": (1, 2), "overrun": (1, 1), "die": (1, 1)}
_SECONDS = {"slow": (0.05, 0.4), "late": (1.5, 2.0)}


class Wisher:
    """Makes the wishes of one client, and remembers which there are."""

    def __init__(self, chance: random.Random, prefix: str) -> None:
        self._chance = chance
        self._prefix = prefix
        self._made = 0
        self._count: defaultdict[str, int] = defaultdict(int)
        self._targets: defaultdict[str, list[str]] = defaultdict(list)

    def wish(self, queue: str, *, alone: bool = True) -> Wish:
        """A task of a queue; one that is not added ``alone`` has neither name nor unique key."""
        chance = self._chance
        does = self._does()
        options: dict[str, Any] = {"queue": queue} | self._when(does, alone) | _retry(does)
        single = alone and options.get("countdown") != LATER
        if single and does in ("well", "slow") and chance.random() < 0.35:
            options |= self._unique()
        elif single and chance.random() < 0.08:
            options["name"] = f"n{chance.randrange(4)}"
        if options.get("countdown") != LATER and queue != "shelf":
            options |= self._lock()
        if "expires" in options:  # which is counted from when it is added
            options["expires"] += options.get("countdown", 0)
        return self._made_of(does, options, follows="unique_key" not in options)

    def follower(self, queue: str) -> Wish:
        """A task that follows others."""
        return self._made_of("well", {"queue": queue}, follows=False)

    def some(self, do: str, most: int) -> list[str]:
        """Labels of tasks that were wished for, of those for which this is meant if there are
        any.
        """
        found = self._targets[do] or self._targets["delete"]
        return self._chance.sample(found, min(most, len(found)))

    def _does(self) -> str:
        does = self._chance.choices(list(_DOES), list(_DOES.values()))[0]
        if self._count[does] >= _MOST.get(does, 1_000_000):
            does = "well"
        self._count[does] += 1
        return does

    def _when(self, does: str, alone: bool) -> dict[str, Any]:
        chance = self._chance
        options: dict[str, Any] = {}
        if chance.random() < 0.1:
            options["priority"] = chance.randint(-2, 2)
        if chance.random() < 0.15:
            options["countdown"] = (
                LATER
                if alone and does in ("well", "slow") and chance.random() < 0.4
                else round(chance.uniform(0.1, 1.5), 2)
            )
        if chance.random() < 0.05:
            options["expires"] = round(chance.uniform(0.2, 1.0), 2)
        if chance.random() < 0.05:
            options["keep_result"] = True
        return options

    def _unique(self) -> dict[str, Any]:
        """A key that others have too, mostly for a while."""
        chance = self._chance
        conflict = chance.choice(["skip", "raise", "replace", "debounce"])
        wait = {"countdown": round(chance.uniform(0.5, 3), 2)} if chance.random() < 0.7 else {}
        return {"unique_key": f"u{chance.randrange(2)}", "on_conflict": conflict, **wait}

    def _lock(self) -> dict[str, Any]:
        number, chosen = self._chance.randrange(3), self._chance.random()
        if chosen < 0.15:
            return {"serial_key": f"s{number}"}
        return (
            {"concurrency_key": f"c{number}", "concurrency_limit": number + 1}
            if chosen < 0.25
            else {}
        )

    def _made_of(self, does: str, options: dict[str, Any], *, follows: bool) -> Wish:
        chance = self._chance
        label = f"{self._prefix}{self._made}"
        self._made += 1
        handlers = ["act", "act_once"] if does in ("die", "poison") else ["act", "act_once", "do"]
        handler = chance.choices(handlers, [60, 25, 15][: len(handlers)])[0]
        then = (
            tuple(self.follower(options["queue"]) for _ in range(chance.randint(1, 2)))
            if follows and chance.random() < 0.12
            else ()
        )
        times, seconds = (
            (chance.randint(*_TIMES[does]) if does in _TIMES else 0),
            chance.uniform(*_SECONDS.get(does, (0, 0))),
        )
        grows = f"{label}g" if follows and handler == "act_once" and chance.random() < 0.25 else ""
        self._remember(label, does, options)
        return Wish(
            label=label,
            handler=handler,
            does=does,
            times=times,
            seconds=round(seconds, 2),
            options=options,
            then=then,
            grows=grows,
        )

    def _remember(self, label: str, does: str, options: dict[str, Any]) -> None:
        self._targets["delete"].append(label)
        if does in ("broken", "permanent", "flop"):
            self._targets["requeue"].append(label)
        if "countdown" in options:
            self._targets["run_now"].append(label)


def _retry(does: str) -> dict[str, Any]:
    if does == "flop":
        return {"retry": {"task_retry_limit": 1, "min_backoff_seconds": 0.05}}
    return {"deadline": 0.4} if does == "overrun" else {}
