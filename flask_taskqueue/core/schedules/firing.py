"""When a schedule fires, decided from what is stored about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, get_args

from ..errors import InvalidScheduleError
from .schedule import Schedule

Misfire = Literal["run_once", "skip", "all"]
Overlap = Literal["skip", "allow"]

GRACE = timedelta(seconds=60)
"""The longest delay with which a fire time can be handled without counting as missed."""
_MOST = 100


@dataclass(frozen=True, slots=True)
class LastRun:
    """The tasks that a schedule has added, by hand too; they may have been forgotten since.

    ``is_live`` says that one is running or about to run for the first time, ``has_failed`` that one
    has failed and waits to be tried again; ``finished_at`` is when the last one ended.
    """

    is_live: bool = False
    has_failed: bool = False
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Firing:
    """The decision for now: add a task for each of the fire times, and look again at ``next_at``.

    With ``replaces`` the tasks take the place of runs that have failed.
    """

    fires: tuple[datetime, ...]
    next_at: datetime
    replaces: bool = False


def check_rules(misfire: str, overlap: str) -> None:
    """Check the two rules. Raises `InvalidScheduleError` for one that does not exist."""
    for name, value, choices in (
        ("misfire", misfire, get_args(Misfire)),
        ("overlap", overlap, get_args(Overlap)),
    ):
        if value not in choices:
            raise InvalidScheduleError(
                f"{name} is {value!r}; it must be one of {', '.join(map(repr, choices))}"
            )


def decide(
    schedule: Schedule,
    *,
    due: datetime,
    now: datetime,
    misfire: Misfire,
    overlap: Overlap,
    last: LastRun,
) -> Firing:
    """Return what to do at ``now``, when the fire time ``due`` has come.

    A plain interval counts from the end of the last run, as App Engine's cron does, unless runs may
    overlap. Fire times that were missed by more than `GRACE`, because no dispatcher ran, give one
    run together, none, or one each, as ``misfire`` says. While the last run has not ended, fire
    times are left out, but a run that has failed and waits to be tried again is replaced; with
    ``misfire="all"`` the fire times wait for it instead.
    """
    one_by_one = overlap == "skip"
    if one_by_one and last.has_failed:
        waits = last.is_live or misfire == "all"
        firing = decide(
            schedule,
            due=due,
            now=now,
            misfire=misfire,
            overlap=overlap,
            last=LastRun(waits, False, last.finished_at),
        )
        return replace(firing, replaces=bool(firing.fires))
    if one_by_one and schedule.interval is not None:
        return _after_the_last(schedule.interval, due, now, last)
    if one_by_one and last.is_live:
        return Firing((), due if misfire == "all" else schedule.next_after(now))
    if misfire == "all":
        return _each(schedule, due, now, most=1 if one_by_one else _MOST)
    if misfire == "skip" and now - due > GRACE:
        due = schedule.next_after(now - GRACE)
        if due > now:
            return Firing((), due)
    return Firing((due,), schedule.next_after(now))


def _after_the_last(interval: timedelta, due: datetime, now: datetime, last: LastRun) -> Firing:
    if last.is_live:
        return Firing((), now + interval)  # it cannot be over before now
    if last.finished_at is not None and last.finished_at + interval > now:
        return Firing((), last.finished_at + interval)
    return Firing((due,), now + interval)


def _each(schedule: Schedule, due: datetime, now: datetime, *, most: int) -> Firing:
    fires: list[datetime] = []
    while due <= now and len(fires) < most:
        fires.append(due)
        due = schedule.next_after(due)
    return Firing(tuple(fires), due)
