"""Schedules: App Engine's grammar, crontab lines, and what the clocks do to both."""

from __future__ import annotations

import json
import pickle
import zoneinfo
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_taskqueue import InvalidScheduleError
from flask_taskqueue.core.schedules.grammar import parse_app_engine
from flask_taskqueue.core.schedules.schedule import Schedule
from flask_taskqueue.core.times import to_datetime

VECTORS = json.loads((Path(__file__).parent / "vectors/cron.json").read_text())
RUNS = [(one["schedule"], run) for one in VECTORS["valid"] for run in one["runs"]]
INVALID = [one["schedule"] for one in VECTORS["invalid"]]
MICROSECOND = timedelta(microseconds=1)

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",  # the clocks skip and repeat midnight
    "America/St_Johns",  # at 00:01, until 2011
    "Australia/Lord_Howe",  # by half an hour
    "Pacific/Apia",  # skipped all of 2011-12-30
    "Asia/Kathmandu",
]
WEEKDAYS = ["mon", "tuesday", "wed", "thursday", "fri", "saturday", "sun"]
MONTHS = [
    "jan",
    "february",
    "mar",
    "april",
    "may",
    "june",
    "jul",
    "august",
    "sep",
    "october",
    "nov",
    "december",
]


def utc(text: str) -> datetime:
    """An instant of a text in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def listed(words: list[str]) -> st.SearchStrategy[str]:
    """Some of the words, with commas between them."""
    return st.lists(st.sampled_from(words), min_size=1, max_size=3).map(",".join)


def joined(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """The parts, with a blank between each two."""
    return st.tuples(*parts).map(" ".join)


instants = st.integers(0, 150 * 365 * 86_400 * 1_000_000).map(to_datetime)
gaps = st.timedeltas(timedelta(), timedelta(days=400))
zones = st.sampled_from(ZONES)
times = st.times().map("{:%H:%M}".format)
ordinals = listed(["1st", "second", "3rd", "fourth", "5th"])
months = st.sampled_from(
    ["month", "quarter", "3rd month of quarter", "1st,second month of quarter"]
) | listed(MONTHS)
plain = joined(
    st.just("every"),
    st.integers(1, 99_999).map(str),
    st.sampled_from(["hours", "minutes", "mins", "seconds"]),
)
windowed = joined(plain, st.just("from"), times, st.just("to"), times)
divisors = st.sampled_from(
    ["10 seconds", "1 mins", "5 minutes", "90 minutes", "1 hours", "8 hours", "24 hours"]
)
synchronized = joined(st.just("every"), divisors, st.just("synchronized"))
days = joined(st.just("every") | ordinals, st.just("day") | listed(WEEKDAYS))
monthdays = joined(listed([str(day) for day in range(1, 29)]), st.just("of"), months)
specific = joined(days | joined(days, st.just("of"), months) | monthdays, times)
gridded = windowed | synchronized | specific
crontabs = st.sampled_from(
    [
        "*/5 * * * *",
        "30 2 * * *",
        "0,30 1-3 * * sun",
        "15 */6 * * *",
        "0 0 29 2 *",
        "0 0 13 * 5",
        "0 9 L * *",
        "@hourly",
        "@weekly",
    ]
)
crontab_zones = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"])
exact = st.tuples(gridded, zones) | st.tuples(crontabs, crontab_zones)


@pytest.mark.parametrize(
    ("text", "run"), RUNS, ids=lambda value: str(value if isinstance(value, str) else value["tz"])
)
def test_runs_are_app_engines(text: str, run: dict[str, Any]) -> None:
    """The next runs are those that App Engine's own code computed, in UTC."""
    schedule = Schedule.parse(text, run["tz"] or "UTC")
    runs = schedule.next_runs(utc(run["start_utc"]), len(run["next_utc"]))
    assert [f"{run:%Y-%m-%dT%H:%M:%S}" for run in runs] == run["next_utc"]
    assert {run.tzinfo for run in runs} == {UTC}


