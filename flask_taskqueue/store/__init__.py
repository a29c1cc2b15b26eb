"""Every SQL statement."""

from __future__ import annotations

from .adding.inserts import Inserts, in_order
from .adding.schedules import Definition
from .counters.charts import RANGES, Minute
from .counters.counters import SLOT
from .counters.failures import LATEST as LATEST_FAILURES
from .counters.failures import MOST_DEAD
from .counters.metrics import Reading
from .database.database import Database, Wait
from .database.dialects import is_in_memory
from .database.dialects.inherited import keep, replace_inherited
from .database.notify import Notices
from .database.refusals import LockedError, refusal
from .database.schema import Change, Stamp, statements
from .database.tables import Tables
from .encryption import Rotated
from .leases.claims import Claims
from .leases.freed_places import has_left
from .leases.results import Recorded, Result
from .probe_row import refuse_elsewhere
from .queues.dispatchers import Sighting
from .store import Store
from .tasks.backlog import CAP, Live
from .tasks.changes import BATCH as CHANGED_AT_ONCE
from .tasks.changes import Action
from .tasks.filters import SEARCHED, Filter
from .tasks.listings import Kind, Listing, Place
from .tasks.search import OF_STATE, Found
from .tasks.visible import Visible
from .testing import Rehearsal
from .uncommitted.uncommitted import NO_COMMIT, Joined, Uncommitted, follow, forget, of_this_thread

__all__ = [
    "CAP",
    "CHANGED_AT_ONCE",
    "LATEST_FAILURES",
    "MOST_DEAD",
    "NO_COMMIT",
    "OF_STATE",
    "RANGES",
    "SEARCHED",
    "SLOT",
    "Action",
    "Change",
    "Claims",
    "Database",
    "Definition",
    "Filter",
    "Found",
    "Inserts",
    "Joined",
    "Kind",
    "Listing",
    "Live",
    "LockedError",
    "Minute",
    "Notices",
    "Place",
    "Reading",
    "Recorded",
    "Rehearsal",
    "Result",
    "Rotated",
    "Sighting",
    "Stamp",
    "Store",
    "Tables",
    "Uncommitted",
    "Visible",
    "Wait",
    "follow",
    "forget",
    "has_left",
    "in_order",
    "is_in_memory",
    "keep",
    "of_this_thread",
    "refusal",
    "refuse_elsewhere",
    "replace_inherited",
    "statements",
]
