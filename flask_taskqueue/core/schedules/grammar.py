"""App Engine's schedule grammar, that of cron.yaml, and intervals of seconds.

::

    schedule  = specific | interval
    specific  = ( days ["of" months] | NUMBER {"," NUMBER} "of" months ) TIME
    days      = ("every" | ordinals) ("day" | weekdays)
    months    = "month" | "quarter" | ordinals "month" "of" "quarter" | month {"," month}
    interval  = "every" NUMBER ("hours" | "minutes" | "mins" | "seconds")
                ["from" TIME "to" TIME | "synchronized"]

Words are in lower case, separated by blanks or commas. "2nd day" is the second of the month, "of
quarter" means January, April, July and October, "synchronized" a grid from midnight, so that its
period must divide 24 hours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import time, timedelta
from typing import NoReturn, TypeVar

from ..errors import InvalidScheduleError
from .rules import Interval, SpecificTime

_T = TypeVar("_T")
_WORD = re.compile(r",|[^\s,]+")
_NUMBER = re.compile(r"[0-9]{1,5}", re.ASCII)
_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", re.ASCII)
_EXAMPLES = "'every 5 minutes', 'every mon,fri 09:00' or '1st monday of sep,oct 17:00'"


def _table(words: str, first: int) -> dict[str, int]:
    """Return each name's number; blanks separate names, bars the spellings of one."""
    return {
        word: number
        for number, spellings in enumerate(words.split(), first)
        for word in spellings.split("|")
    }


_ORDINALS = _table("1st|first 2nd|second 3rd|third 4th|fourth 5th|fifth", 1)
_WEEKDAYS = _table(
    "mon|monday tue|tuesday wed|wednesday thu|thursday fri|friday sat|saturday sun|sunday", 0
)
_MONTHS = _table(
    "jan|january feb|february mar|march apr|april may jun|june jul|july aug|august "
    "sep|september oct|october nov|november dec|december",
    1,
)
_UNITS = {
    "hours": timedelta(hours=1),
    "minutes": timedelta(minutes=1),
    "mins": timedelta(minutes=1),
    "seconds": timedelta(seconds=1),
}
_DAY = timedelta(days=1)
_NONE: frozenset[int] = frozenset()
_EVERY_MONTH = frozenset(range(1, 13))
_EVERY_MONTHDAY = frozenset(range(1, 32))
_EVERY_ORDINAL = frozenset(range(1, 6))


def parse_app_engine(text: str) -> Interval | SpecificTime:
    """Return the rule of a text.

    >>> parse_app_engine("every 100 minutes").every
    datetime.timedelta(seconds=6000)

    Raises `InvalidScheduleError`, which says what was found, where, and what was expected.
    """
    return _Parser(text).schedule()