@pytest.mark.parametrize("text", INVALID)
def test_what_app_engine_refuses_is_refused(text: str) -> None:
    """Its grammar reads nothing that App Engine's did not."""
    with pytest.raises(InvalidScheduleError):
        parse_app_engine(text)


@pytest.mark.parametrize("text", [text for text in INVALID if text != "*/5 * * * *"])
def test_what_app_engine_refuses_is_no_crontab_line_either(text: str) -> None:
    """Of the texts that App Engine refused only the crontab line is a schedule here."""
    with pytest.raises(InvalidScheduleError):
        Schedule.parse(text)


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        (
            "first sunday of quarter 00:00",
            "2026-02-01T00:00",
            ["2026-04-05T00:00", "2026-07-05T00:00", "2026-10-04T00:00"],
        ),
        (
            "1 of 2nd,third month of quarter 8:00",
            "2026-03-15T00:00",
            ["2026-05-01T08:00", "2026-06-01T08:00", "2026-08-01T08:00"],
        ),
        (
            "2nd day 23:59",
            "2026-01-02T23:59",
            ["2026-02-02T23:59", "2026-03-02T23:59", "2026-04-02T23:59"],
        ),
        (
            "31 of feb,apr,may 00:00",
            "2026-01-01T00:00",
            ["2026-05-31T00:00", "2027-05-31T00:00", "2028-05-31T00:00"],
        ),
        (
            "5th monday of feb 00:00",
            "2026-01-01T00:00",
            ["2044-02-29T00:00", "2072-02-29T00:00", "2112-02-29T00:00"],
        ),
        (
            " every\tmon , tue\n9:05 ",
            "2026-01-04T00:00",
            ["2026-01-05T09:05", "2026-01-06T09:05", "2026-01-12T09:05"],
        ),
        (
            "every 90 mins from 22:00 to 01:00",
            "2026-01-01T00:30",
            ["2026-01-01T01:00", "2026-01-01T22:00", "2026-01-01T23:30"],
        ),
        (
            "every 1 hours from 10:30 to 10:30",
            "2026-01-01T10:30",
            ["2026-01-02T10:30", "2026-01-03T10:30", "2026-01-04T10:30"],
        ),
        (
            "every 30 hours from 9:00 to 17:00",
            "2026-01-01T09:30",
            ["2026-01-02T09:00", "2026-01-03T09:00", "2026-01-04T09:00"],
        ),
        (
            "every 24 hours synchronized",
            "2026-01-01T00:00",
            ["2026-01-02T00:00", "2026-01-03T00:00", "2026-01-04T00:00"],
        ),
    ],
)
def test_the_grammar_beyond_the_vectors(text: str, after: str, expected: list[str]) -> None:
    """Quarters, days of a month, windows over midnight and blanks between words mean what
    cron.yaml's did.
    """
    assert Schedule.parse(text).next_runs(utc(after), 3) == [utc(item) for item in expected]


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        pytest.param(
            "every day 02:30",
            "2026-10-24T22:00",
            "2026-10-25T01:30",
            id="a repeated time is standard time",
        ),
        pytest.param(
            "every day 02:30",
            "2026-10-25T01:30",
            "2026-10-26T01:30",
            id="a repeated time runs once",
        ),
        pytest.param(
            "every day 02:30",
            "2026-03-28T12:00",
            "2026-03-29T01:30",
            id="a skipped time is an hour later",
        ),
        pytest.param(
            "every 1 hours from 02:30 to 04:30",
            "2026-10-24T22:00",
            "2026-10-25T00:30",
            id="a repeated start is the earlier",
        ),
        pytest.param(
            "every 1 hours from 00:30 to 02:30",
            "2026-10-25T00:30",
            "2026-10-25T23:30",
            id="so is an end",
        ),
        pytest.param(
            "every 1 hours from 02:15 to 05:00",
            "2026-03-28T12:00",
            "2026-03-29T01:00",
            id="a skipped start is the next minute",
        ),
        pytest.param(
            "every 10 mins from 02:15 to 02:45",
            "2026-03-28T12:00",
            "2026-03-29T01:00",
            id="a skipped window is one run",
        ),
        pytest.param(
            "every 10 mins from 02:15 to 02:45",
            "2026-03-29T01:00",
            "2026-03-30T00:15",
            id="and no more than one",
        ),
        pytest.param(
            "every 6 hours synchronized",
            "2026-03-29T00:00",
            "2026-03-29T05:00",
            id="a grid's steps are elapsed time",
        ),
    ],
)
def test_app_engines_grammar_when_the_clocks_change(text: str, after: str, expected: str) -> None:
    """In Berlin the clocks skip 02:00 to 03:00 on 2026-03-29 and repeat it on 2026-10-25."""
    assert Schedule.parse(text, "Europe/Berlin").next_after(utc(after)) == utc(expected)


