"""All scenarios, in the order of the table."""

from __future__ import annotations

from .black_hole import BLACK_HOLE
from .crashed_steps import CRASHED_STEPS
from .full_disk import FULL_DISK
from .killed_dispatchers import KILLED_DISPATCHERS
from .killed_enqueuers import KILLED_ENQUEUERS
from .many_processes import MANY_PROCESSES
from .paused_dispatchers import PAUSED_DISPATCHERS
from .poison_task import POISON_TASK
from .random_operations import RANDOM
from .restarted_server import RESTARTED_SERVER
from .scenario import Scenario
from .stopped_dispatchers import STOPPED_DISPATCHERS
from .wrong_clocks import WRONG_CLOCKS

SCENARIOS: tuple[Scenario, ...] = (
    KILLED_DISPATCHERS,
    KILLED_ENQUEUERS,
    CRASHED_STEPS,
    PAUSED_DISPATCHERS,
    STOPPED_DISPATCHERS,
    POISON_TASK,
    RESTARTED_SERVER,
    BLACK_HOLE,
    WRONG_CLOCKS,
    MANY_PROCESSES,
    FULL_DISK,
    RANDOM,
)
