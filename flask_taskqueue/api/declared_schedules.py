"""The schedules that an app declares in its code, and how they are stored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from ..core.errors import (
    InvalidScheduleError,
    InvalidUrlError,
    TaskQueueError,
    TransientError,
)
from ..core.names import check_schedule_name
from ..core.schedules.schedule import Misfire, Overlap, Schedule, check_rules
from ..core.settings.queue import QueueSettings, check_configured
from ..core.tasks.declared import check_values
from ..core.tasks.packed import pack
from ..core.tasks.spec import TaskSpec
from ..process.logs import get_logger
from ..runtime import FindQueue, MakeTask
from ..store import ScheduleDefinition
from ..web.worker import Worker

_logger = get_logger()

_NOT_SCHEDULED = ("name", "eta", "countdown", "transactional")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredSchedule:
    """A schedule and the task it adds."""

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
    ) -> DeclaredSchedule:
        """Check the parts of a schedule and make it.

        Raises `InvalidScheduleError` for a part that cannot be used, and what ``tasks.add`` raises
        for something that is neither a URL nor a handler, and for an option that no task can have.
        """
        for option in _NOT_SCHEDULED:
            if spec.options.get(option) is not None:
                raise InvalidScheduleError(
                    f"schedule {name!r}: its tasks cannot have {option!r}: a dispatcher adds "
                    "each, a new one, when the schedule says"
                )
        if not isinstance(spec.url, str | Worker | None):
            raise InvalidUrlError(
                f"schedule {name!r} is for {spec.url!r}, and it takes a URL, a worker, a task "
                "function or what the spec() of these returns"
            )
        check_values(spec.options)
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
        """The worker or URL that its tasks call."""
        url = self.spec.url
        return url.route.endpoint if isinstance(url, Worker) else str(url)

    def check(self, queues: Mapping[str, QueueSettings]) -> None:
        """Check that its queue is configured. Raises `UnknownQueueError`."""
        queue = self.spec.options.get("queue")
        if queue is not None:
            check_configured(queue, queues, f"schedule {self.name!r}")

    def definition(
        self, new_task: MakeTask, find_queue: FindQueue | None = None
    ) -> ScheduleDefinition:
        """Return the definition to store for one app. Raises what ``tasks.add`` raises.

        Its tasks are due when the schedule says, whatever countdown their handler declares.
        ``find_queue`` finds queues that are not configured.
        """
        task = replace(new_task(self.spec, find_queue=find_queue), delay=0)
        return ScheduleDefinition(
            name=self.name,
            text=self.schedule.text,
            timezone=self.schedule.timezone,
            task=pack([task]),
            misfire=self.misfire,
            overlap=self.overlap,
            description=self.description,
        )


class DeclaredSchedules:
    """Schedules by name, which may be declared before and after an app is set up."""

    def __init__(self) -> None:
        self._declared: dict[str, DeclaredSchedule] = {}

    def add(self, schedule: DeclaredSchedule) -> None:
        """Declare a schedule.

        The same one may be declared again, as an app factory does. A different one with that name
        raises `InvalidScheduleError`.
        """
        known = self._declared.setdefault(schedule.name, schedule)
        if (known.schedule, known.target) != (schedule.schedule, schedule.target):
            raise InvalidScheduleError(
                f"there are two schedules named {schedule.name!r}: give one another name"
            )
        self._declared[schedule.name] = schedule

    def check(self, queues: Mapping[str, QueueSettings]) -> None:
        """Check that the queues of the schedules declared so far are configured.

        Raises `UnknownQueueError`.
        """
        for schedule in self._declared.values():
            schedule.check(queues)

    def of_app(
        self, new_task: MakeTask, of_the_application: Iterable[DeclaredSchedule] = ()
    ) -> FoundSchedules:
        """Return the schedules of one app: those declared here, and the app's own."""
        own = {schedule.name: schedule for schedule in of_the_application}
        return FoundSchedules(lambda: {**own, **self._declared}, new_task)


class FoundSchedules:
    """The declared schedules of one app, with the tasks that they add there."""

    def __init__(
        self, find_declared: Callable[[], Mapping[str, DeclaredSchedule]], new_task: MakeTask
    ) -> None:
        self._find_declared = find_declared
        self._new_task = new_task
        self._broken: dict[str, str] = {}

    @property
    def broken(self) -> Mapping[str, str]:
        """The schedules that were left out because their task cannot be made, and why."""
        return self._broken

    def __call__(self, known: Collection[str]) -> list[ScheduleDefinition]:
        """Return the definitions of the schedules other than those with the given names.

        A schedule whose task cannot be made is left out, which is logged, until it can be made.
        Raises `TransientError`.
        """
        found: list[ScheduleDefinition] = []
        for name, schedule in self._find_declared().items():
            if name in known:
                continue
            try:
                found.append(schedule.definition(self._new_task))
                self._broken.pop(name, None)
            except TransientError:
                raise
            except TaskQueueError as error:
                if self._broken.get(name) != str(error):
                    _logger.error("schedule %s is left out: %s", name, error)
                self._broken[name] = str(error)
        return found