@pytest.mark.parametrize("text", ["every 5 minutes synchronized", "*/5 * * * *"])
@pytest.mark.parametrize("day", ["2026-04-04T12:00", "2026-09-05T12:00"])
def test_an_even_grid_has_no_hole_at_a_change(text: str, day: str) -> None:
    """In Santiago the clocks change at midnight; every five minutes is still every five minutes."""
    runs = Schedule.parse(text, "America/Santiago").next_runs(utc(day), 400)
    assert {later - sooner for sooner, later in pairwise(runs)} == {timedelta(minutes=5)}


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("*/5 * * * *", "2026-01-01T00:02:30", ["2026-01-01T00:05", "2026-01-01T00:10"]),
        ("  0  9 * *   MON-fri ", "2026-01-02T09:00", ["2026-01-05T09:00", "2026-01-06T09:00"]),
        ("0 0 13 * 5", "2026-01-01T00:00", ["2026-01-02T00:00", "2026-01-09T00:00"]),
        ("0 0 29 2 *", "2026-01-01T00:00", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("0 0 * 2 mon#5", "2026-01-01T00:00", ["2044-02-29T00:00", "2072-02-29T00:00"]),
        ("1 2 3 4 5", "2026-01-01T00:00", ["2026-04-03T02:01", "2026-04-10T02:01"]),
        ("@hourly", "2026-01-01T00:00", ["2026-01-01T01:00", "2026-01-01T02:00"]),
        ("@daily", "2026-01-01T00:00", ["2026-01-02T00:00", "2026-01-03T00:00"]),
        ("@midnight", "2026-01-01T00:00", ["2026-01-02T00:00", "2026-01-03T00:00"]),
        ("@weekly", "2026-01-01T00:00", ["2026-01-04T00:00", "2026-01-11T00:00"]),
        ("@monthly", "2026-01-01T00:00", ["2026-02-01T00:00", "2026-03-01T00:00"]),
        ("@yearly", "2026-01-01T00:00", ["2027-01-01T00:00", "2028-01-01T00:00"]),
        ("@annually", "2026-01-01T00:00", ["2027-01-01T00:00", "2028-01-01T00:00"]),
    ],
)
def test_crontab_lines(text: str, after: str, expected: list[str]) -> None:
    """Five fields or an alias, names of days in either case, either day field when both are
    given.
    """
    assert Schedule.parse(text).next_runs(utc(after), 2) == [utc(item) for item in expected]


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        pytest.param(
            "30 2 * * *",
            "2026-03-28T12:00",
            ["2026-03-29T01:00", "2026-03-30T00:30"],
            id="a skipped time is not lost",
        ),
        pytest.param(
            "30 2 * * *",
            "2026-10-24T12:00",
            ["2026-10-25T00:30", "2026-10-26T01:30"],
            id="a repeated time runs once",
        ),
        pytest.param(
            "30 2 * * *",
            "2026-10-25T01:15",
            ["2026-10-26T01:30"],
            id="also when asked in its second pass",
        ),
        pytest.param(
            "0 * * * *",
            "2026-10-24T23:30",
            ["2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00"],
            id="hourly is hourly",
        ),
        pytest.param(
            "0 * * * *",
            "2026-03-28T23:30",
            ["2026-03-29T00:00", "2026-03-29T01:00"],
            id="in spring too",
        ),
        pytest.param(
            "0 9 * * *", "2026-03-28T12:00", ["2026-03-29T07:00"], id="it is the zone's clock"
        ),
    ],
)
def test_crontab_lines_when_the_clocks_change(text: str, after: str, expected: list[str]) -> None:
    """Daily lines run once on each day, lines with a wildcard follow the clock, as Debian's
    cron has it.
    """
    assert Schedule.parse(text, "Europe/Berlin").next_runs(utc(after), len(expected)) == [
        utc(item) for item in expected
    ]


