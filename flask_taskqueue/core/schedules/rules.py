"""The rules of schedules, each of which finds its next run."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import count

from cronsim import CronSim, CronSimError

from ..errors import InvalidScheduleError

_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = {
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31 or L, and one that the month has",
    "month": "1 to 12 or jan to dec",
    "day-of-week": "0 to 7 or sun to sat",
}
_ANY_START = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Interval:
    """App Engine's interval: every so often, all day or within a window of the day.

    Without ``start`` it counts from whatever instant it is given. With ``start`` there is a grid,
    anchored anew each day at ``start``: up to ``end`` inclusive (the next day's if that is
    earlier), or, without an end, up to the next day's start. Its steps are elapsed time, whatever
    the clocks do.
    """

    every: timedelta
    start: time | None = None
    end: time | None = None

    def next_after(self, after: datetime, zone: tzinfo) -> datetime:
        """Return the next run after an instant, both in UTC."""
        if self.start is None:
            return after + self.every
        yesterday = after.astimezone(zone).date() - _DAY
        windows = (self._window(yesterday + days * _DAY, self.start, zone) for days in count())
        return next(
            run for begins, ends in windows if (run := self._grid_point(begins, after)) <= ends
        )

    def _grid_point(self, begins: datetime, after: datetime) -> datetime:
        return (
            begins if after < begins else begins + ((after - begins) // self.every + 1) * self.every
        )

    def _window(self, day: date, start: time, zone: tzinfo) -> tuple[datetime, datetime]:
        end = start if self.end is None else self.end
        over_midnight = self.end is None or self.end < start
        return _earlier(day, start, zone), _earlier(day + _DAY if over_midnight else day, end, zone)


@dataclass(frozen=True, slots=True)
class SpecificTime:
    """App Engine's specific time: a time on some days of some months.

    The days are ``monthdays``, or the ``weekdays`` (Monday is 0) that are the first to fifth of
    their month, as ``ordinals`` says.
    """

    at: time
    months: frozenset[int]
    monthdays: frozenset[int] = frozenset()
    ordinals: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()

    @property
    def ever_runs(self) -> bool:
        """Whether such a day exists, at least in leap years."""
        return bool(self.weekdays) or any(
            day in self.monthdays for month in self.months for day in _days_of(2000, month)
        )

    def next_after(self, after: datetime, zone: tzinfo) -> datetime:
        """Return the next run after an instant, both in UTC."""
        # If the clocks skip a time, it may be made up for on the following day.
        yesterday = after.astimezone(zone).date() - _DAY
        return next(
            run for day in self._days_from(yesterday) if (run := _later(day, self.at, zone)) > after
        )

    def _days_from(self, first: date) -> Iterator[date]:
        for months in count(first.year * 12 + first.month - 1):
            year, month = months // 12, months % 12 + 1
            if month in self.months:
                days = (date(year, month, day) for day in _days_of(year, month))
                yield from (day for day in days if day >= first and self._includes(day))

    def _includes(self, day: date) -> bool:
        return day.day in self.monthdays or (
            day.weekday() in self.weekdays and (day.day + 6) // 7 in self.ordinals
        )


@dataclass(frozen=True, slots=True)
class Crontab:
    """A crontab line of five fields; cronsim knows when it runs."""

    line: str

    @classmethod
    def parse(cls, text: str) -> Crontab:
        """Return the rule of a line or an alias such as "@daily".

        Raises `InvalidScheduleError` for anything else.
        """
        if text.startswith("@") and text not in _ALIASES:
            raise InvalidScheduleError(
                f"schedule is {text!r}; of the words that begin with @ there are "
                f"{', '.join(_ALIASES)}"
            )
        line = _ALIASES.get(text, " ".join(text.split()))
        fields = line.split()
        if len(fields) != len(_FIELDS):
            raise InvalidScheduleError(
                f"schedule {text!r} has {len(fields)} field{'s' if len(fields) > 1 else ''}; "
                "a crontab line has five:"
                " minute, hour, day of the month, month and day of the week (no seconds), as "
                "in '30 4 * * mon-fri'"
            )
        try:
            first = next(CronSim(line, _ANY_START), None)
        except CronSimError as error:
            raise InvalidScheduleError(
                f"schedule {text!r} is no crontab line: {_explained(error, fields)}"
            ) from error
        if first is None:
            raise InvalidScheduleError(
                f"schedule {text!r} would never run: no day is in its months and on its days"
            )
        return cls(line)

    def next_after(self, after: datetime, zone: tzinfo) -> datetime:
        """Return the next run after an instant, both in UTC."""
        # In an hour that the clocks repeat, cronsim counts from its first pass.
        runs = (run.astimezone(UTC) for run in CronSim(self.line, after.astimezone(zone)))
        return next(run for run in runs if run > after)


def _explained(error: CronSimError, fields: list[str]) -> str:
    for (name, values), given in zip(_FIELDS.items(), fields, strict=True):
        if str(error) == f"Bad {name}":
            return (
                f"its {name} is {given!r}; it must be {values}, or *, or a list, range or step "
                "of these, such as 1,3 or 1-5 or */2"
            )
    return str(error)


def _days_of(year: int, month: int) -> range:
    return range(1, calendar.monthrange(year, month)[1] + 1)


def _earlier(day: date, at: time, zone: tzinfo) -> datetime:
    """Return the instant of an end point of an interval.

    If the clocks repeat the time, it is the first instant; if they skip it, the first minute that
    exists.
    """
    return _instant(datetime.combine(day, at, zone), _MINUTE)


def _later(day: date, at: time, zone: tzinfo) -> datetime:
    """Return the instant of a specific time.

    If the clocks repeat the time, it is the second instant (standard time); if they skip it, the
    instant is whole hours later.
    """
    return _instant(datetime.combine(day, at.replace(fold=1), zone), _HOUR)


def _instant(local: datetime, step: timedelta) -> datetime:
    fold = local.fold
    while (there := local.astimezone(UTC)).astimezone(local.tzinfo).replace(
        tzinfo=None
    ) != local.replace(tzinfo=None):
        local = (local + step).replace(fold=fold)
    return there
