"""Declared schedules: those that an application's code and files name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from ..core.errors import InvalidScheduleError, TaskQueueError
from ..core.firing import Misfire, Overlap, check_rules
from ..core.names import check_schedule_name
from ..core.new_task import pack
from ..core.queue_settings import QueueSettings, check_configured
from ..core.schedule import Schedule
from ..core.spec import TaskSpec
from ..store import Definition
from ..web.worker import Worker
from .adding import Adding

logger = logging.getLogger("flask_taskqueue")

_NOT_SCHEDULED = ("name", "eta", "countdown", "transactional")


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A schedule, and the task it adds."""

    name: str
    schedule: Schedule
    spec: TaskSpec
    misfire: Misfire
    overlap: Overlap
    description: str | None

    @classmethod
    def of(
        cls,
        name: str,
        spec: TaskSpec,
        text: str,
        timezone: str,
        *,
        misfire: Misfire = "run_once",
        overlap: Overlap = "skip",
        description: str | None = None,
    ) -> Declared:
        """A schedule of checked parts. Raises `InvalidScheduleError` for what cannot be used."""
        for option in _NOT_SCHEDULED:
            if spec.options.get(option) is not None:
                raise InvalidScheduleError(
                    f"schedule {name!r}: its tasks cannot have {option!r}: a dispatcher adds each, a new one, when the schedule says"
                )
        check_rules(misfire, overlap)
        return cls(
            name=check_schedule_name(name),
            schedule=Schedule.parse(text, timezone),
            spec=spec,
            misfire=misfire,
            overlap=overlap,
            description=description,
        )

    @property
    def target(self) -> str:
        """What its tasks are for."""
        url = self.spec.url
        return url.route.endpoint if isinstance(url, Worker) else str(url)

    def check(self, queues: Mapping[str, QueueSettings]) -> None:
        """See that its queue is configured. Raises `UnknownQueueError`."""
        queue = self.spec.options.get("queue")
        if queue is not None:
            check_configured(queue, queues, f"schedule {self.name!r}")

    def definition(self, adding: Adding) -> Definition:
        """As it is stored, for one application. Raises what ``tasks.add`` raises."""
        return Definition(
            name=self.name,
            text=self.schedule.text,
            timezone=self.schedule.timezone,
            task=pack([adding.new_task(self.spec)]) or "",
            misfire=self.misfire,
            overlap=self.overlap,
            description=self.description,
        )


class Schedules:
    """Schedules by name. They may be declared before and after an application is set up."""

    def __init__(self) -> None:
        self._declared: dict[str, Declared] = {}

    def add(self, one: Declared) -> None:
        """Declare a schedule. The same one may be declared again, as by a factory; another of that name raises `InvalidScheduleError`."""
        known = self._declared.setdefault(one.name, one)
        if (known.schedule, known.target) != (one.schedule, one.target):
            raise InvalidScheduleError(f"there are two schedules named {one.name!r}: give one another name")
        self._declared[one.name] = one

    def check(self, queues: Mapping[str, QueueSettings]) -> None:
        """See that the queues of the schedules declared so far are configured. Raises `UnknownQueueError`."""
        for one in self._declared.values():
            one.check(queues)

    def find(self, adding: Adding, of_the_application: Iterable[Declared] = ()) -> Callable[[Collection[str]], list[Definition]]:
        """What finds the definitions for one application, with those of its own.

        A schedule whose task cannot be made is logged, once, and left out.
        """
        own = {one.name: one for one in of_the_application}
        broken: set[str] = set()

        def find(known: Collection[str]) -> list[Definition]:
            found: list[Definition] = []
            for name, one in {**own, **self._declared}.items():
                if name in known or name in broken:
                    continue
                try:
                    found.append(one.definition(adding))
                except TaskQueueError as error:
                    broken.add(name)
                    logger.error("schedule %s is left out: %s", name, error)
            return found

        return find