@given(exact | st.tuples(plain, zones), instants)
def test_the_next_run_is_later(schedule: tuple[str, str], after: datetime) -> None:
    """No run is at or before the instant that was asked about, and each is in UTC."""
    run = Schedule.parse(*schedule).next_after(after)
    assert run > after
    assert run.tzinfo is UTC


@given(exact | st.tuples(plain, zones), instants, gaps)
def test_asking_later_gives_no_earlier_run(
    schedule: tuple[str, str], after: datetime, gap: timedelta
) -> None:
    """Runs come in the order of the instants they are asked for."""
    found = Schedule.parse(*schedule)
    assert found.next_after(after) <= found.next_after(after + gap)


@given(exact, instants)
def test_a_run_is_found_from_just_before_it(schedule: tuple[str, str], after: datetime) -> None:
    """Runs do not depend on where the search began, unless the schedule is a plain interval."""
    found = Schedule.parse(*schedule)
    run = found.next_after(after)
    assert found.next_after(run - MICROSECOND) == run
    assert found.next_after(max(after, run - timedelta(hours=3))) == run


@given(specific, zones, instants)
def test_a_specific_time_is_kept_on_the_zones_clock(text: str, zone: str, after: datetime) -> None:
    """The clock shows the time asked for; whole hours later only where that time does not exist."""
    local = Schedule.parse(text, zone).next_after(after).astimezone(zoneinfo.ZoneInfo(zone))
    hour, minute = map(int, text.rpartition(" ")[2].split(":"))
    assert (local.second, local.minute) == (0, minute)
    if local.hour != hour:
        skipped = (
            local.replace(hour=hour, fold=0)
            if local.hour > hour
            else (local - timedelta(days=1)).replace(hour=hour)
        )
        assert skipped.astimezone(UTC).astimezone(local.tzinfo).replace(
            tzinfo=None
        ) != skipped.replace(tzinfo=None)


@given(listed(WEEKDAYS), listed(MONTHS), times, instants)
def test_a_specific_time_is_on_the_days_asked_for(
    weekdays: str, months: str, at: str, after: datetime
) -> None:
    """Both the weekday and the month are among those named."""
    run = Schedule.parse(f"every {weekdays} of {months} {at}").next_after(after)
    assert WEEKDAYS[run.weekday()] in weekdays.split(",")
    assert MONTHS[run.month - 1] in months.split(",")


def test_an_interval_may_be_of_seconds() -> None:
    """It counts from the end of the last run, or from midnight."""
    after = datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC)
    plain = Schedule.parse("every 10 seconds", "UTC")
    assert plain.next_after(after) == after + timedelta(seconds=10)
    grid = Schedule.parse("every 10 seconds synchronized", "UTC")
    assert [run.second for run in grid.next_runs(after, 3)] == [10, 20, 30]
    with pytest.raises(InvalidScheduleError, match="does not divide 24 hours"):
        Schedule.parse("every 7 seconds synchronized", "UTC")


@given(zones, times, times, st.integers(1, 600), instants)
def test_a_window_keeps_its_runs(
    zone: str, start: str, end: str, minutes: int, after: datetime
) -> None:
    """Each run is at the window's start, or a whole number of periods after the run before it."""
    schedule = Schedule.parse(f"every {minutes} minutes from {start} to {end}", zone)
    starts = Schedule.parse(f"every 24 hours from {start} to {start}", zone)
    first, second = schedule.next_runs(after, 2)
    assert second - first == timedelta(minutes=minutes) or second == starts.next_after(first)


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("every 5 minutes", timedelta(minutes=5)),
        ("every 12 hours", timedelta(hours=12)),
        ("every 5 minutes synchronized", None),
        ("every 2 hours from 00:00 to 23:59", None),
        ("every day 00:00", None),
        ("*/5 * * * *", None),
    ],
)
def test_a_plain_interval_is_known_as_one(text: str, interval: timedelta | None) -> None:
    """What counts from the end of the last run is told from what is on the clock."""
    schedule = Schedule.parse(text)
    assert schedule.interval == interval


