"""Every SQL statement."""

from __future__ import annotations

from .charts import RANGES, Minute
from .claims import Claims
from .database import Database, Wait
from .dialects import is_in_memory
from .dialects.inherited import keep, replace_inherited
from .dispatchers import Sighting
from .failures import LATEST as LATEST_FAILURES
from .filters import SEARCHED, Filter
from .inserts import Inserts, in_order
from .listings import Kind, Listing, Place
from .live_counts import CAP, Live
from .newest import OF_STATE, Found
from .notices import Notices
from .readings import Reading
from .refusals import refusal
from .rehearsal import Rehearsal
from .results import LockedError, Recorded, Result
from .schedules import Definition
from .schema import Change, Stamp, statements
from .sealed import Rotated
from .store import Store
from .tables import Tables
from .tally import SLOT
from .tasks import BATCH as CHANGED_AT_ONCE
from .tasks import Action
from .troubles import MOST_DEAD
from .uncommitted import NO_COMMIT, Joined, Uncommitted, follow, forget, of_this_thread
from .vacancies import has_left
from .visible import Visible
from .witness import refuse_elsewhere

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
