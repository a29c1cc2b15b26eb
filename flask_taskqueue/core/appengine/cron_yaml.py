"""App Engine's cron.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import InvalidUrlError
from ..retry import RetryOptions
from ..settings import checks
from ..settings.queue import MAX_DEADLINE
from ..urls import check_path
from .queue_yaml import retry_parameters, target_reader
from .yaml_reader import Entry, Reader, read_yaml

_DEADLINE = re.compile(r"[0-9]+(?:\.[0-9]*)?s", re.ASCII)
_LONGEST_DESCRIPTION = 499
_MOST_RETRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CronEntry:
    """One job of a cron.yaml; ``line`` is where it begins, ``deadline`` is in seconds.

    ``schedule`` and ``timezone`` are texts as the file has them; the schedules check what they
    mean. ``target`` is a base URL, or None for this app.
    """

    url: str
    schedule: str
    timezone: str = "UTC"
    description: str | None = None
    target: str | None = None
    deadline: float | None = None
    retry: RetryOptions = RetryOptions(task_retry_limit=0)  # noqa: RUF009 - frozen
    line: int


def parse_cron_yaml(text: str, *, file: str, services: Mapping[str, str | None]) -> list[CronEntry]:
    """Return the jobs of a cron.yaml, in the order of the file.

    >>> text = "cron: [{url: /tasks/report, schedule: every 24 hours}]"
    >>> [job] = parse_cron_yaml(text, file="cron.yaml", services={})
    >>> job.url, job.schedule, job.timezone, job.retry.task_retry_limit
    ('/tasks/report', 'every 24 hours', 'UTC', 0)

    The grammar is App Engine's: without ``retry_parameters`` a job that fails is not tried again;
    with them, ``job_retry_limit`` is 5 unless given. A ``target`` is the name of one of the
    ``services``, or a base URL. The same URL may have several schedules.

    Raises `ConfigurationError` naming ``file``, the line and the key.
    """
    job: Mapping[str, Reader] = {**_JOB, "target": target_reader(services)}

    def read(entry: Entry) -> list[CronEntry]:
        return [_job(item, job) for item in entry.items()]

    jobs: list[CronEntry] = read_yaml(text, file=file, readers={"cron": read}).get("cron", [])
    return jobs


def _job(item: Entry, readers: Mapping[str, Reader]) -> CronEntry:
    values = item.read(readers, needed={"url": "/tasks/report", "schedule": "every 24 hours"})
    return CronEntry(
        line=item.line, **{_TAKEN.get(key, key): value for key, value in values.items()}
    )


def _url(entry: Entry) -> str:
    if not entry.scalar().startswith("/"):
        entry.must_be("a path that begins with a slash, such as '/tasks/report'")
    try:
        return check_path(entry.scalar())
    except InvalidUrlError as error:
        entry.refuse(str(error))


def _description(entry: Entry) -> str:
    if len(entry.scalar()) > _LONGEST_DESCRIPTION:
        entry.refuse(f"it has {len(entry.scalar())} characters; it may have {_LONGEST_DESCRIPTION}")
    return entry.scalar()


def _deadline(entry: Entry) -> float:
    if not _DEADLINE.fullmatch(entry.scalar()):
        entry.must_be("seconds with their unit, such as '180s' or '7.5s'")
    return float(checks.duration(0.001, MAX_DEADLINE)(entry.what, entry.scalar()))


def _retry(entry: Entry) -> RetryOptions:
    return RetryOptions(
        **{
            "task_retry_limit": _MOST_RETRIES,
            **retry_parameters(entry, kind="job", most=_MOST_RETRIES),
        }
    )


_JOB: Mapping[str, Reader] = {
    "url": _url,
    "schedule": Entry.text,
    "timezone": Entry.text,
    "description": _description,
    "attempt_deadline": _deadline,
    "retry_parameters": _retry,
}
_TAKEN = {"attempt_deadline": "deadline", "retry_parameters": "retry"}