def test_a_schedule_is_a_value() -> None:
    """It shows what it was made of, equals its like, cannot be changed and survives a pickle."""
    schedule = Schedule.parse(" every day 09:00\n", "Europe/Berlin")
    assert repr(schedule) == "Schedule(text='every day 09:00', timezone='Europe/Berlin')"
    assert {schedule} == {Schedule.parse("every day 09:00", "Europe/Berlin")}
    assert schedule != Schedule.parse("every day 09:00")
    assert pickle.loads(pickle.dumps(schedule)).next_after(utc("2026-01-01T00:00")) == utc(
        "2026-01-01T08:00"
    )
    with pytest.raises(FrozenInstanceError):
        schedule.text = "every day 10:00"  # type: ignore[misc]


def test_any_time_zone_can_ask() -> None:
    """An instant is an instant, whichever zone it is given in; the answer is in UTC."""
    tokyo = datetime(2026, 1, 1, 9, tzinfo=zoneinfo.ZoneInfo("Asia/Tokyo"))
    assert (
        Schedule.parse("every 5 minutes").next_after(tokyo).isoformat()
        == "2026-01-01T00:05:00+00:00"
    )
    assert Schedule.parse("0 1 * * *").next_runs(tokyo) == [
        datetime(2026, 1, day, 1, tzinfo=UTC) for day in range(1, 6)
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "schedule is empty; it must be a text such as 'every 5 minutes'"),
        (" \n", "schedule is empty"),
        (None, "schedule is None; it must be a text"),
        (5, "schedule is 5; it must be a text"),
        (b"every 5 minutes", "it must be a text"),
        ("every 5 minutes" + " " * 500, "schedule is 515 characters long; at most 500"),
        (
            "every hour",
            "has 'hour' at character 7 where 'day', a weekday such as 'monday' or a number "
            "is wanted",
        ),
        (
            "every 1 hour",
            "has 'hour' at character 9 where 'hours', 'minutes', 'mins' or 'seconds' is wanted",
        ),
        ("every 0 minutes", "has '0' at character 7 where a number from 1 to 99999 is wanted"),
        ("every 1 minutes from 10:00", "ends where 'to' is wanted"),
        (
            "every 1 minutes from 10:00 to 24:00",
            "has '24:00' at character 31 where a time from 00:00 to 23:59",
        ),
        ("every 7 hours synchronized", "a period of 7:00:00, which does not divide 24 hours"),
        ("every day 9:00 sharp", "has 'sharp' at character 16 where nothing more is wanted"),
        ("Every day 9:00", "where 'every', .* is wanted; words are in lower case"),
        ("every day of 9:00", "where 'month', 'quarter' or a month such as 'jan' is wanted"),
        (
            "1st monday of 4th month of quarter 9:00",
            "has '4th' at character 15 where '1st', '2nd' or '3rd'",
        ),
        (
            "6th monday 9:00",
            "has '6th' at character 1 where a day of the month from 1 to 31, or an ordinal "
            "from 1st to 5th",
        ),
        ("1 month 9:00", "has 'month' at character 3 where 'of' is wanted"),
        ("1, of month 9:00", "has 'of' at character 4"),
        ("30,31 of feb 00:00", "would never run: none of its months has 30 days"),
        ("monday 09:00", "has 'monday' at character 1 where 'every', an ordinal"),
        ("0 0 * * * *", "has 6 fields; a crontab line has five: .*no seconds"),
        ("* * * *", "has 4 fields; a crontab line has five"),
        ("5", "has 1 field; a crontab line has five"),
        ("61 * * * *", "its minute is '61'; it must be 0 to 59"),
        ("0 24 * * *", "its hour is '24'; it must be 0 to 23"),
        ("0 0 30 2 *", "its day-of-month is '30'; .* one that the month has"),
        ("0 0 1 13 *", "its month is '13'; it must be 1 to 12 or jan to dec"),
        ("0 0 * * fun", "its day-of-week is 'fun'; it must be 0 to 7 or sun to sat"),
        ("*/0 * * * *", "its minute is '\\*/0'"),
        ("0 0 */31 2 mon#5", "is no crontab line|would never run"),
        ("0 0 LW * */6", "would never run: no day is in its months and on its days"),
        (
            "@reboot",
            "schedule is '@reboot'; of the words that begin with @ there are @hourly, @daily",
        ),
        ("@daily 5", "of the words that begin with @"),
    ],
)
def test_a_bad_text_is_refused_with_a_sentence(text: Any, sentence: str) -> None:
    """The error says what was found where, and what was wanted there."""
    with pytest.raises(InvalidScheduleError, match=sentence):
        Schedule.parse(text)


