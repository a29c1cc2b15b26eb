"""A schedule, and when it fires, decided from what is stored about it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..errors import InvalidScheduleError
from .grammar import parse_app_engine
from .rules import Crontab, Interval, SpecificTime

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
    is_missed = misfire == "skip" and now - due > GRACE
    if one_by_one and schedule.interval is not None:
        firing = _after_the_last(schedule.interval, due, now, last)
        return replace(firing, fires=()) if is_missed else firing
    if one_by_one and last.is_live:
        return Firing((), due if misfire == "all" else schedule.next_after(now))
    if misfire == "all":
        return _each(schedule, due, now, most=1 if one_by_one else _MOST)
    if is_missed:
        due = schedule.next_after(now - GRACE)
        if due > now:
            return Firing((), due)
    return Firing((due,), schedule.next_after(now))


def _after_the_last(interval: timedelta, due: datetime, now: datetime, last: LastRun) -> Firing:
    if last.is_live:
        return Firing((), now + interval)  # it cannot be over before now
    finished = last.finished_at
    if finished is not None and finished <= now + GRACE and finished + interval > now:
        return Firing((), finished + interval)
    return Firing((due,), now + interval)


def _each(schedule: Schedule, due: datetime, now: datetime, *, most: int) -> Firing:
    fires: list[datetime] = []
    while due <= now and len(fires) < most:
        fires.append(due)
        due = schedule.next_after(due)
    return Firing(tuple(fires), due)


_LONGEST = 500
_YEARS = range(1900, 9901)  # far enough from the first and last datetime for sums


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a recurring task runs; made by `Schedule.parse`.

    ``text`` is what was parsed, without blanks around it; ``timezone`` the name of the zone whose
    clock it is read on. Two schedules are equal when both of these are.

    >>> schedule = Schedule.parse("1st,3rd monday of month 15:30", "Europe/Berlin")
    >>> schedule.next_after(datetime(2026, 1, 1, tzinfo=UTC)).isoformat()
    '2026-01-05T14:30:00+00:00'
    """

    text: str
    timezone: str
    _rule: Interval | SpecificTime | Crontab = field(repr=False, compare=False)
    _zone: tzinfo = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str, timezone: str = "UTC") -> Schedule:
        """Return the schedule of a text, in either of two grammars.

        App Engine's, as cron.yaml has it: "every 5 minutes", "every 2 hours from 10:00 to 14:00",
        "every 30 minutes synchronized", "every mon,fri 09:00", "1,15 of month 04:00". Or a crontab
        line of five fields, such as ``*/5 * * * *``, ``0 9 * * mon-fri`` or "@daily". A text whose
        first word has no letter, in which there is neither a time such as 09:00 nor the word "of",
        is a crontab line.

        ``timezone`` is a name of the IANA database. Raises `InvalidScheduleError` for a text in
        neither grammar, a schedule that would never run and an unknown time zone.
        """
        if not isinstance(text, str):
            raise InvalidScheduleError(
                f"schedule is {text!r}; it must be a text such as 'every 5 minutes' or '*/5 "
                "* * * *'"
            )
        if len(text) > _LONGEST:
            raise InvalidScheduleError(
                f"schedule is {len(text)} characters long; at most {_LONGEST} are read"
            )
        stripped = text.strip()
        rule = Crontab.parse(stripped) if _is_crontab(stripped) else parse_app_engine(stripped)
        return cls(stripped, timezone, rule, _zone(timezone))

    @property
    def interval(self) -> timedelta | None:
        """The time from the end of one run to the next; None unless it is a plain interval.

        That is "every N minutes" or hours and nothing more, as in App Engine.
        """
        return (
            self._rule.every
            if isinstance(self._rule, Interval) and self._rule.start is None
            else None
        )

    def next_after(self, after: datetime) -> datetime:
        """Return the next run, always later than ``after``, in UTC.

        For a plain interval give the instant at which the last run ended; for any other schedule it
        does not matter how long a run took. If the clocks skip a time, its run is not lost, and if
        they repeat a time, it fires once: for App Engine's grammar as App Engine did it, for
        crontab lines as Debian's cron does. (A crontab line whose minute or hour begins with ``*``
        follows the clock instead.)

        Raises ``ValueError`` if ``after`` has no time zone, or a year before 1900 or after 9900.
        """
        if after.utcoffset() is None:
            raise ValueError(
                f"after is {after.isoformat()}, which is naive: attach its time zone, as in "
                "datetime.now(UTC)"
            )
        if after.year not in _YEARS:
            raise ValueError(
                f"after is {after.isoformat()}; its year must be from {_YEARS[0]} to {_YEARS[-1]}"
            )
        found = self._rule.next_after(after.astimezone(UTC), self._zone)
        return found.replace(fold=0)  # UTC repeats no time

    def next_runs(self, after: datetime, count: int = 5) -> list[datetime]:
        """Return the next ``count`` runs, as if each ended the moment it began."""
        runs: list[datetime] = []
        for _ in range(count):
            after = self.next_after(after)
            runs.append(after)
        return runs


def _is_crontab(text: str) -> bool:
    words = text.split()
    if not words or any(letter.isalpha() for letter in words[0]):
        return text.startswith("@")
    return ":" not in text and "of" not in words


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # there even without a time zone database
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError) as error:
        raise InvalidScheduleError(
            f"timezone is {name!r}, which is unknown; it must be a name of the IANA "
            "database, such as 'UTC' or 'Europe/Berlin'"
            " (if this machine has no such database: pip install tzdata)"
        ) from error
