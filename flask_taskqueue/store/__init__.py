"""Every SQL statement."""

from __future__ import annotations

from .claims import Claims
from .database import Database
from .dispatchers import Sighting
from .filters import SEARCHED, Filter
from .inserts import Inserts
from .leases import Result
from .notices import Notices
from .rehearsal import Rehearsal
from .schedules import Definition
from .schema import Change, Stamp, statements
from .store import Store
from .tables import Tables
from .tasks import BATCH as CHANGED_AT_ONCE
from .tasks import Action

__all__ = [
    "CHANGED_AT_ONCE",
    "SEARCHED",
    "Action",
    "Change",
    "Claims",
    "Database",
    "Definition",
    "Filter",
    "Inserts",
    "Notices",
    "Rehearsal",
    "Result",
    "Sighting",
    "Stamp",
    "Store",
    "Tables",
    "statements",
]