class _Parser:
    """A recursive descent parser, with a method for each rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._words = [(match[0], match.start() + 1) for match in _WORD.finditer(text)]
        self._read = 0

    def schedule(self) -> Interval | SpecificTime:
        is_interval = self._word() == "every" and self._word(1)[:1].isdecimal()
        rule = self._interval() if is_interval else self._specific()
        if self._word():
            self._refuse("nothing more")
        return rule

    def _interval(self) -> Interval:
        self._keyword("every")
        number = self._number("a number from 1 to 99999", 99_999)
        every = number * self._one_of(_UNITS, "'hours', 'minutes', 'mins' or 'seconds'")
        if self._accept("synchronized"):
            if _DAY % every:
                raise InvalidScheduleError(
                    f"schedule {self._text!r} is synchronized with a period of {every}, "
                    "which does not divide 24 hours;"
                    " one that does, such as 30 minutes or 6 hours, is wanted"
                )
            return Interval(every, time())
        if self._accept("from"):
            start = self._time()
            self._keyword("to")
            return Interval(every, start, self._time())
        return Interval(every)

    def _specific(self) -> SpecificTime:
        word = self._word()
        if word[:1].isdecimal() and word not in _ORDINALS:
            days = (
                self._list(
                    lambda: self._number(
                        "a day of the month from 1 to 31, or an ordinal from 1st to 5th,", 31
                    )
                ),
                _NONE,
                _NONE,
            )
            self._keyword("of")
            months = self._months()
        else:
            days = self._ordinal_days()
            months = self._months() if self._accept("of") else _EVERY_MONTH
        rule = SpecificTime(self._time(), months, *days)
        if not rule.ever_runs:
            raise InvalidScheduleError(
                f"schedule {self._text!r} would never run: none of its months has "
                f"{min(rule.monthdays)} days; '28 of feb 00:00' would"
            )
        return rule

    def _ordinal_days(self) -> tuple[frozenset[int], frozenset[int], frozenset[int]]:
        """Return the days of the month, the ordinals and the weekdays."""
        is_every = self._accept("every")
        ordinals = (
            _EVERY_ORDINAL
            if is_every
            else self._list_of(_ORDINALS, "'every', an ordinal such as '1st' or a day of the month")
        )
        if self._accept("day"):
            return (_EVERY_MONTHDAY if is_every else ordinals), _NONE, _NONE
        wanted = (
            "'day', a weekday such as 'monday' or a number"
            if is_every
            else "'day' or a weekday such as 'monday'"
        )
        return _NONE, ordinals, self._list_of(_WEEKDAYS, wanted)

    def _months(self) -> frozenset[int]:
        if self._accept("month"):
            return _EVERY_MONTH
        if self._accept("quarter"):
            return frozenset((1, 4, 7, 10))
        if self._word() not in _ORDINALS:
            return self._list_of(_MONTHS, "'month', 'quarter' or a month such as 'jan'")
        first_three = {word: number for word, number in _ORDINALS.items() if number <= 3}
        offsets = self._list_of(first_three, "'1st', '2nd' or '3rd'")
        for word in ("month", "of", "quarter"):
            self._keyword(word)
        return frozenset(offset + month for offset in offsets for month in (0, 3, 6, 9))

    def _time(self) -> time:
        match = _TIME.fullmatch(self._word()) or self._refuse("a time from 00:00 to 23:59")
        self._read += 1
        return time(int(match[1]), int(match[2]))

    def _number(self, wanted: str, highest: int) -> int:
        word = self._word()
        if not _NUMBER.fullmatch(word) or not 1 <= int(word) <= highest:
            self._refuse(wanted)
        self._read += 1
        return int(word)

    def _list_of(self, table: Mapping[str, int], wanted: str) -> frozenset[int]:
        return self._list(lambda: self._one_of(table, wanted))

    def _list(self, read_one: Callable[[], int]) -> frozenset[int]:
        found = {read_one()}
        while self._accept(","):
            found.add(read_one())
        return frozenset(found)

    def _one_of(self, table: Mapping[str, _T], wanted: str) -> _T:
        if self._word() not in table:
            self._refuse(wanted)
        self._read += 1
        return table[self._words[self._read - 1][0]]

    def _keyword(self, word: str) -> None:
        if not self._accept(word):
            self._refuse(repr(word))

    def _accept(self, word: str) -> bool:
        """Read this word if it comes next."""
        accepted = self._word() == word
        self._read += accepted
        return accepted

    def _word(self, ahead: int = 0) -> str:
        """Return the next word, or one further ahead; empty at the end."""
        place = self._read + ahead
        return self._words[place][0] if place < len(self._words) else ""

    def _refuse(self, wanted: str) -> NoReturn:
        """Raise an error that says what is wrong with the next word."""
        if not self._words:
            raise InvalidScheduleError(
                f"schedule is empty; it must be a text such as {_EXAMPLES}, or a crontab "
                "line such as '*/5 * * * *'"
            )
        if word := self._word():
            place = f"has {word!r} at character {self._words[self._read][1]}"
            hint = "; words are in lower case" if word != word.lower() else ""
        else:
            place, hint = "ends", ""
        raise InvalidScheduleError(
            f"schedule {self._text!r} {place} where {wanted} is wanted{hint}, as in {_EXAMPLES}"
        )