@pytest.mark.parametrize(
    "zone",
    [
        "Mars/Base",
        "",
        "Europe",
        "../etc/passwd",
        "/etc/localtime",
        "a\0b",
        "x" * 5000,
        "\udc80",
        None,
        5,
        [],
    ],
)
def test_an_unknown_time_zone_is_refused(zone: Any) -> None:
    """Whatever is not in the database gives one kind of error, which says how to install one."""
    with pytest.raises(
        InvalidScheduleError,
        match=r"(?s)timezone is .* such as 'UTC' or 'Europe/Berlin'.*pip install tzdata",
    ):
        Schedule.parse("every 5 minutes", zone)


def test_utc_needs_no_time_zone_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default works on a machine that knows no zone at all."""

    def no_database(name: str) -> None:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    monkeypatch.setattr("flask_taskqueue.core.schedules.schedule.ZoneInfo", no_database)
    assert Schedule.parse("every day 09:00").next_after(utc("2026-01-01T00:00")) == utc(
        "2026-01-01T09:00"
    )
    with pytest.raises(InvalidScheduleError, match="tzdata"):
        Schedule.parse("every day 09:00", "Europe/Berlin")


@pytest.mark.parametrize(
    ("after", "sentence"),
    [
        (datetime(2026, 1, 1), "after is 2026-01-01T00:00:00, which is naive"),  # noqa: DTZ001
        (datetime(1899, 12, 31, tzinfo=UTC), "its year must be from 1900 to 9900"),
        (datetime.max.replace(tzinfo=UTC), "its year must be from 1900 to 9900"),
    ],
)
@pytest.mark.parametrize("text", ["every 99999 hours", "every day 09:00", "0 9 * * *"])
def test_an_instant_that_is_none_is_refused(text: str, after: datetime, sentence: str) -> None:
    """A naive datetime means nothing, and near the ends of the calendar there is no next run."""
    with pytest.raises(ValueError, match=sentence):
        Schedule.parse(text).next_after(after)


@pytest.mark.parametrize("year", [1900, 9900])
@pytest.mark.parametrize(
    "text",
    [
        "every 99999 hours",
        "5th monday of feb 09:00",
        "0 9 * feb mon#5",
        "every 24 hours synchronized",
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_there_is_a_run_at_either_end_of_the_calendar(text: str, zone: str, year: int) -> None:
    """Within the years that may be asked for, every schedule has a next run."""
    after = datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert Schedule.parse(text, zone).next_after(after) > after


@given(
    st.text(max_size=40)
    | st.text("every12dayof*,/-#L:0 @mins", max_size=30)
    | st.lists(st.text("0123456789*,-/LW#", max_size=5)).map(" ".join)
)
def test_any_text_is_a_schedule_or_refused(text: str) -> None:
    """There is no text that gives another error, or none and then no run."""
    try:
        schedule = Schedule.parse(text)
    except InvalidScheduleError:
        return
    assert schedule.next_after(utc("2026-01-01T00:00")) > utc("2026-01-01T00:00")
